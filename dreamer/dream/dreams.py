"""Dreams side by side, in encoded form: what the gymnasium environments of a run are made of."""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float

from dreamer.agent import Agent
from dreamer.dream.model import ModelSimulation, ModelState
from dreamer.dream.replayed import ReplayedStarts
from dreamer.dream.simulation import Outcome, SimulationError, Start
from dreamer.dream.starts import GivenStarts, PlayedStarts, Starts
from dreamer.evaluation import make_environment

LEAST_POOL = 16  # contexts that are filtered at once
MOST_SEED = 2**31

StartSource = Literal["replay", "played"] | Start | Starts
Termination = Literal["sample", "threshold"]


class Dreams:
    """`N` dreams; those that end begin again one by one, with NEXT_STEP autoreset.

    Args:
        agent: whose world is dreamt.
        num: dreams `N`.
        starts: where they begin.
        horizon: steps after which a dream is truncated.
        temperature: of the prior; see `ModelSimulation`.
        termination: `sample` draws whether a dream goes on; `threshold` ends it where that is less likely than not.

    Attributes:
        outcome: of the last step.

    Raises:
        SimulationError: an option cannot be followed.
    """

    def __init__(
        self, agent: Agent, *, num: int, starts: Starts, horizon: int, temperature: float, termination: Termination
    ) -> None:
        if num < 1 or horizon < 1:
            raise SimulationError(f"{num} dreams of {horizon} steps; give one of both at least")
        if termination not in ("sample", "threshold"):
            raise SimulationError(f"termination {termination!r} is unknown; give 'sample' or 'threshold'")
        self._simulation = ModelSimulation(agent, temperature=temperature)
        self._num, self._starts, self._horizon, self._termination = num, starts, horizon, termination
        self._pool: tuple[ModelState, Outcome] | None = None  # beginnings
        self._taken = 0  # of the pool
        self._state: ModelState | None = None
        self._lengths = np.zeros(num, np.int64)
        self._ended = np.zeros(num, bool)

    def reset(self, rng: np.random.Generator, *, is_seeded: bool, start: Start | None = None) -> Outcome:
        """Begins all dreams.

        Args:
            rng: of the environment.
            is_seeded: `rng` is new, so that nothing drawn before may be used.
            start: takes the place of the source this time.
        """
        if is_seeded:
            self._pool = None
        if start is None:
            state, self.outcome = self._fresh(np.ones(self._num, bool), rng)
        else:
            state, self.outcome = self._begin(GivenStarts(start), self._num, rng)
        self._state = state._replace(key=jax.random.key(_seed(rng)))  # dreams of one pool differ
        self._lengths, self._ended = np.zeros(self._num, np.int64), np.zeros(self._num, bool)
        return self.outcome

    def step(
        self, action: Float[np.ndarray, "N A"], rng: np.random.Generator
    ) -> tuple[Outcome, Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        """One step of every dream, or its beginning where it had ended: what was dreamt, terminated, truncated.

        Raises:
            SimulationError: there was no reset.
        """
        if self._state is None:
            raise SimulationError("the dream has not begun: call reset() first")
        begins = self._ended
        self._state, outcome = self._simulation.step(self._state, action)
        if begins.any():
            state, beginning = self._fresh(begins, rng)
            self._state = self._simulation.merge(self._state, state, begins)
            outcome = jax.tree.map(lambda new, old: np.where(_along(begins, new), new, old), beginning, outcome)
        self._lengths = np.where(begins, 0, self._lengths + 1)
        chance = rng.random(self._num) if self._termination == "sample" else 0.5
        terminated = (outcome.continue_prob < chance) & ~begins
        truncated = (self._lengths >= self._horizon) & ~terminated
        self._ended, self.outcome = terminated | truncated, outcome
        return outcome, terminated, truncated

    def _fresh(self, wanted: Bool[np.ndarray, " N"], rng: np.random.Generator) -> tuple[ModelState, Outcome]:
        """A beginning for every row that wants one; the others are anything."""
        count = int(wanted.sum())
        size = max(self._num, LEAST_POOL)
        if self._pool is None or self._taken + count > size:
            self._pool, self._taken = self._begin(self._starts, size, rng), 0
        rows = np.zeros(self._num, np.int64)
        rows[wanted] = self._taken + np.arange(count)
        self._taken += count
        state, outcome = self._pool
        return self._simulation.select(state, rows), jax.tree.map(lambda array: array[rows], outcome)

    def _begin(self, starts: Starts, num: int, rng: np.random.Generator) -> tuple[ModelState, Outcome]:
        return self._simulation.begin(starts.draw(num, seed=_seed(rng)), seed=_seed(rng))


def source(starts: StartSource, agent: Agent, *, context: int, env: Any) -> Starts:
    """The source of starts that a user named.

    Args:
        starts: `replay`, `played`, a `Start` whose rows are drawn, or a source.
        agent: whose replay it is, or who plays.
        context: steps that a start from either of these shows.
        env: where to play, a name or a function; None: where the agent was trained.

    Raises:
        SimulationError: the word is unknown, or there is no replay.
    """
    if starts == "replay":
        return ReplayedStarts(agent, context=context)
    if starts == "played":

        def make(seed: int) -> Any:
            return make_environment(agent, env, seed=seed)

        return PlayedStarts(make, agent=agent, context=context, with_forks=False)
    if isinstance(starts, str):
        raise SimulationError(f"starts {starts!r} is unknown; give 'replay', 'played', a Start or a source of them")
    return GivenStarts(starts) if isinstance(starts, Start) else starts


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(MOST_SEED))


def _along(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (array.ndim - 1))
