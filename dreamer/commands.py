"""What the commands on a trained run share: how RUN, `--env` and `--device` are said, and how a fault is told.

`evaluate`, `report`, `play` and `export` differ in what they do with the run; what is the user's to mend ends each of
them the same way, in one sentence on stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dreamer.train import FAULT, PLATFORMS

INTERRUPTED = 130  # exit code after Ctrl-C
TERMINATED = 143  # after SIGTERM, which schedulers and `kill` send


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def parser_of(program: str, description: str, *, takes_env: bool = True) -> argparse.ArgumentParser:
    """A parser with the arguments that every such command has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("run", type=Path, help="a run's folder, or one that agent.save wrote")
    if takes_env:
        parser.add_argument("--env", help="environment [that of the training, unless it is of the form module:Name]")
    parser.add_argument("--device", choices=["auto", *PLATFORMS], default="auto", help="[%(default)s]")
    return parser


def choose_device(arguments: argparse.Namespace) -> None:
    """Tells JAX, which must not be running yet."""
    if arguments.device != "auto":
        os.environ["JAX_PLATFORMS"] = PLATFORMS[arguments.device]


def carry_out(command: Callable[[], None], *, interrupted: str) -> int:
    """Runs it and returns the exit code; a fault is told in its own sentence, Ctrl-C or SIGTERM by `interrupted`."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        command()
    except faults() as error:
        return tell(str(error))
    except KeyboardInterrupt as interrupt:
        print(interrupted, file=sys.stderr)
        return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def tell(fault: str) -> int:
    """Prints it, and returns the exit code of a fault."""
    print(f"error: {fault}", file=sys.stderr)
    return FAULT


def faults() -> tuple[type[Exception], ...]:
    """Exceptions whose messages are for the user. Imported late: some bring JAX, whose device is chosen before."""
    from dreamer.dream.simulation import SimulationError
    from dreamer.evaluation import EvaluationError
    from dreamer.exchange.minari_store import DatasetError
    from dreamer.presets import ConfigError
    from dreamer.protocols import ProtocolError
    from dreamer.training.checkpoint import CheckpointError
    from dreamer.training.run_folder import RunFolderError
    from envs.environment import EnvironmentFault

    return (
        *(CheckpointError, ConfigError, DatasetError, EnvironmentFault, EvaluationError, OSError, ProtocolError),
        *(RunFolderError, SimulationError),
    )
