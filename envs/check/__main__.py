"""`python -m envs.check ENV`: the command line."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time

from envs.check.catalogue import CHECKS
from envs.check.report import as_json, passed, table
from envs.check.watchdog import Order, watch

INTERRUPTED = 130
QUIET_SECONDS = 10.0  # between lines of progress where there is no terminal


def main(argv: list[str] | None = None) -> int:
    """Check one environment; returns 0 without a FAIL, 1 with one. A bad command line exits with 2."""
    arguments = parse(argv)
    order = Order(arguments.env, arguments.seed, arguments.seconds, arguments.steps, arguments.action_bound)
    progress, findings = Progress(), []
    try:
        findings += watch(order, progress=progress)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        progress.clear()
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    print(as_json(order.name, order.seed, findings) if arguments.json else table(findings, width=width))
    return 0 if passed(findings) else 1


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m envs.check",
        description="Check an environment: contract, seeding, ends of episodes, effects of actions, forks, cost.",
        epilog="exit code: 0 no FAIL, 1 at least one, 2 bad command line",
        allow_abbrev=False,
    )
    parser.add_argument("env", help="as in --env: atari100k_pong, CartPole-v1, my_package:MyEnv-v0, my_package:MyEnv")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="budget; slow environments deserve more (%(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of environments and actions (%(default)s)")
    parser.add_argument("--steps", type=count, default=1_000_000, help="agent steps of the planned run (%(default)s)")
    parser.add_argument("--action-bound", type=float, help="range of an unbounded Box action")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.seconds < math.inf:
        parser.error("--seconds must be at least 1")
    if arguments.seed < 0:
        parser.error("--seed must not be negative")
    if arguments.steps < 1:
        parser.error("--steps must be at least 1")
    if arguments.action_bound is not None and not 0 < arguments.action_bound < math.inf:
        parser.error("--action-bound must be positive")
    return arguments


def count(text: str) -> int:
    """`1000000` or `1e6`."""
    return int(float(text))


class Progress:
    """One live line on a terminal, a line now and then elsewhere; on stderr."""

    def __init__(self) -> None:
        self._started = self._spoke = time.monotonic()
        self._is_live = sys.stderr.isatty()

    def __call__(self, name: str) -> None:
        """Tell which check is running."""
        now = time.monotonic()
        line = f"check {list(CHECKS).index(name) + 1} of {len(CHECKS)}: {name}, {now - self._started:.0f} s"
        if self._is_live:
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
        elif now - self._spoke > QUIET_SECONDS:
            self._spoke = now
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Wipe the live line."""
        if self._is_live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
