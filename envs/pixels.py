"""`dreamer/CartPolePixels-v0`: gymnasium's CartPole, of which only the picture is seen, 64 x 64 pixels.

Speeds are in no single picture: whoever balances the pole must remember the one before.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from typing_extensions import override

from envs.area import AreaResize

ID = "dreamer/CartPolePixels-v0"
IDS = {ID: "envs.pixels:CartPolePixels"}
SIDE = 64  # pixels
SCREEN = (400, 600)  # of gymnasium's drawing
LIMIT = 500  # steps of an episode, as in CartPole-v1


class CartPolePixels(gymnasium.Env):
    """CartPole-v1, observed by its picture. pygame draws it: `pip install 'gymnasium[classic-control]'`."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self._game = CartPoleEnv(render_mode="rgb_array")
        self._resize = AreaResize(SCREEN, (SIDE, SIDE))
        self._steps = 0

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return ["left", "right"]

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._game.np_random = self.np_random
        self._game.reset(options=options)
        self._steps = 0
        return self._picture(), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, _, info = self._game.step(int(action))
        self._steps += 1
        return self._picture(), float(reward), terminated, self._steps >= LIMIT, info

    def get_state(self) -> dict[str, np.ndarray]:
        """The open episode; the random numbers are gymnasium's and saved with them."""
        return {"physics": np.array(self._game.state, np.float64), "steps": np.array(self._steps)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`."""
        self._game.state = np.array(state["physics"], np.float64)
        self._game.steps_beyond_terminated = None
        self._game.np_random = self.np_random
        self._steps = int(state["steps"])

    def _picture(self) -> np.ndarray:
        drawn = self._game.render()
        assert isinstance(drawn, np.ndarray)
        return self._resize(drawn)

    @override
    def close(self) -> None:
        self._game.close()
