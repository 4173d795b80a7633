"""Simulators side by side: of this process one after the other, in worker processes at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from envs.environment import (
    Environment,
    EnvironmentFault,
    Simulator,
    SimulatorCrash,
    State,
    Transition,
    check_finite,
)
from envs.restarts import Restarts
from envs.spaces import Timestep

Builder = Callable[[int], Simulator]  # from a seed


class LoopEnvironment(Environment):
    """`N` simulators as one environment. Forks when they do.

    A simulator that fails in the middle of a run is replaced: its row begins a new episode (`is_first`), and replay
    closes the broken one as truncated at the last step that it has of it.

    Args:
        builders: make a simulator from a seed; called again for a replacement.
        seeds: one for each.
        max_restarts: failures of one simulator within ten minutes that are forgiven.
    """

    def __init__(
        self, builders: Sequence[Builder], *, seeds: Sequence[int], max_restarts: int, workers: str = "none"
    ) -> None:
        self._builders = list(builders)
        self._simulators: list[Simulator] = []
        try:
            for build, seed in zip(builders, seeds, strict=True):
                self._simulators.append(build(seed))
            for simulator in self._simulators:
                simulator.wait_until_ready()
        except BaseException:
            self.close()
            raise
        self._restarts = [Restarts(limit=max_restarts, seed=seed) for seed in seeds]
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
        self._ended = np.zeros(self.num_envs, bool)

    @override
    def reset(self) -> Timestep:
        self._ended = np.zeros(self.num_envs, bool)
        none = np.zeros(self.num_envs, bool)
        observations = [simulator.reset() for simulator in self._simulators]
        return self._timestep(observations, np.zeros(self.num_envs), ~none, none, none)

    @override
    def step(self, action: np.ndarray) -> Timestep:
        is_first = self._ended
        for i, simulator in enumerate(self._simulators):
            simulator.begin(None if is_first[i] else action[i])
        observations = []
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)
        for i in range(self.num_envs):
            try:
                observation, rewards[i], terminated[i], truncated[i] = self._advance(i, action[i], is_first=is_first[i])
            except Exception as error:
                if isinstance(error, EnvironmentFault) and not isinstance(error, SimulatorCrash):
                    raise  # a broken contract is not mended by another try
                observation, is_first[i] = self._replace(i, error, None if is_first[i] else action[i]), True
            observations.append(observation)
        self._ended = terminated | truncated
        return self._timestep(observations, rewards, is_first, self._ended.copy(), terminated)

    def _advance(self, i: int, action: np.ndarray, *, is_first: bool) -> Transition:
        simulator = self._simulators[i]
        if is_first:
            return Transition(simulator.reset(), 0.0, terminated=False, truncated=False)
        return simulator.step(action)

    def _replace(self, i: int, error: Exception, action: np.ndarray | None) -> dict[str, np.ndarray]:
        """Puts a new simulator in the place of one that failed; returns its first observation."""
        while True:
            seed = self._restarts[i].forgive(error, name=self.protocol["env"], index=i, action=action)
            with contextlib.suppress(Exception):
                self._simulators[i].close()
            try:
                self._simulators[i] = self._builders[i](seed)
                self._simulators[i].wait_until_ready()
                return self._simulators[i].reset()
            except Exception as next_error:
                error, action = next_error, None

    def _timestep(
        self,
        observations: list[dict[str, np.ndarray]],
        rewards: np.ndarray,
        is_first: np.ndarray,
        is_last: np.ndarray,
        is_terminal: np.ndarray,
    ) -> Timestep:
        observation = {key: np.stack([single[key] for single in observations]) for key in self.observation_spec}
        timestep = Timestep(observation, rewards.astype(np.float32), is_first, is_last, is_terminal)
        return check_finite(timestep, self.observation_spec, name=self.protocol["env"])

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
