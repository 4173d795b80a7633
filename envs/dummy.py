"""One environment with every kind of space, for tests of everything that comes after it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

IDS = {"dreamer/Dummy-v0": "envs.dummy:DummyEnv"}
EPISODE_STEPS = 20


class DummyEnv(gymnasium.Env):
    """Counts its steps in every observation and rewards the discrete action that equals the count modulo 4."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(self, *, episode_steps: int = EPISODE_STEPS, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._episode_steps = episode_steps
        self._count = 0
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (64, 64, 3), np.uint8),
                "wide": spaces.Box(0, 255, (48, 80), np.uint8),
                "channel_first": spaces.Box(0.0, 1.0, (3, 32, 32), np.float32),
                "vector": spaces.Box(-np.inf, np.inf, (7,), np.float32),
                "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
                "token": spaces.Discrete(8, start=2),
                "tokens": spaces.MultiDiscrete([4, 6]),
                "bits": spaces.MultiBinary(3),
                "nested": spaces.Dict({"scalar": spaces.Box(-1.0, 1.0, (), np.float32), "step": spaces.Discrete(64)}),
            }
        )
        self.action_space = spaces.Dict(
            {
                "choice": spaces.Discrete(4),
                "choices": spaces.MultiDiscrete([2, 3]),
                "switches": spaces.MultiBinary(2),
                "arm": spaces.Dict(
                    {"torque": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32))}
                ),
            }
        )

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._count = 0
        return self._observation(), {}

    @override
    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"{action} is not in the action space")
        reward = float(action["choice"] == self._count % 4)
        self._count += 1
        return self._observation(), reward, self._count >= self._episode_steps, False, {}

    def _observation(self) -> dict[str, Any]:
        count = self._count
        return {
            "image": np.full((64, 64, 3), 10 * count % 256, np.uint8),
            "wide": np.full((48, 80), count, np.uint8),
            "channel_first": np.full((3, 32, 32), count / 255, np.float32),
            "vector": self.np_random.normal(count, 1.0, 7).astype(np.float32),
            "matrix": np.full((2, 3), count / 64),
            "token": np.int64(2 + count % 8),
            "tokens": np.array([count % 4, count % 6]),
            "bits": np.array([count & 1, count >> 1 & 1, count >> 2 & 1], np.int8),
            "nested": {"scalar": np.float32(count / 64), "step": np.int64(count % 64)},
        }

    def get_state(self) -> dict[str, np.ndarray]:
        """The count; the random numbers are gymnasium's and saved with them."""
        return {"count": np.array(self._count)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`."""
        self._count = int(state["count"])

    @override
    def render(self) -> Any:
        return np.full((64, 64, 3), 10 * self._count % 256, np.uint8)
