"""`python -m dreamer.export RUN --hub FOLDER`: what others can read, from a run; see `dreamer.exchange` for the forms.

RUN is only read. Nothing that exists is written over, and what is written is whole or not there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dreamer.commands import carry_out, choose_device, parser_of

PROGRAM = "python -m dreamer.export"


def main(argv: list[str] | None = None) -> int:
    """Writes what the command line names; returns the exit code."""
    arguments = parse(argv)
    choose_device(arguments)
    return carry_out(lambda: export(arguments), interrupted="stopped: what was not whole is removed")


def export(arguments: argparse.Namespace) -> None:
    """Writes every form that is asked for."""
    for form, write in FORMS.items():
        if getattr(arguments, form) is not None:
            write(arguments.run, getattr(arguments, form))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = parser_of(PROGRAM, "Write what others can read, from a run.", takes_env=False)
    parser.add_argument("--policy", type=Path, metavar="FOLDER", help="the policy alone, for dreamer.load")
    parser.add_argument("--hub", type=Path, metavar="FOLDER", help="the same as on Hugging Face (extra hub)")
    parser.add_argument(
        "--stablehlo", type=Path, metavar="FILE", help="a program that runs without dreamer (extra stablehlo)"
    )
    parser.add_argument("--minari", metavar="NAME", help="the run's replay as a dataset (extra minari)")
    arguments = parser.parse_args(argv)
    if all(getattr(arguments, form) is None for form in FORMS):
        parser.error(f"name what to write: {', '.join(f'--{form}' for form in FORMS)}")
    return arguments


def export_policy(run: Path, folder: Path) -> None:
    """Writes the policy alone."""
    from dreamer.agent import load

    _say("policy", load(run).save(folder, policy_alone=True))


def export_hub(run: Path, folder: Path) -> None:
    """Writes the policy as a Hugging Face repository holds it."""
    from dreamer.agent import load
    from dreamer.exchange.hub import require_safetensors
    from dreamer.exchange.publish import write_hub

    require_safetensors()
    _say("hub", write_hub(load(run), folder))


def export_stablehlo(run: Path, path: Path) -> None:
    """Writes the policy as a program."""
    from dreamer.agent import load
    from dreamer.exchange.stablehlo import require_flatbuffers, write_stablehlo

    require_flatbuffers()
    _say("stablehlo", write_stablehlo(load(run), path))


def _say(form: str, path: Path) -> None:
    from dreamer.plan import format_bytes

    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    print(f"{form}: {path}, {format_bytes(sum(file.stat().st_size for file in files))}")


def export_minari(run: Path, name: str) -> None:
    """Writes the run's replay as a dataset."""
    from dreamer.data.trajectories import Tally
    from dreamer.exchange.minari_store import require_free, write_dataset
    from dreamer.exchange.run_replay import open_replay

    require_free(name)
    replay, tally = open_replay(run), Tally()
    path = write_dataset(
        name,
        replay.episodes(tally),
        observation_space=replay.observation_codec.decoded_space,
        action_space=replay.interface.action_space,
        env=replay.interface.env,
        description=f"What a DreamerV3 agent experienced while it learned {replay.interface.env}.",
    )
    print(f"minari: {name} in {path}: {tally}")
    print(f"learn from it: python -m dreamer.train --offline {name} --env {replay.interface.env} --steps 20000")


FORMS = {"policy": export_policy, "hub": export_hub, "stablehlo": export_stablehlo, "minari": export_minari}


if __name__ == "__main__":
    sys.exit(main())
