"""Simulators in worker processes that import neither JAX nor the program that started them."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from typing_extensions import override

from envs.environment import EnvironmentFault, EnvSettings, Simulator
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, action_width
from envs.vector import VectorEnvironment

HOME = str(Path(__file__).resolve().parent.parent)  # the folder that holds our `envs` package


class Description(NamedTuple):
    """What the parent process needs to know of a worker's simulator."""

    native_observation_space: spaces.Space
    native_action_space: spaces.Space
    action_spec: ActionSpec
    action_repeat: int
    action_names: list[str] | None
    protocol: dict[str, Any]


class SpawnEnvironment(VectorEnvironment):
    """`N` simulators, each in a process of its own, observations in shared memory. Cannot fork."""

    def __init__(self, factories: Sequence[Callable[[], Simulator]]) -> None:
        workers = [Worker(factory, parent=os.getpid()) for factory in factories]
        try:
            with _clean_start():
                env = AsyncVectorEnv(
                    workers, context="spawn", shared_memory=True, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP
                )
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise EnvironmentFault(
                f"the environment cannot be sent to a worker process ({error}); use --environment.workers none"
            ) from error
        description: Description = env.call("describe")[0]
        protocol = description.protocol | {"workers": "spawn"}
        super().__init__(env, seed=[0] * len(factories), settings=EnvSettings(), protocol=protocol)
        self.native_observation_space = description.native_observation_space
        self.native_action_space = description.native_action_space
        self.action_spec = description.action_spec
        self.action_repeat = description.action_repeat
        self.action_names = description.action_names

    @override
    def _decode(self, action: np.ndarray) -> np.ndarray:
        return action  # the workers decode it


class Worker:
    """Makes the simulator of one worker process."""

    def __init__(self, factory: Callable[[], Simulator], *, parent: int) -> None:
        self.factory = factory
        self.parent = parent

    def __call__(self) -> gymnasium.Env:
        """Make it, in the worker; the parent makes one as well, to see its spaces."""
        if os.getpid() != self.parent:
            sys.path.remove(HOME)  # `_clean_start` put it there; our package is imported by now
        return SimulatorEnv(self.factory())


@contextlib.contextmanager
def _clean_start() -> Iterator[None]:
    """Start processes that find our `envs` package first and do not import the main module again.

    Importing it again is what spawned processes do to find the functions of a script; ours arrive by value
    (cloudpickle). So a script needs no `if __name__ == "__main__"` guard, and its `import jax` does not reach them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.path.insert(0, HOME)  # a user's own folder `envs` in the working directory must not hide ours
    try:
        yield
    finally:
        sys.path.remove(HOME)
        sys.modules["__main__"] = main


class SimulatorEnv(gymnasium.Env):
    """A simulator as a gymnasium environment with a flat action vector."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own declaration)
    render_mode = "rgb_array"

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.observation_space = observation_space(simulator.observation_spec)
        self.action_space = spaces.Box(-1.0, 1.0, (action_width(simulator.action_spec),))

    def describe(self) -> Description:
        """What the parent process needs to know."""
        simulator = self._simulator
        return Description(
            simulator.native_observation_space,
            simulator.native_action_space,
            simulator.action_spec,
            simulator.action_repeat,
            simulator.action_names,
            simulator.protocol,
        )

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._simulator.reset(), {}  # the simulator has its seed from the factory

    @override
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated = self._simulator.step(action)
        return observation, reward, terminated, truncated, {}

    @override
    def render(self) -> Any:
        return self._simulator.render()

    @override
    def close(self) -> None:
        self._simulator.close()


def observation_space(spec: ObservationSpec) -> spaces.Dict:
    """The gymnasium space of observations that are already encoded."""
    return spaces.Dict({key: _leaf_space(part) for key, part in spec.items()})


def _leaf_space(part: ImageSpec | VectorSpec | DiscreteSpec) -> spaces.Space:
    if isinstance(part, ImageSpec):
        return spaces.Box(0, 255, part, np.uint8)
    if isinstance(part, VectorSpec):
        return spaces.Box(-np.inf, np.inf, (part.size,), np.float32)
    return spaces.MultiDiscrete(list(part.num_classes), dtype=np.int32)
