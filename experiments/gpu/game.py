"""How long a whole Atari-100k game takes, extrapolated from a slice of real training: `python -m experiments.gpu.game`.

The slice is `python -m dreamer.train` itself, with its environment, logs and videos, ended by SIGTERM. Measured: the
seconds until the first update has been logged, the agent steps a second after that, and the saving at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments import logged

GAME_STEPS = 100_000  # agent steps of 400,000 frames
SAVED = 128 + signal.SIGTERM  # exit code of a run that was told to stop and saved
GLANCE = 0.1


def main() -> int:
    """Trains for a while and writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.game", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file of the figures")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the slice, from the first update on")
    parser.add_argument("--miniature", action="store_true", help="the networks of the preset debug")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = train_for(arguments.seconds, run=Path(folder) / "run", miniature=arguments.miniature)
    arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


def train_for(seconds: float, *, run: Path, miniature: bool) -> dict[str, Any]:
    """Trains for so many seconds after the first update.

    Raises:
        RuntimeError: the trainer ended otherwise than it was told to; its last words are printed above.
    """
    size = ["--preset", "debug"] if miniature else ["--size", "12m"]
    command = [sys.executable, "-m", "dreamer.train", "--env", "atari100k_pong", *size, "--logdir", str(run)]
    started = time.monotonic()
    trainer = subprocess.Popen([*command, "--log.every-seconds", "1"])
    try:
        first = first_update(run / "metrics.jsonl", trainer)
        start_seconds = time.monotonic() - started
        ended = _wait(trainer, seconds)
        if not ended:
            trainer.send_signal(signal.SIGTERM)
        told = time.monotonic()
        code = trainer.wait()
        saving_seconds = time.monotonic() - told
    finally:
        trainer.kill()
        trainer.wait()
    if code not in (0, SAVED):
        raise RuntimeError(f"the trainer ended with exit code {code}")
    return extrapolate(
        first, logged.rows(run / "metrics.jsonl")[-1], start_seconds=start_seconds, saving_seconds=saving_seconds
    )


def first_update(path: Path, trainer: subprocess.Popen) -> dict[str, Any]:
    """The first row with an update, as soon as it is there.

    Raises:
        RuntimeError: the trainer ended before it.
    """
    while True:
        found = [row for row in logged.rows(path) if row["updates"]]
        if found:
            return found[0]
        if _wait(trainer, GLANCE):
            raise RuntimeError(f"the trainer ended with exit code {trainer.returncode} before its first update")


def extrapolate(
    first: dict[str, Any], last: dict[str, Any], *, start_seconds: float, saving_seconds: float
) -> dict[str, Any]:
    """The whole game from two rows of `metrics.jsonl`.

    Raises:
        RuntimeError: there are no two different rows with updates.
    """
    steps, seconds = last["agent_steps"] - first["agent_steps"], last["seconds"] - first["seconds"]
    if steps <= 0 or seconds <= 0:
        raise RuntimeError("the slice is too short: its log has one row with updates; raise --seconds")
    rate = steps / seconds
    return {
        "agent_steps_per_second": rate,
        "updates_per_second": (last["updates"] - first["updates"]) / seconds,
        "measured_agent_steps": steps,
        "measured_seconds": seconds,
        "start_seconds": start_seconds,
        "saving_seconds": saving_seconds,
        "extrapolated_seconds": start_seconds + (GAME_STEPS - first["agent_steps"]) / rate + saving_seconds,
    }


def _wait(trainer: subprocess.Popen, seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    try:
        trainer.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
