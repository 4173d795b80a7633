"""The fault-injection kit's environment: CartPole that crashes, dies, hangs and returns NaN, each by a probability.

`--env tests.faults.flaky:FlakyCartPole`; the probabilities come from the variables below, so that workers have them.
Faults are drawn from the system's entropy: an environment made again in the place of a broken one fails elsewhere.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np

CRASH, KILL, HANG, NAN = "FLAKY_CRASH", "FLAKY_KILL", "FLAKY_HANG", "FLAKY_NAN"  # probabilities a step
LOG = "FLAKY_LOG"  # file that gets a line for each fault
HANG_SECONDS = 3600.0


class Flaky(gymnasium.Wrapper):
    """Injects at most one fault a step, before the step is made."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._random = np.random.default_rng()
        self._chances = {name: float(os.environ.get(name, 0)) for name in (CRASH, KILL, HANG, NAN)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        fault = self._draw()
        if fault is not None and (path := os.environ.get(LOG)):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{time.time():.1f},{fault.removeprefix('FLAKY_').lower()}\n")
        if fault == CRASH:
            raise RuntimeError("an injected crash")
        if fault == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == HANG:
            time.sleep(HANG_SECONDS)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if fault == NAN:
            observation, reward = (
                (observation * np.nan, reward) if self._random.random() < 0.5 else (observation, np.nan)
            )
        return observation, reward, terminated, truncated, info

    def _draw(self) -> str | None:
        draw, edge = self._random.random(), 0.0
        for name, chance in self._chances.items():
            edge += chance
            if draw < edge:
                return name
        return None


class FlakyCartPole(Flaky):
    """CartPole-v1 with its time limit."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
