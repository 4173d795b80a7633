"""Simulators of this process, stepped one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from envs.environment import Environment, Simulator, State, check_finite
from envs.spaces import Timestep


class LoopEnvironment(Environment):
    """`N` simulators as one environment. Forks when they do."""

    def __init__(self, simulators: Sequence[Simulator]) -> None:
        self._simulators = list(simulators)
        first = self._simulators[0]
        self.num_envs = len(self._simulators)
        self.native_observation_space = first.native_observation_space
        self.native_action_space = first.native_action_space
        self.observation_spec = first.observation_spec
        self.action_spec = first.action_spec
        self.action_repeat = first.action_repeat
        self.frame_rate = first.frame_rate
        self.action_names = first.action_names
        self.protocol = first.protocol | {"num_envs": self.num_envs, "workers": "none"}
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
        observations = []
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)
        for i, simulator in enumerate(self._simulators):
            if is_first[i]:
                observations.append(simulator.reset())
            else:
                observation, rewards[i], terminated[i], truncated[i] = simulator.step(action[i])
                observations.append(observation)
        self._ended = terminated | truncated
        return self._timestep(observations, rewards, is_first, self._ended.copy(), terminated)

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
