"""`python -m dreamer.report runs/x`: is it a world model? One page, one JSON, every number beside its controls.

The environment is forked at moments of the agent's own play, so that it is known what would have happened under other
actions. As with `dreamer.evaluate`, nothing that a file of the run names is executed: an environment of the form
`module:Name` has to be named once more (`--env`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from dreamer.train import FAULT, PLATFORMS

PROGRAM = "python -m dreamer.report"
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Reports on the run that the command line names; returns the exit code."""
    arguments = parse(argv)
    if arguments.device != "auto":
        os.environ["JAX_PLATFORMS"] = PLATFORMS[arguments.device]
    from dreamer.dream.simulation import SimulationError
    from dreamer.evaluation import EvaluationError
    from dreamer.presets import ConfigError
    from dreamer.training.checkpoint import CheckpointError
    from dreamer.training.run_folder import RunFolderError
    from envs.environment import EnvironmentFault

    known = (CheckpointError, ConfigError, EnvironmentFault, EvaluationError, OSError, RunFolderError, SimulationError)
    try:
        run(arguments)
    except known as error:
        print(f"error: {error}", file=sys.stderr)
        return FAULT
    except KeyboardInterrupt:
        print("interrupted: no report was written, one from before is as it was", file=sys.stderr)
        return INTERRUPTED
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Measure a trained world model beside its controls.")
    parser.add_argument("run", type=Path, help="a run's folder, or one that agent.save wrote")
    parser.add_argument("--env", help="environment [that of the training, unless it is of the form module:Name]")
    parser.add_argument("--only", help="properties, separated by commas, such as causal,realtime [all]")
    parser.add_argument("--starts", type=int, default=32, help="start states, units of the intervals [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same numbers, times excepted [%(default)s]")
    parser.add_argument("--out", type=Path, help="folder for report.json and report.html [RUN/report]")
    parser.add_argument("--device", choices=["auto", *PLATFORMS], default="auto", help="[%(default)s]")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Measures, writes both files and says what they say."""
    from rich.console import Console

    from dreamer.agent import load
    from dreamer.dream.report.card import chosen, report, write
    from dreamer.dream.report.history import read_history
    from dreamer.dream.report.page import in_a_sentence
    from dreamer.evaluation import check_spaces, make_environment
    from dreamer.training.run_folder import history_of

    only = arguments.only.split(",") if arguments.only else []
    chosen(only)  # a misspelt name is told before anything is measured
    agent = load(arguments.run, seed=arguments.seed)
    check = make_environment(agent, arguments.env, seed=arguments.seed)
    try:
        check_spaces(agent, check)
    finally:
        check.close()
    console = Console(stderr=True, highlight=False)
    with console.status("loading...") as status:  # on a terminal only; elsewhere there is a line for each property

        def show(name: str, text: str) -> None:
            if not text:
                console.print(f"{name}...")
            status.update(f"{name}: {text}")

        document, measured = report(
            agent,
            lambda seed: make_environment(agent, arguments.env, seed=seed),
            only=only,
            num_starts=arguments.starts,
            seed=arguments.seed,
            on_progress=show,
        )
    history = read_history(history_of(arguments.run))
    paths = write(arguments.out or arguments.run / "report", document, measured, history)
    print(in_a_sentence(measured))
    print("\n".join(str(path) for path in paths))


if __name__ == "__main__":
    sys.exit(main())
