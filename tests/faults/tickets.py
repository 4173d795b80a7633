"""An environment that fails on order. Alone here, so that worker processes import nothing but this."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

FAILS_AT = 3


class Flaky(gymnasium.Env):
    """Observes its step and its process; fails at step 3 as long as there are tickets in a folder, one each time."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)
    tickets, kind = Path(), "raise"

    def __init__(self, tickets: str = "", kind: str = ""):
        self.tickets = Path(tickets or os.environ["FLAKY_TICKETS"])
        self.kind = kind or os.environ["FLAKY_KIND"]

    def reset(self, *, seed=None, options=None):
        self.time = 0
        if self.kind == "reset" and self.take():
            raise RuntimeError("no level to load")
        return np.array([0.0, os.getpid()]), {}

    def step(self, action):
        self.time += 1
        if self.time == FAILS_AT and self.kind in ("raise", "kill", "crash", "hang", "reset") and self.take():
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "crash":
                ctypes.string_at(0)  # reads where no memory is
            if self.kind == "hang":
                time.sleep(600)
            raise RuntimeError("the physics engine exploded")
        reward = np.nan if self.kind == "nan" and self.time == FAILS_AT else 1.0
        return np.array([float(self.time), os.getpid()]), reward, False, self.time == 10, {}

    def take(self) -> bool:
        for ticket in self.tickets.iterdir():
            try:
                ticket.unlink()
            except FileNotFoundError:  # the other environment was faster
                continue
            return True
        return False
