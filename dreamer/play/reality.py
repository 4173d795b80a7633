"""The real environment for one player: new episodes, and states that cost no more than the actions since a snapshot."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dreamer.dream.simulation import Outcome, SimulationError, Start
from dreamer.dream.starts import History
from dreamer.dream.truth import fork_of
from dreamer.play.session import CONTEXT, Pilot
from envs.environment import Environment

WARM_UP = 20  # steps that the agent plays before a person takes over
SNAPSHOT_EVERY = 32  # steps; a snapshot of an Atari game costs ten of them


class RealityState(NamedTuple):
    """Where the environment is: a snapshot, and the flat actions `[1, A]` since then."""

    snapshot: Any
    actions: tuple[np.ndarray, ...]
    has_ended: bool


class RealEnvironment:
    """A single environment as a `Simulation` of one future that steps as fast as the environment itself.

    Unlike `Truth` it takes a snapshot only now and then: a state in between is found again by repeating the actions
    from the snapshot before it, which is exact, as a snapshot holds all randomness.

    Args:
        environment: a single one; the caller closes it.
        pilot: the agent, which plays the first steps of an episode.
        warm_up: how many.

    Attributes:
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.
    """

    def __init__(self, environment: Environment, *, pilot: Pilot, warm_up: int = WARM_UP) -> None:
        self.observation_spec, self.action_spec = environment.observation_spec, environment.action_spec
        self._environment, self._pilot, self._warm_up = environment, pilot, warm_up
        self._present: RealityState | None = None  # the state in which the environment is

    def fresh(self) -> Start:
        """A new episode after some steps of the agent; an episode that ends sooner is followed by another.

        Raises:
            SimulationError: the environment can be neither saved nor copied.
        """
        history, environment = History(self.action_spec, length=CONTEXT), self._environment
        timestep, action, memory = environment.reset(), None, self._pilot.fresh()
        history.add(timestep, None)
        played = 0
        while played < self._warm_up or timestep.is_last[0]:
            taken = np.zeros(0) if action is None else action[0]
            memory = self._watch(memory, timestep, taken)
            action = self._pilot.judge(memory).action[None]
            timestep = environment.step(action)
            history.add(timestep, action)
            played += 1
        self._present = None
        return history.start(fork_of(environment))

    def begin(self, start: Start, *, seed: int) -> tuple[RealityState, Outcome]:
        """The snapshot of the start; the seed changes nothing.

        Raises:
            SimulationError: it has none.
        """
        if start.forks is None or len(start.forks) != 1:
            raise SimulationError("reality begins at one snapshot of the environment, and this start has none")
        observation = {key: np.array(array[:, -1]) for key, array in start.observation.items()}
        return RealityState(start.forks[0], (), has_ended=False), _outcome(observation, 0.0, ended=False, limit=False)

    def step(self, state: RealityState, action: Float[np.ndarray, "1 A"]) -> tuple[RealityState, Outcome]:
        """One step of the environment.

        Raises:
            SimulationError: the episode is over, or the environment failed and began anew.
        """
        if state.has_ended:
            raise SimulationError("this episode is over; begin a new one, or return to before its end")
        self._go_to(state)
        timestep = self._environment.step(action)
        if timestep.is_first[0]:
            raise SimulationError("the environment failed and was started anew; begin a new episode")
        ended = bool(timestep.is_last[0])
        after = RealityState(state.snapshot, (*state.actions, np.array(action)), ended)
        if len(after.actions) == SNAPSHOT_EVERY:
            after = RealityState(fork_of(self._environment), (), ended)
        self._present = after
        limit = ended and not timestep.is_terminal[0]
        return after, _outcome(timestep.observation, float(timestep.reward[0]), ended=ended, limit=limit)

    def fork(self, state: RealityState) -> Any:
        """A snapshot of the environment there."""
        if not state.actions:
            return state.snapshot
        self._go_to(state)
        return fork_of(self._environment)

    def render(self, state: RealityState) -> np.ndarray:
        """How it looks there, uint8 `[height, width, 3]`."""
        self._go_to(state)
        return self._environment.render()[0]

    def _go_to(self, state: RealityState) -> None:
        if self._present is not state:
            self._environment.load_fork(state.snapshot)
            for action in state.actions:
                self._environment.step(action)
            self._present = state

    def _watch(self, memory: Any, timestep: Any, action: np.ndarray) -> Any:
        is_first = bool(timestep.is_first[0])
        return self._pilot.watch(memory, timestep.observation, action, is_first=is_first)


def _outcome(observation: dict[str, np.ndarray], reward: float, *, ended: bool, limit: bool) -> Outcome:
    goes_on = np.array([float(not ended or limit)], np.float32)
    return Outcome(observation, np.array([reward], np.float32), goes_on, np.array([limit]), {})
