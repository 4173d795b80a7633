"""An environment with every kind of space, whose episodes have five steps."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Everything(gymnasium.Env):
    """Its observations are noise."""

    observation_space = spaces.Dict(
        eye=spaces.Box(0, 255, (16, 16, 3), np.uint8),
        arm=spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
        key=spaces.Discrete(4, start=2),
    )
    action_space = spaces.Dict(
        grip=spaces.MultiDiscrete([2, 3]),
        move=spaces.Box(-2.0, 4.0, (2,), np.float32),
        press=spaces.Discrete(3, start=1),
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        return self._observe(), 1.0, self.steps == 5, False, {}

    def _observe(self):
        noise = self.np_random.normal(size=(2, 2)).astype(np.float32)
        return {**self.observation_space.sample(), "arm": noise}
