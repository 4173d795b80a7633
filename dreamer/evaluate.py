"""`python -m dreamer.evaluate runs/x --episodes 20 --video out.mp4`: how good a trained agent is, in complete episodes.

Actions and latents are sampled, as DreamerV3's scores are; `--deterministic` takes their modes. `--protocol atari100k`
plays what a published protocol asks for, and adds the number that training itself gives. The environment is the run's
own, alone and without worker processes; its seeds are none that training used. Nothing that a file of the run names is
executed: an environment of the form `module:Name` has to be named once more (`--env`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer.commands import carry_out, choose_device, parser_of
from dreamer.evaluation import VIDEO_SECONDS, evaluate, prepare_video
from dreamer.protocols import PROTOCOLS, find_protocol

if TYPE_CHECKING:
    from dreamer.training.collect import Episode

PROGRAM = "python -m dreamer.evaluate"
EPISODES = 20  # without a protocol


def main(argv: list[str] | None = None) -> int:
    """Evaluates the run that the command line names; returns the exit code."""
    arguments = parse(argv)
    choose_device(arguments)
    return carry_out(
        lambda: run(arguments), interrupted="interrupted: no results were written, earlier ones are as they were"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = parser_of(PROGRAM, "Play complete episodes with a trained agent.")
    parser.add_argument("--protocol", help=f"a published one ({', '.join(PROTOCOLS)}); decides on episodes and actions")
    parser.add_argument("--episodes", type=int, help=f"how many [{EPISODES}]")
    parser.add_argument("--video", type=Path, help=f"record the first {VIDEO_SECONDS:g} s of play to a .mp4 or .gif")
    parser.add_argument("--deterministic", action="store_true", help="take the modes of actions instead of samples")
    parser.add_argument("--seed", type=int, default=1, help="of environment and agent [%(default)s]")
    arguments = parser.parse_args(argv)
    if arguments.protocol and (arguments.episodes is not None or arguments.deterministic):
        parser.error(f"--protocol {arguments.protocol} decides on --episodes and --deterministic: leave them out")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Evaluates, prints, and writes `RUN/evaluation/results.json`; earlier results keep a number."""
    protocol = find_protocol(arguments.protocol) if arguments.protocol else None
    episodes = protocol.episodes if protocol else EPISODES if arguments.episodes is None else arguments.episodes
    prepare_video(arguments.video)
    from rich.console import Console

    from dreamer.agent import load

    agent = load(arguments.run, seed=arguments.seed)
    console = Console(stderr=True, highlight=False)
    with console.status("compiling...") as status:  # on a terminal only; elsewhere there is a line for each episode

        def report(played: list[Episode], current: Episode) -> None:
            is_complete = bool(played) and current is played[-1]
            number = f"episode {len(played) + (not is_complete)}/{episodes}"
            text = f"{number}: score {current.score:,.1f}, length {current.length:,}"
            if is_complete:
                console.print(text)
            elif current.length % 20 == 1:
                status.update(text)

        evaluation = evaluate(
            agent,
            arguments.env,
            episodes=episodes,
            deterministic=arguments.deterministic,
            seed=arguments.seed,
            protocol=protocol,
            video=arguments.video,
            report=report,
        )
    print(evaluation.summary())
    results = arguments.run / "evaluation" / "results.json"
    earlier = evaluation.write(results)
    kept = f" (the earlier ones are in {earlier})" if earlier else ""
    print(f"results: {results}{kept}" + (f"\nvideo: {arguments.video}" if arguments.video else ""))


if __name__ == "__main__":
    sys.exit(main())
