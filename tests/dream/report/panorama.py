"""A place to turn round in, with the six actions of Memory Maze: its views are columns of a picture that closes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.memory_maze import ACTIONS

ID = "tests.dream.report.panorama:Panorama"
TURN, CIRCLE, SIDE, SQUARE = 16, 320, 64, 4  # columns of a turn, of the whole picture, of a view, of a square


class Panorama(gymnasium.Env):
    """Another picture in each episode, of squares a few pixels wide, so that no two views are alike."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Discrete(len(ACTIONS))

    def __init__(self) -> None:
        self._picture, self._heading = np.zeros((SIDE, CIRCLE, 3), np.uint8), 0

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        squares = self.np_random.integers(256, size=(SIDE // SQUARE, CIRCLE // SQUARE, 3), dtype=np.uint8)
        self._picture, self._heading = squares.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1), 0
        return self._view(), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._heading += {"left": -TURN, "right": TURN}.get(ACTIONS[int(action)], 0)
        return self._view(), 0.0, False, False, {}

    def get_state(self) -> dict[str, np.ndarray]:
        return {"picture": self._picture.copy(), "heading": np.array(self._heading)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._picture, self._heading = state["picture"], int(state["heading"])

    def _view(self) -> np.ndarray:
        return np.roll(self._picture, -self._heading, axis=1)[:, :SIDE].copy()
