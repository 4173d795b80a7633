"""`dreamer/MemoryMaze-9x9-v0` and larger ones: mazes whose coloured balls are to be found again and again.

Source: Pasukonis et al., 2022 (arXiv:2210.13383), package `memory-maze`: six actions, 64 x 64 pixels whose border has
the colour of the ball to go to, a reward of 1 there, a thousand steps at four a second in the smallest. Each episode is
made anew from a seed of its own, so that one that is open can be saved and forked.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.arrays import load_random_state, random_state_array
from envs.environment import EnvironmentFault
from envs.rendering import choose_backend

IDS = {
    "dreamer/MemoryMaze-9x9-v0": "envs.memory_maze:MemoryMaze9",
    "dreamer/MemoryMaze-11x11-v0": "envs.memory_maze:MemoryMaze11",
    "dreamer/MemoryMaze-13x13-v0": "envs.memory_maze:MemoryMaze13",
    "dreamer/MemoryMaze-15x15-v0": "envs.memory_maze:MemoryMaze15",
}
ACTIONS = ("stay", "forward", "left", "right", "forward left", "forward right")
SIDE = 64  # pixels
NONE = -1  # seed where no episode is open


class MemoryMaze9(gymnasium.Env):
    """The smallest maze, with three balls."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Discrete(len(ACTIONS))
    metadata = {"render_modes": [], "render_fps": 4}  # noqa: RUF012, gymnasium's own form
    size = 9

    def __init__(self) -> None:
        choose_backend(must_render=True)  # before dm_control, which the package brings along
        self._make, self._mujoco = _import_task(self.size)
        self._env: Any = None
        self._seed = NONE

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._begin(int(self.np_random.integers(2**31))), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        step = self._env.step(int(action))
        is_terminal = step.last() and step.discount == 0.0
        return step.observation, float(step.reward), is_terminal, step.last() and not is_terminal, {}

    def get_state(self) -> dict[str, np.ndarray]:
        """The open episode: the seed of its maze, and what has happened in it."""
        task, model, data = self._env.task, self._env.physics.model.ptr, self._env.physics.data.ptr
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION  # as in envs.dmc
        physics = np.empty(self._mujoco.mj_stateSize(model, kind))
        self._mujoco.mj_getState(model, data, physics, kind)
        return {
            "seed": np.array(self._seed),
            "physics": physics,
            "sensors": np.array(data.sensordata),
            "random": random_state_array(self._env.random_state),
            "target": np.array(task._current_target_ix),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`; another maze takes as long as a reset."""
        if int(state["seed"]) != self._seed:
            self._begin(int(state["seed"]))
        model, data = self._env.physics.model.ptr, self._env.physics.data.ptr
        self._mujoco.mj_setState(model, data, np.array(state["physics"]), self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._mujoco.mj_step1(model, data)
        data.sensordata[:] = state["sensors"]
        load_random_state(self._env.random_state, state["random"])
        self._env.task._current_target_ix = int(state["target"])

    @override
    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env, self._seed = None, NONE

    def _begin(self, seed: int) -> np.ndarray:
        self.close()
        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns of a walker without a free joint, which the package chose
        try:
            self._seed, self._env = seed, self._make(seed=seed, image_only_obs=True)
            return self._env.reset().observation
        finally:
            logger.setLevel(level)


class MemoryMaze11(MemoryMaze9):
    """Four balls."""

    size = 11


class MemoryMaze13(MemoryMaze9):
    """Five balls."""

    size = 13


class MemoryMaze15(MemoryMaze9):
    """Six balls."""

    size = 15


def _import_task(size: int) -> tuple[Any, Any]:
    """What makes a maze of a size, and mujoco.

    Raises:
        EnvironmentFault: the package is not installed.
    """
    try:
        import mujoco

        tasks = importlib.import_module("memory_maze.tasks")
    except ModuleNotFoundError as error:
        raise EnvironmentFault(f"{error}: pip install 'dreamer-jax[memory-maze]', on Python 3.11 or 3.12") from error
    return getattr(tasks, f"memory_maze_{size}x{size}"), mujoco
