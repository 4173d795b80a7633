"""What a report measures with: the model, the environment, the controls, and the starts that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dreamer.agent import Agent
from dreamer.dream.controls import ActionBlind, Frozen, shuffle_weights
from dreamer.dream.model import ModelSimulation
from dreamer.dream.report.distance import Scale
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, SHUFFLED, TRUTH
from dreamer.dream.report.futures import (
    BRANCHES,
    RANDOM_SHARE,
    STEPS,
    Futures,
    OnceOnly,
    follow,
    join,
    replay,
)
from dreamer.dream.simulation import NotForkedError, Simulation, Start
from dreamer.dream.starts import PlayedStarts
from envs.environment import Environment

CONTEXT = 16  # steps that a start shows
SPACING = 20  # steps of play between two starts, on average
NEEDS_FORKS = "Not measurable: the environment cannot be forked; give it get_state and set_state."


Play = Callable[[], list[float]]  # milliseconds from keys in a browser to the frames that answer them


class NotPlayedError(RuntimeError):
    """The player cannot be measured in a browser here; the message says why."""


@dataclass
class Bench:
    """The contestants and what they are asked.

    Attributes:
        models: simulations by name, `model` and the negative controls among them; without the truth.
        truth: the real environment.
        start: where all futures begin; without forks where the environment has none.
        seed: root of all randomness.
        agent: its policy acts in half of the steps; None: all actions are random.
        make: makes an environment like the true one.
        on_progress: told what is being made.
        play: measures the player in a browser; None: nobody asked for it.
    """

    models: dict[str, Simulation]
    truth: OnceOnly
    start: Start
    seed: int
    agent: Agent | None
    make: Callable[[int], Environment]
    on_progress: Callable[[str], None] = field(default=print)
    play: Play | None = None

    @property
    def simulations(self) -> dict[str, Simulation]:
        """All contestants, in the order in which they are printed.

        Raises:
            NotForkedError: the environment cannot be forked, so that the truth is not among them.
        """
        if self.start.forks is None:
            raise NotForkedError(NEEDS_FORKS)
        return {**self.models, TRUTH: self.truth}

    @cached_property
    def actions(self) -> np.ndarray:
        """Action sequences of all branches `[M, H, N, A]`, drawn from one distribution; makes the true futures."""
        return self._true[1]

    @cached_property
    def futures(self) -> dict[str, Futures]:
        """What each contestant says of `actions`."""
        futures = {}
        for name, simulation in self.models.items():
            self.on_progress(f"futures of the {name}")
            futures[name] = replay(simulation, self.start, self.actions, seed=self.seed)
        return {**futures, TRUTH: self._true[0]}

    @cached_property
    def scale(self) -> Scale:
        """Distances between observations, in units of their spread in true futures."""
        true = self.futures[TRUTH].observation
        return Scale(self.truth.observation_spec, [self.start.observation, true])

    @cached_property
    def _true(self) -> tuple[Futures, np.ndarray]:
        """The agent acts in the true futures, half of the time at random, differently in each branch."""
        branches, actions = [], []
        for branch in range(BRANCHES):
            self.on_progress(f"futures of the real environment, {branch + 1} of {BRANCHES}")
            seed = branch_seed(self.seed, branch)
            one, taken = follow(self.truth, self.start, self.agent, random_share=RANDOM_SHARE, steps=STEPS, seed=seed)
            branches.append(one)
            actions.append(taken)
        return join(branches), np.concatenate(actions)

    def alive(self, step: int) -> np.ndarray:
        """Which true futures have not ended by a step, `[M, N]`."""
        return ~self.futures[TRUTH].is_over[:, step - 1]


def branch_seed(seed: int, branch: int) -> int:
    """A seed of its own for every branch."""
    return int(np.random.SeedSequence([seed, branch]).generate_state(1)[0] >> 1)


def make_bench(
    agent: Agent,
    make: Callable[[int], Environment],
    *,
    num_starts: int,
    seed: int,
    on_progress: Callable[[str], None],
    play: Play | None = None,
) -> Bench:
    """The contestants for an agent's world model, at moments of its own play.

    Where the environment cannot be forked, the starts have no forks, and what asks for the truth of an action that was
    not taken raises `NotForkedError`.
    """
    on_progress("playing to the starts")
    start = draw_starts(agent, make, num_starts=num_starts, seed=seed)
    model = ModelSimulation(agent)
    models: dict[str, Simulation] = {
        MODEL: model,
        BLIND: ActionBlind(model),
        FROZEN: Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec),
        SHUFFLED: ModelSimulation(agent, params=shuffle_weights(agent.params, seed=seed)),
    }
    return Bench(models, OnceOnly(make), start, seed, agent, make, on_progress, play)


def draw_starts(agent: Agent, make: Callable[[int], Environment], *, num_starts: int, seed: int) -> Start:
    """Moments of play, with forks where there can be any."""

    def draw(*, with_forks: bool) -> Start:
        played = PlayedStarts(make, agent=agent, context=CONTEXT, spacing=SPACING, with_forks=with_forks)
        return played.draw(num_starts, seed=seed)

    try:
        return draw(with_forks=True)
    except NotForkedError:
        return draw(with_forks=False)
