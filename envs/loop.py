"""Simulators side by side: of this process one after the other, in worker processes at the same time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from envs.alarm import Alarm
from envs.environment import (
    Described,
    Environment,
    EnvironmentFault,
    EnvSettings,
    NonFinite,
    Simulator,
    SimulatorCrash,
    State,
    Transition,
)
from envs.nonfinite import NonFiniteGate
from envs.restarts import Restarts
from envs.spaces import Timestep, action_width

Builder = Callable[[int], Simulator]  # from a seed


class LoopEnvironment(Environment):
    """`N` simulators as one environment. Forks when they do.

    A simulator that fails in the middle of a run is replaced: its row begins a new episode (`is_first`), and replay
    closes the broken one as truncated at the last step that it has of it.

    Args:
        builders: make a simulator from a seed; called again for a replacement.
        seeds: one for each.
        settings: `max_restarts`, `nonfinite` and `step_timeout` of them.
        workers: `spawn` where the simulators have processes of their own, for the protocol.
    """

    def __init__(
        self,
        builders: Sequence[Builder],
        *,
        seeds: Sequence[int],
        settings: EnvSettings | Any,
        workers: str = "none",
    ) -> None:
        self._builders = list(builders)
        self._simulators: list[Simulator] = []
        try:
            for build, seed in zip(builders, seeds, strict=True):
                self._simulators.append(build(seed))
            for simulator in self._simulators:
                simulator.wait_until_ready()
                require_alike(simulator, self._simulators[0])
        except BaseException:
            self.close()
            raise
        self._restarts = [Restarts(limit=settings.max_restarts, seed=seed) for seed in seeds]
        self._alarm = contextlib.nullcontext() if workers == "spawn" else Alarm(settings.step_timeout)
        first = self._simulators[0]
        self.num_envs = len(self._simulators)
        self.native_observation_space = first.native_observation_space
        self.native_action_space = first.native_action_space
        self.observation_spec = first.observation_spec
        self.action_spec = first.action_spec
        self.action_repeat = first.action_repeat
        self.frame_rate = first.frame_rate
        self.action_names = first.action_names
        self.protocol = first.protocol | {"num_envs": self.num_envs, "workers": workers}
        self.can_fork = all(simulator.can_fork for simulator in self._simulators)
        self._gate = NonFiniteGate(settings.nonfinite, self.observation_spec, name=self.protocol["env"])
        self._ended = np.zeros(self.num_envs, bool)
        self._has_begun = False

    @property
    @override
    def incidents(self) -> dict[str, int]:
        restarts = sum(record.total for record in self._restarts)
        return {"restarts": restarts, "cut_episodes": self._gate.cut, "zeroed": self._gate.zeroed}

    @override
    def reset(self) -> Timestep:
        self._ended = np.ones(self.num_envs, bool)
        return self.step(np.zeros((self.num_envs, action_width(self.action_spec)), np.float32))

    @override
    def begin(self, action: np.ndarray) -> None:
        for i, simulator in enumerate(self._simulators):
            simulator.begin(None if self._ended[i] else action[i])
        self._has_begun = True

    @override
    def wait(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        return all(simulator.wait(max(0.0, until - time.monotonic())) for simulator in self._simulators)

    @override
    def step(self, action: np.ndarray) -> Timestep:
        if not self._has_begun:
            self.begin(action)
        self._has_begun = False
        self._gate.steps += 1
        results = [self._advance(i, action[i]) for i in range(self.num_envs)]
        observations, is_first = [transition.observation for transition, _ in results], [first for _, first in results]
        reward, terminated, truncated = (
            np.array([transition[field] for transition, _ in results]) for field in (1, 2, 3)
        )
        timestep = Timestep(
            {key: np.stack([single[key] for single in observations]) for key in self.observation_spec},
            reward.astype(np.float32),
            np.array(is_first),
            terminated | truncated,
            terminated,
        )
        for i in np.flatnonzero(self._gate.admit(timestep)):
            self._cut(timestep, int(i))
        self._ended = timestep.is_last.copy()
        return timestep

    def _advance(self, i: int, action: np.ndarray) -> tuple[Transition, bool]:
        """One step of one simulator, or its reset; the second result says whether an episode begins."""
        if self._ended[i]:
            return self._begin_episode(i), True
        try:
            with self._alarm:
                return self._simulators[i].step(action), False
        except NonFinite as error:
            self._gate.refuse(error, row=i, is_first=False)
            return self._begin_episode(i), True
        except Exception as error:
            return _beginning(self._replace(i, error, action)), True

    def _begin_episode(self, i: int) -> Transition:
        try:
            with self._alarm:
                return _beginning(self._simulators[i].reset())
        except Exception as error:
            return _beginning(self._replace(i, error, None))

    def _cut(self, timestep: Timestep, i: int) -> None:
        """Puts the beginning of a new episode in the place of a step that must not be seen."""
        self._ended[i] = True
        begin, _ = self._advance(i, np.zeros(0))
        for key, array in timestep.observation.items():
            array[i] = begin.observation[key]
        timestep.reward[i], timestep.is_first[i], timestep.is_last[i], timestep.is_terminal[i] = 0, True, False, False
        self._gate.admit(timestep)

    def _replace(self, i: int, error: Exception, action: np.ndarray | None) -> dict[str, np.ndarray]:
        """Puts a new simulator in the place of one that failed; returns its first observation."""
        while True:
            if isinstance(error, EnvironmentFault) and not isinstance(error, SimulatorCrash):
                name = self.protocol["env"]  # a broken contract is not mended by another try
                raise type(error)(f"{name}: environment {i}: {error}") from error
            seed = self._restarts[i].forgive(error, name=self.protocol["env"], index=i, action=action)
            with contextlib.suppress(Exception), self._alarm:
                self._simulators[i].close()
            try:
                self._simulators[i] = self._builders[i](seed)
                self._simulators[i].wait_until_ready()
                require_alike(self._simulators[i], self)
                with self._alarm:
                    return self._simulators[i].reset()
            except Exception as next_error:
                error, action = next_error, None

    @override
    def get_state(self) -> State:
        state = {"ended": self._ended.copy()}
        for i, simulator in enumerate(self._simulators):
            state |= {f"{i}/{key}": value for key, value in simulator.get_state().items()}
        return state

    @override
    def set_state(self, state: State) -> None:
        self._ended = np.array(state["ended"])
        for i, simulator in enumerate(self._simulators):
            prefix = f"{i}/"
            simulator.set_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    @override
    def fork_state(self) -> Any:
        return self._ended.copy(), [simulator.fork_state() for simulator in self._simulators]

    @override
    def load_fork(self, fork: Any) -> None:
        ended, forks = fork
        self._ended = ended.copy()
        for simulator, inner in zip(self._simulators, forks, strict=True):
            simulator.load_fork(inner)

    @override
    def render(self) -> list[np.ndarray]:
        return [simulator.render() for simulator in self._simulators]

    @override
    def close(self) -> None:
        for simulator in self._simulators:
            simulator.close()


def _beginning(observation: dict[str, np.ndarray]) -> Transition:
    return Transition(observation, 0.0, terminated=False, truncated=False)


def require_alike(simulator: Simulator | Described, first: Simulator | Described) -> None:
    """Refuses a simulator that differs from the first one: they share a network and a replay.

    Raises:
        EnvironmentFault: the message names the parts that differ.
    """
    for kind in ("observation", "action"):
        wanted, got = getattr(first, f"{kind}_spec"), getattr(simulator, f"{kind}_spec")
        keys = sorted(key for key in wanted | got if wanted.get(key) != got.get(key))
        if keys:
            differ = "; ".join(f"{key!r} is {got.get(key)} instead of {wanted.get(key)}" for key in keys)
            raise EnvironmentFault(f"all environments need the same {kind}s, but one has others: {differ}")
