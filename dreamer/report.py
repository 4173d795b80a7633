"""`python -m dreamer.report runs/x`: is it a world model? One page, one JSON, every number beside its controls.

The environment is forked at moments of the agent's own play, so that it is known what would have happened under other
actions; of one that cannot be forked, the report says what needs no forks. As with `dreamer.evaluate`, nothing that a
file of the run names is executed: an environment of the form `module:Name` has to be named once more (`--env`).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer.commands import carry_out, choose_device, parser_of

if TYPE_CHECKING:
    from dreamer.agent import Agent
    from envs.environment import Environment

PROGRAM = "python -m dreamer.report"
PRESSES, HOLD = 40, (0.08, 0.16)  # keys in the browser, and seconds for which they are down and up: 10 s in all
PLAY_SECONDS = 60.0  # after which the browser is given up


def main(argv: list[str] | None = None) -> int:
    """Reports on the run that the command line names; returns the exit code."""
    arguments = parse(argv)
    choose_device(arguments)
    return carry_out(
        lambda: run(arguments), interrupted="interrupted: no report was written, one from before is as it was"
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = parser_of(PROGRAM, "Measure a trained world model beside its controls.")
    parser.add_argument("--only", help="properties, separated by commas, such as causal,realtime [all]")
    parser.add_argument("--starts", type=int, default=32, help="start states, units of the intervals [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same numbers, times excepted [%(default)s]")
    parser.add_argument("--out", type=Path, help="folder for report.json and report.html [RUN/report]")
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

    def make(seed: int) -> Environment:
        return make_environment(agent, arguments.env, seed=seed)

    console = Console(stderr=True, highlight=False)
    with console.status("loading...") as status:  # on a terminal only; elsewhere there is a line for each property

        def show(name: str, text: str) -> None:
            if not text:
                console.print(f"{name}...")
            status.update(f"{name}: {text}")

        document, measured = report(
            agent,
            make,
            only=only,
            num_starts=arguments.starts,
            seed=arguments.seed,
            on_progress=show,
            play=lambda: in_browser(agent, make, seed=arguments.seed, say=partial(console.print, soft_wrap=True)),
        )
    history = read_history(history_of(arguments.run))
    paths = write(arguments.out or arguments.run / "report", document, measured, history)
    print(in_a_sentence(measured))
    for metric, quantities in measured:
        if not quantities:
            print(f"{metric.name}: {metric.needs}")
    print("\n".join(str(path) for path in paths))


def in_browser(
    agent: Agent, make: Callable[[int], Environment], *, seed: int, say: Callable[[str], object]
) -> list[float]:
    """Milliseconds from keys in a browser to the frames that answer them; one line where there are none.

    Raises:
        NotPlayedError: it cannot be measured here.
    """
    from dreamer.dream.report.bench import NotPlayedError
    from dreamer.dream.simulation import SimulationError
    from envs.environment import EnvironmentFault

    try:
        if importlib.util.find_spec("aiohttp") is None:
            raise NotPlayedError("the player needs aiohttp: pip install 'dreamer-jax[play]'")
        from dreamer.play.browser import BrowserError
        from dreamer.play.measure import in_browser

        try:
            return in_browser(agent, make, presses=PRESSES, hold=HOLD, limit=PLAY_SECONDS, seed=seed).key_delays
        except TimeoutError as error:
            raise NotPlayedError(f"the browser was given up after {PLAY_SECONDS:g} s; is the machine busy?") from error
        except (BrowserError, EnvironmentFault, OSError, SimulationError) as error:
            raise NotPlayedError(str(error)) from error
    except NotPlayedError as error:
        say(f"no latency in the browser: {error}")
        raise


if __name__ == "__main__":
    sys.exit(main())
