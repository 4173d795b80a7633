"""The environment itself behind the interface of its models: the positive control of every measurement."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dreamer.dream.simulation import NotForkedError, Outcome, SimulationError, Start, require_action, require_start
from envs.environment import Environment, EnvironmentFault


class TruthState(NamedTuple):
    """Where `N` true futures are.

    Attributes:
        forks: snapshots of the environment, one for each.
        has_ended: which are over, `[N]`; those stay as they are.
        observation: what each shows, `[N, ...]`.
    """

    forks: tuple[Any, ...]
    has_ended: Bool[np.ndarray, " N"]
    observation: dict[str, np.ndarray]


class Truth:
    """Forks of an environment, as `Simulation` says: what happens under an action, bit by bit.

    All randomness is in the forks, so that `seed` changes nothing: the same actions have the same outcome.

    Args:
        environment: one single environment, made as those of the forks were; it visits every future in turn. The
            caller closes it.

    Attributes:
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.

    Raises:
        SimulationError: it is several environments.
    """

    def __init__(self, environment: Environment) -> None:
        if environment.num_envs != 1:
            raise SimulationError(f"the truth needs a single environment, not {environment.num_envs}: num_envs=1")
        self.observation_spec, self.action_spec = environment.observation_spec, environment.action_spec
        self._environment = environment
        self._present: Any = None  # the fork in which the environment is

    def begin(self, start: Start, *, seed: int) -> tuple[TruthState, Outcome]:
        """The forks of the start.

        Raises:
            NotForkedError: the start has none.
        """
        num = require_start(start, self)
        if start.forks is None:
            raise NotForkedError("this start has no forks, as one from replay: what follows is known to nobody")
        if len(start.forks) != num:
            raise SimulationError(f"{len(start.forks)} forks for {num} starts; give one for each")
        self._present = None
        observation = {key: np.array(array[:, -1]) for key, array in start.observation.items()}
        state = TruthState(tuple(start.forks), np.zeros(num, bool), observation)
        nothing = np.zeros(num, bool)
        return state, Outcome(observation, np.zeros(num, np.float32), np.ones(num, np.float32), nothing, {})

    def step(self, state: TruthState, action: Float[np.ndarray, "N A"]) -> tuple[TruthState, Outcome]:
        """One step of every environment that has not ended.

        Raises:
            SimulationError: it cannot be forked, or failed.
        """
        action = require_action(action, num=len(state.forks), simulation=self)
        forks, has_ended = list(state.forks), state.has_ended.copy()
        observation = {key: array.copy() for key, array in state.observation.items()}
        reward, truncated = np.zeros(len(forks), np.float32), np.zeros(len(forks), bool)
        continue_prob = np.where(has_ended, 0.0, 1.0).astype(np.float32)
        for i in np.flatnonzero(~has_ended):
            self._go_to(forks[i])
            timestep = self._environment.step(action[i : i + 1])
            if timestep.is_first[0]:
                raise SimulationError(f"{self._environment.protocol['env']} failed in a fork and was started anew")
            self._present = forks[i] = fork_of(self._environment)
            for key, array in timestep.observation.items():
                observation[key][i] = array[0]
            reward[i], has_ended[i] = timestep.reward[0], timestep.is_last[0]
            continue_prob[i] = not timestep.is_terminal[0]
            truncated[i] = timestep.is_last[0] and not timestep.is_terminal[0]
        state = TruthState(tuple(forks), has_ended, observation)
        return state, Outcome(observation, reward, continue_prob, truncated, {})

    def render(self, state: TruthState) -> list[np.ndarray]:
        """How each of the environments looks, uint8 `[height, width, 3]`."""
        frames = []
        for fork in state.forks:
            self._go_to(fork)
            frames += self._environment.render()
        return frames

    def _go_to(self, fork: Any) -> None:
        if self._present is not fork:
            self._environment.load_fork(fork)
            self._present = fork


def fork_of(environment: Environment) -> Any:
    """A snapshot of an environment.

    Raises:
        NotForkedError: it can be neither saved nor copied.
    """
    try:
        return environment.fork_state()
    except EnvironmentFault as error:
        raise NotForkedError(f"the truth is not known to us: {error}") from error
