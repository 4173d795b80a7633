"""An environment whose observations are numbers, so that a replay tells what was lost: nothing, or where.

Alone here, so that the processes of collectors import nothing but this.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

FOLDER = "NUMBERED_FOLDER"  # gets a file for each environment ever made, with its process; holds the tickets
FAILS_AT = 40  # call of an environment in which it takes a ticket, if there is one, and does what is written there
EPISODE = 25


class Numbered(gymnasium.Env):
    """Observes which environment of all it is, and how often it was called, resets included: 1, 2, 3, ..."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self._folder, self._life, self._calls = Path(os.environ[FOLDER]), 0, 0
        while True:
            try:
                with (self._folder / f"life-{self._life}").open("x") as file:
                    file.write(f"{os.getpid()} {os.environ.get('JAX_PLATFORMS')}")
                    return
            except FileExistsError:
                self._life += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._time = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._time += 1
        return self._observe(), 1.0, False, self._time == EPISODE, {}

    def _observe(self) -> np.ndarray:
        self._calls += 1
        if self._calls == FAILS_AT:
            self._fail()
        return np.array([self._life, self._calls, 0, 0], np.float32)

    def _fail(self) -> None:
        for ticket in self._folder.glob("ticket-*"):
            signals = ticket.read_text()
            try:
                ticket.unlink()
            except FileNotFoundError:  # another environment was faster
                continue
            os.kill(os.getpid(), signal.Signals[signals])
            return
