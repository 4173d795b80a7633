"""The interface of every environment, and of the single simulators it is built from.

Axes: `N` environments, `A` width of the flat action vector (`envs.spaces.action_width`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.spaces import ActionSpec, ImageSpec, ObservationSpec, Timestep

State = dict[str, np.ndarray]
"""A complete state as named arrays, storable without pickle."""


class EnvironmentFault(ValueError):  # noqa: N818 (`EnvironmentError` is Python's old name for OSError)
    """The environment or its description is at fault; the message names the thing and the remedy."""


class NonFinite(EnvironmentFault):
    """A reward or an observation is NaN or infinite."""


class SimulatorCrash(EnvironmentFault):
    """A simulator in a worker process raised, died or hung; another one in its place may do better."""


@dataclass(frozen=True)
class EnvSettings:
    """How an environment is made; `None` leaves the suite's own value. `dreamer.config.EnvConfig` fits as well."""

    num_envs: int = 1
    action_repeat: int | None = None  # None: the suite's protocol (Atari 4, DMC 2, anything else 1)
    image_size: tuple[int, int] | None = None  # height, width
    image_layout: Literal["auto", "channels_last", "channels_first"] = "auto"  # where a guess would be wrong
    max_episode_steps: int | None = None  # agent steps
    action_bound: float | None = None  # range of an unbounded Box action
    sticky: float | None = None  # Atari: probability of repeating the last action
    noops: int | None = None  # Atari: largest number of no-op actions after a reset
    full_actions: bool | None = None  # Atari: all 18 actions
    grayscale: bool | None = None  # Atari
    life_loss: bool | None = None  # Atari: losing a life ends the episode
    camera: int | None = None  # DMC vision
    workers: Literal["auto", "none", "spawn"] = "auto"
    step_timeout: float = 120.0  # seconds until a worker process counts as hung
    max_restarts: int = 3  # failures of one environment within ten minutes that do not end the run
    nonfinite: Literal["stop", "drop_episode", "zero"] = "stop"  # at a NaN or an infinity in reward or observation


class Transition(NamedTuple):
    """One step of one simulator; a time limit is `truncated`, not `terminated`."""

    observation: dict[str, np.ndarray]
    reward: float
    terminated: bool
    truncated: bool


class Simulator(ABC):
    """One environment, without autoreset: what suites implement and `LoopEnvironment` drives.

    Attributes:
        native_observation_space: of the observations as a user's code has them, before any codec.
        native_action_space: of the actions as a user's code has them.
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.
        action_repeat: frames per agent step.
        frame_rate: frames per second of real time.
        action_names: names of the discrete actions, where the suite has them.
        protocol: every value that defines the task, for the start-up plan.
        can_fork: whether `get_state` and `set_state` work.
    """

    native_observation_space: spaces.Space
    native_action_space: spaces.Space
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    action_repeat: int = 1
    frame_rate: float = 30.0
    action_names: list[str] | None = None
    protocol: dict[str, Any]
    can_fork: bool = False

    def wait_until_ready(self) -> None:  # noqa: B027 (most have nothing to wait for)
        """Wait until the attributes are there and it can be reset; worker processes need a moment."""

    def begin(self, action: np.ndarray | None) -> None:  # noqa: B027 (a hint, which most ignore)
        """Announce the `step` that comes next, or a `reset` by None. Worker processes start at once."""

    def wait(self, seconds: float) -> bool:
        """Wait for what `begin` started; False if it needs longer than that. Without workers there is no waiting."""
        return True

    @abstractmethod
    def reset(self) -> dict[str, np.ndarray]:
        """Start an episode; return its first observation, arrays owned by the caller."""

    @abstractmethod
    def step(self, action: np.ndarray) -> Transition:
        """Act for one agent step with a flat action `[A]`."""

    def get_state(self) -> State:
        """Everything the future depends on: simulator, random numbers and counters.

        Raises:
            EnvironmentFault: where `can_fork` is False.
        """
        raise EnvironmentFault(f"{type(self).__name__} cannot save its state: check `can_fork` first")

    def set_state(self, state: State) -> None:
        """Continue from `get_state`, in this or in another instance made alike, bit by bit."""
        raise EnvironmentFault(f"{type(self).__name__} cannot restore a state: check `can_fork` first")

    def fork_state(self) -> Any:
        """A snapshot for this process only; a deep copy where there is no `get_state`."""
        return self.get_state()

    def load_fork(self, fork: Any) -> None:
        """Return to a snapshot of `fork_state`, which stays usable."""
        self.set_state(fork)

    @abstractmethod
    def render(self) -> np.ndarray:
        """The current frame for a video, uint8 `[height, width, 3]`."""

    @abstractmethod
    def close(self) -> None:
        """Free the simulator."""


class TimeLimit(Simulator):
    """Truncates the episodes of another simulator after a number of agent steps."""

    def __init__(self, simulator: Simulator, *, max_episode_steps: int) -> None:
        self._simulator = simulator
        self._limit = max_episode_steps
        self._elapsed = 0
        self.native_observation_space = simulator.native_observation_space
        self.native_action_space = simulator.native_action_space
        self.observation_spec = simulator.observation_spec
        self.action_spec = simulator.action_spec
        self.action_repeat = simulator.action_repeat
        self.frame_rate = simulator.frame_rate
        self.action_names = simulator.action_names
        self.can_fork = simulator.can_fork
        self.protocol = simulator.protocol | {"max_episode_steps": max_episode_steps}

    @override
    def reset(self) -> dict[str, np.ndarray]:
        self._elapsed = 0
        return self._simulator.reset()

    @override
    def step(self, action: np.ndarray) -> Transition:
        self._elapsed += 1
        transition = self._simulator.step(action)
        return transition._replace(truncated=transition.truncated or self._elapsed >= self._limit)

    @override
    def get_state(self) -> State:
        return self._simulator.get_state() | {"time_limit_elapsed": np.array(self._elapsed)}

    @override
    def set_state(self, state: State) -> None:
        self._elapsed = int(state["time_limit_elapsed"])
        self._simulator.set_state(state)

    @override
    def fork_state(self) -> Any:
        return self._elapsed, self._simulator.fork_state()

    @override
    def load_fork(self, fork: Any) -> None:
        self._elapsed, inner = fork
        self._simulator.load_fork(inner)

    @override
    def render(self) -> np.ndarray:
        return self._simulator.render()

    @override
    def close(self) -> None:
        self._simulator.close()


@dataclass(init=False, repr=False, eq=False)
class Described:
    """What is known of environments without stepping them, wherever they are.

    Attributes:
        num_envs: how many step together, `N`.
        native_observation_space: of one environment's observations as a user's code has them, before any codec.
        native_action_space: of one environment's actions as a user's code has them.
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.
        action_repeat: frames per agent step.
        protocol: every value that defines the task, for the start-up plan.
    """

    num_envs: int
    native_observation_space: spaces.Space
    native_action_space: spaces.Space
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    action_repeat: int
    protocol: dict[str, Any]


class Environment(Described, ABC):
    """`N` environments stepped together, with NEXT_STEP autoreset.

    After `is_last` the next step ignores that environment's action and returns its reset observation with `is_first`
    and reward 0. Actions are flat float32 `[N, A]`: for each key of `action_spec` in sorted order one-hot blocks for
    discrete components (the largest entry counts) and continuous components in [-1, 1] (clipped, then rescaled).

    Attributes:
        frame_rate: frames per second of real time.
        action_names: names of the discrete actions, where the suite has them.
        can_fork: whether `get_state` and `set_state` work, so that a resumed run is bitwise the uninterrupted one.
            The last `Timestep` is the collector's and not part of the state.
    """

    frame_rate: float = 30.0
    action_names: list[str] | None
    can_fork: bool = False

    @property
    def incidents(self) -> dict[str, int]:
        """How often what went wrong since the start, for the log."""
        return {}

    @abstractmethod
    def reset(self) -> Timestep:
        """Start an episode in every environment; all `is_first`."""

    def begin(self, action: np.ndarray) -> None:
        """Announce the `step` that comes next, so that there is something to do while it runs."""

    def wait(self, seconds: float) -> bool:
        """Wait for what `begin` started; False if it needs longer than that. Without workers there is no waiting."""
        return True

    @abstractmethod
    def step(self, action: np.ndarray) -> Timestep:
        """Act for one agent step with flat actions `[N, A]`.

        Raises:
            EnvironmentFault: for a non-finite reward or observation, a shape that differs from the declared one, or a
                dead worker; the message names the environment.
        """

    def get_state(self) -> State:
        """Everything the future depends on, as named arrays.

        Raises:
            EnvironmentFault: where `can_fork` is False.
        """
        raise EnvironmentFault(f"{self.protocol['env']} cannot save its state; close the open episode as truncated")

    def set_state(self, state: State) -> None:
        """Continue from `get_state`, bit by bit, in this or in another environment made alike."""
        raise EnvironmentFault(f"{self.protocol['env']} cannot restore a state; reset it instead")

    def fork_state(self) -> Any:
        """A snapshot for this process only; works for any environment that Python can deep-copy."""
        return self.get_state()

    def load_fork(self, fork: Any) -> None:
        """Return to a snapshot of `fork_state`, which stays usable."""
        self.set_state(fork)

    @abstractmethod
    def render(self) -> list[np.ndarray]:
        """Frames for a video, uint8 `[height, width, 3]` each, one for every environment that can be drawn."""

    @abstractmethod
    def close(self) -> None:
        """Free simulators and workers."""


def env_seeds(seed: int, num_envs: int) -> list[int]:
    """Distinct seeds in 0 .. 2**31 - 1, one per environment; environment `i` keeps its own whatever `num_envs` is."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0] >> 1) for i in range(num_envs)]


def deep_copy(thing: Any, *, name: str) -> Any:
    """`copy.deepcopy`, failing with one sentence."""
    try:
        return copy.deepcopy(thing)
    except Exception as error:
        raise EnvironmentFault(
            f"{name} can be neither saved nor deep-copied ({error}); give it `get_state()` and `set_state(state)`"
        ) from error


def observation_frame(observation: dict[str, np.ndarray], spec: ObservationSpec, *, name: str) -> np.ndarray:
    """The first image of an observation as uint8 `[height, width, 3]`, for environments that cannot draw themselves."""
    for key, part in sorted(spec.items()):
        if isinstance(part, ImageSpec):
            image = observation[key][..., :3]
            return image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
    raise EnvironmentFault(f'{name} has no image to show; give it `render_mode="rgb_array"` and a `render()` method')
