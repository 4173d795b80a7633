"""Where dreams begin: a context of real steps, from replay, from play in the environment, or as given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from dreamer.agent import Agent, AgentState
from dreamer.dream.simulation import SimulationError, Start
from dreamer.dream.truth import fork_of
from dreamer.training.step import initial_carry
from envs.environment import Environment
from envs.spaces import ActionSpec, Timestep, VectorSpec, action_width

SPACING = 20  # steps of play between two starts, on average


class Starts(Protocol):
    """A source of starts."""

    def draw(self, num: int, *, seed: int) -> Start:
        """So many starts; the same ones for the same seed."""
        ...


class GivenStarts:
    """Rows of one start, drawn with replacement; in their order and all of them where just as many are asked for."""

    def __init__(self, start: Start) -> None:
        self._start = start

    def draw(self, num: int, *, seed: int) -> Start:
        """So many rows."""
        available = len(self._start.is_first)
        rows = np.arange(num) if num == available else np.random.default_rng(seed).integers(available, size=num)
        return select(self._start, rows)


class PlayedStarts:
    """Moments of play in the real environment, with a fork of it at each: the truth about them can be asked.

    Args:
        make: makes the single environment from a seed; see `dreamer.evaluation.make_environment`.
        agent: it plays; None: random actions.
        context: steps that a start shows.
        spacing: steps of play between two starts, on average.
        with_forks: False where no truth is wanted, for environments that cannot be forked.
    """

    def __init__(
        self,
        make: Callable[[int], Environment],
        *,
        agent: Agent | None,
        context: int,
        spacing: int = SPACING,
        with_forks: bool = True,
    ) -> None:
        self._make, self._agent = make, agent
        self._context, self._spacing, self._with_forks = context, spacing, with_forks

    def draw(self, num: int, *, seed: int) -> Start:
        """Plays from a reset until so many moments, none of them the end of an episode, have been kept.

        Raises:
            SimulationError: the environment cannot be forked.
            EnvironmentFault: it is at fault.
        """
        rng = np.random.default_rng(seed)
        environment = self._make(int(rng.integers(2**31)))
        try:
            return join(self._play(environment, num, rng))
        finally:
            environment.close()

    def _play(self, environment: Environment, num: int, rng: np.random.Generator) -> list[Start]:
        act = _random_actor(environment.action_spec, rng)
        if self._agent is not None:
            act = _agent_actor(self._agent, seed=int(rng.integers(2**31)))
        history, starts = History(environment.action_spec, length=self._context), []
        timestep, action = environment.reset(), None
        while len(starts) < num:
            history.add(timestep, action)
            if not timestep.is_last[0] and rng.random() * self._spacing < 1:
                starts.append(history.start(fork_of(environment) if self._with_forks else None))
            action = act(timestep)
            timestep = environment.step(action)
        return starts


class _Moment(NamedTuple):
    """A step of one environment, without leading axes."""

    observation: dict[str, np.ndarray]
    previous_action: np.ndarray
    is_first: bool


class History:
    """The last steps of one environment, from which a future may begin at any time.

    Args:
        action_spec: of its actions.
        length: steps that a start shows. Where an episode has fewer, its reset is repeated before it, which is exact:
            a reset forgets what was before.
    """

    def __init__(self, action_spec: ActionSpec, *, length: int) -> None:
        if length < 1:
            raise SimulationError(f"a context of {length} steps shows nothing; give one at least")
        self._moments: deque[_Moment] = deque(maxlen=length)
        self._length, self._no_action = length, np.zeros(action_width(action_spec), np.float32)

    def add(self, timestep: Timestep, action: np.ndarray | None) -> None:
        """What a single environment returned, and the flat action `[1, A]` that led to it; a reset needs none.

        Raises:
            SimulationError: the episode's reset was not added.
        """
        is_first = bool(timestep.is_first[0])
        if is_first:
            self._moments.clear()
        elif action is None or not self._moments:
            raise SimulationError("a history begins with a reset and goes on with the action that led to each step")
        previous_action = self._no_action if is_first or action is None else np.array(action[0], np.float32)
        observation = {key: array[0] for key, array in timestep.observation.items()}
        self._moments.append(_Moment(observation, previous_action, is_first))

    def start(self, fork: Any = None) -> Start:
        """The present as the only row of a start, with a snapshot of its environment where there is one.

        Raises:
            SimulationError: nothing was added yet.
        """
        if not self._moments:
            raise SimulationError("nothing was seen yet from which a future could begin; reset the environment first")
        moments = [self._moments[0]] * (self._length - len(self._moments)) + list(self._moments)
        return Start(
            {key: np.stack([moment.observation[key] for moment in moments])[None] for key in moments[0].observation},
            np.stack([moment.previous_action for moment in moments])[None],
            np.array([[moment.is_first for moment in moments]]),
            None if fork is None else (fork,),
        )


def select(start: Start, rows: Sequence[int] | np.ndarray) -> Start:
    """Some rows of a start."""
    rows = np.asarray(rows)
    return Start(
        {key: array[rows] for key, array in start.observation.items()},
        start.previous_action[rows],
        start.is_first[rows],
        None if start.forks is None else tuple(start.forks[row] for row in rows),
    )


def join(starts: Sequence[Start]) -> Start:
    """The rows of several starts, of the same context length, as one."""
    forks = [start.forks for start in starts]
    return Start(
        {key: np.concatenate([start.observation[key] for start in starts]) for key in starts[0].observation},
        np.concatenate([start.previous_action for start in starts]),
        np.concatenate([start.is_first for start in starts]),
        None if None in forks else tuple(fork for rows in forks for fork in rows or ()),
    )


def random_actions(spec: ActionSpec, *, num: int, rng: np.random.Generator) -> np.ndarray:
    """Uniformly random flat actions, float32 `[num, A]`."""
    parts = []
    for _, part in sorted(spec.items()):
        if isinstance(part, VectorSpec):
            parts.append(rng.uniform(-1.0, 1.0, (num, part.size)))
        else:
            parts += [np.eye(classes)[rng.integers(classes, size=num)] for classes in part.num_classes]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _random_actor(spec: ActionSpec, rng: np.random.Generator) -> Callable[[Timestep], np.ndarray]:
    return lambda timestep: random_actions(spec, num=1, rng=rng)


def _agent_actor(agent: Agent, *, seed: int) -> Callable[[Timestep], np.ndarray]:
    """The agent with sampled actions, which are the same ones for the same seed."""
    state = AgentState(initial_carry(agent.definition, 1), jax.random.key(seed), np.uint32(0))

    def act(timestep: Timestep) -> np.ndarray:
        nonlocal state
        action, state = agent.act(timestep.observation, state=state, is_first=timestep.is_first, deterministic=False)
        return action

    return act
