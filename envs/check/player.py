"""One environment as a stream of moments, whether it is a user's own or our adapted `Environment`.

Both players take the flat actions of `envs.environment` and go on by themselves after an end, so that two of them can
be compared moment by moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from envs.codec import ActionCodec, leaves
from envs.environment import Environment, EnvironmentFault
from envs.gym import OLD_API
from envs.spaces import Timestep

Beat = Callable[[str], None]
"""Called with the name of every call into the environment, so that a watchdog can tell which one hangs."""


class Moment(NamedTuple):
    """One point in time: the action that led to it, and what arrived.

    Attributes:
        observation: copies of the arrays by their key, dtypes as they came.
        reward: as it came; 0 after a reset.
        terminated: the task is over.
        truncated: cut off.
        action: flat `[A]`; None after a reset.
    """

    observation: dict[str, np.ndarray]
    reward: Any
    terminated: bool
    truncated: bool
    action: np.ndarray | None

    @property
    def is_first(self) -> bool:
        """Whether it comes from a reset."""
        return self.action is None

    @property
    def is_last(self) -> bool:
        """Whether the episode ends here."""
        return self.terminated or self.truncated


class Player(Protocol):
    """What `RawPlayer` and `AdaptedPlayer` share."""

    def start(self, seed: int) -> Moment:
        """Start the first episode."""
        ...

    def step(self, action: np.ndarray) -> Moment:
        """Act, or reset where the moment before was the last one."""
        ...

    def close(self) -> None:
        """Free the environment."""
        ...


class RawPlayer:
    """A user's environment, called as gymnasium's contract says.

    Attributes:
        native: the last observation itself, not a copy.
        complaints: what was odd about returned types, each once.
    """

    def __init__(self, env: gymnasium.Env, *, name: str, bound: float | None, beat: Beat) -> None:
        if not isinstance(env, gymnasium.Env):
            raise EnvironmentFault(OLD_API.format(name=name, symptom=f"{type(env).__name__} is not a gymnasium.Env"))
        self._env = env
        self._name = name
        self._beat = beat
        self._codec = ActionCodec(env.action_space, bound=bound)
        self._paths = {"/".join(map(str, path)): path for path in leaves(env.observation_space, what="observation")}
        self._ended = False
        self.native: Any = None
        self.complaints: dict[str, str] = {}

    def start(self, seed: int) -> Moment:
        """Reset with a seed, in the middle of an episode, too."""
        return self._reset(seed=seed)

    def step(self, action: np.ndarray) -> Moment:
        """Act, or reset without a seed where the moment before was the last one."""
        if self._ended:
            return self._reset()
        result = self._call("step", self._codec.decode(np.asarray(action, np.float32)))
        if not (isinstance(result, tuple) and len(result) == 5):
            raise EnvironmentFault(OLD_API.format(name=self._name, symptom=f"step returns {_kind(result)}"))
        self.native, reward, terminated, truncated, info = result
        self._complain_about(reward, {"terminated": terminated, "truncated": truncated}, info, method="step")
        self._ended = bool(terminated) or bool(truncated)
        return Moment(self._observation(), reward, bool(terminated), bool(truncated), action)

    def arrays(self) -> dict[str, Any]:
        """The parts of `native` by their key, themselves."""
        return {key: self._part(key) for key in self._paths}

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _reset(self, **seed: int) -> Moment:
        self._ended = False
        result = self._call("reset", **seed)
        if not (isinstance(result, tuple) and len(result) == 2):
            symptom = f"reset returns {_kind(result)} instead of (observation, info)"
            raise EnvironmentFault(OLD_API.format(name=self._name, symptom=symptom))
        self.native, info = result
        self._complain_about(0.0, {}, info, method="reset")
        return Moment(self._observation(), 0.0, terminated=False, truncated=False, action=None)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self._beat(method)
        try:
            return getattr(self._env, method)(*args, **kwargs)
        except (TypeError, ValueError) as error:
            if "values to unpack" in str(error) or "unexpected keyword argument 'seed'" in str(error):
                raise EnvironmentFault(OLD_API.format(name=self._name, symptom=f"{method}: {error}")) from error
            raise

    def _observation(self) -> dict[str, np.ndarray]:
        return {key: np.array(part) for key, part in self.arrays().items()}

    def _part(self, key: str) -> Any:
        part = self.native
        for name in self._paths[key]:
            try:
                part = part[name]
            except (KeyError, IndexError, TypeError) as error:
                raise EnvironmentFault(
                    f"the observation has no {key!r}, which its space declares; return every part of the space"
                ) from error
        return part

    def _complain_about(self, reward: Any, flags: dict[str, Any], info: Any, *, method: str) -> None:
        if not isinstance(info, dict):
            self.complaints["info"] = f"{method} returns {_kind(info)} as info; return a dict, empty if need be"
        if not isinstance(reward, int | float | np.number | np.bool_):
            self.complaints["reward"] = f"the reward is {_kind(reward)}; return float(reward)"
        for name, flag in flags.items():
            if not isinstance(flag, bool | np.bool_):
                self.complaints[name] = f"{name} is {_kind(flag)}; return bool({name})"


class AdaptedPlayer:
    """One environment of ours, `N` = 1; `start` makes it anew, for its seed is given at construction."""

    def __init__(self, make: Callable[[int], Environment], *, beat: Beat) -> None:
        self._make = make
        self._beat = beat
        self._env: Environment | None = None

    @property
    def env(self) -> Environment:
        """The environment, after `start`."""
        assert self._env is not None, "start first"
        return self._env

    def start(self, seed: int) -> Moment:
        """Make the environment and reset it."""
        self.close()
        self._beat("making the environment")
        self._env = self._make(seed)
        return self.reset()

    def reset(self) -> Moment:
        """Start another episode at once."""
        self._beat("reset")
        return _moment(self.env.reset(), None)

    def step(self, action: np.ndarray) -> Moment:
        """Act; the environment resets by itself."""
        self._beat("step")
        return _moment(self.env.step(np.asarray(action, np.float32)[None]), action)

    def close(self) -> None:
        """Free the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def stream(player: Player, seed: int, actions: Iterable[np.ndarray]) -> list[Moment]:
    """The first moment of a seed, then one for each action."""
    return [player.start(seed), *(player.step(action) for action in actions)]


def difference(left: list[Moment], right: list[Moment]) -> str | None:
    """Where two streams part, in words; None where they are equal to the last bit."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        where = "of the first reset" if index == 0 else f"at step {index}"
        for key in a.observation:
            if not same_array(a.observation[key], b.observation.get(key)):
                return f"the observation{f' {key!r}' if key else ''} {where} differs"
        if not same_array(np.asarray(a.reward), np.asarray(b.reward)):
            return f"the reward {where} differs ({_short(a.reward)} and {_short(b.reward)})"
        for flag in ("is_first", "terminated", "truncated"):
            if getattr(a, flag) != getattr(b, flag):
                return f"`{flag}` {where} differs"
    return None if len(left) == len(right) else "one is longer"


def same_array(a: np.ndarray, b: np.ndarray | None) -> bool:
    """Whether two arrays hold the same values, NaN equal to NaN."""
    if b is None or a.shape != b.shape:
        return False
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))


def _moment(timestep: Timestep, action: np.ndarray | None) -> Moment:
    is_terminal, is_last = bool(timestep.is_terminal[0]), bool(timestep.is_last[0])
    return Moment(
        {key: np.array(array[0]) for key, array in timestep.observation.items()},
        float(timestep.reward[0]),
        is_terminal,
        is_last and not is_terminal,
        None if timestep.is_first[0] else action if action is not None else np.zeros(0),
    )


def _kind(thing: Any) -> str:
    if isinstance(thing, np.ndarray):
        return f"an array of shape {thing.shape}"
    return f"{len(thing)} values" if isinstance(thing, tuple) else f"of type {type(thing).__name__}"


def _short(reward: Any) -> str:
    return f"{float(reward):.6g}" if np.ndim(reward) == 0 else _kind(reward)
