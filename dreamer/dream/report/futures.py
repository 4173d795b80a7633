"""Futures of the same starts under the same actions, in the environment and in everything that claims to know it.

Most metrics look at the same futures: they are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from dreamer.agent import Agent, AgentState
from dreamer.dream.simulation import NotForkedError, Outcome, Simulation, Start, require_start
from dreamer.dream.starts import random_actions
from dreamer.training.step import initial_carry
from envs.environment import Environment
from envs.spaces import ActionSpec

STEPS = 50  # of every future
BRANCHES = 4  # action sequences from each start
KEPT = (1, 2, 3, 4, 5, 7, 10, 14, 15, 20, 30, 40, 49, 50)  # steps whose observations are looked at
HORIZONS = (1, 5, 15, 50)
RANDOM_SHARE = 0.5  # of the actions; the others are the agent's


class Futures(NamedTuple):
    """What followed from `N` starts in `M` branches of `H` steps; step k is at index k - 1.

    Attributes:
        observation: at the steps `KEPT`, by key `[M, S, N, ...]`.
        reward: `[M, H, N]`; of the truth 0 after an end.
        continue_prob: `[M, H, N]`.
        is_over: an episode has ended here or before, `[M, H, N]`; of the truth only, else False.
        info: what else was said, `[M, H, N]`, such as `prior_entropy`.
    """

    observation: dict[str, np.ndarray]
    reward: Float[np.ndarray, "M H N"]
    continue_prob: Float[np.ndarray, "M H N"]
    is_over: Bool[np.ndarray, "M H N"]
    info: dict[str, np.ndarray]

    def at(self, step: int) -> dict[str, np.ndarray]:
        """Observations `[M, N, ...]` at one of the steps `KEPT`."""
        return {key: array[:, KEPT.index(step)] for key, array in self.observation.items()}


class OnceOnly:
    """The real environment as a simulation whose states can be used once: each future has an environment of its own.

    `Truth` saves an environment before it turns to the next, which takes an Atari game 30 times as long as a step.

    Args:
        make: makes a single environment from a seed, as those of the forks were.
    """

    def __init__(self, make: Callable[[int], Environment]) -> None:
        self._make, self._environments = make, [make(0)]
        first = self._environments[0]
        self.observation_spec, self.action_spec = first.observation_spec, first.action_spec
        self.protocol, self.seconds_per_step = first.protocol, first.action_repeat / first.frame_rate

    def begin(self, start: Start, *, seed: int) -> tuple[np.ndarray, Outcome]:
        """Every environment at its fork. Randomness is in the forks: `seed` changes nothing.

        Raises:
            NotForkedError: the start has no forks.
        """
        num = require_start(start, self)
        if start.forks is None:
            raise NotForkedError("this start has no forks, as one from replay: what follows is known to nobody")
        for environment, fork in zip(self._some(num), start.forks, strict=True):
            environment.load_fork(fork)
        return self._present({key: np.array(array[:, -1]) for key, array in start.observation.items()})

    def _some(self, num: int) -> list[Environment]:
        while len(self._environments) < num:
            self._environments.append(self._make(0))
        return self._environments[:num]

    def _present(self, observation: dict[str, np.ndarray]) -> tuple[np.ndarray, Outcome]:
        num = len(next(iter(observation.values())))
        nothing = np.zeros(num, bool)
        outcome = Outcome(observation, np.zeros(num, np.float32), np.ones(num, np.float32), nothing, {})
        self._last = outcome
        return nothing, outcome

    def step(self, state: np.ndarray, action: Float[np.ndarray, "N A"]) -> tuple[np.ndarray, Outcome]:
        """One step of all that have not ended; the state says which have, `[N]`."""
        is_over, truncated = state.copy(), np.zeros(len(state), bool)
        observation = {key: array.copy() for key, array in self._last.observation.items()}
        reward, going_on = np.zeros(len(state), np.float32), np.where(state, 0.0, 1.0).astype(np.float32)
        for i in np.flatnonzero(~state):
            timestep = self._environments[i].step(action[i : i + 1])
            for key, array in timestep.observation.items():
                observation[key][i] = array[0]
            reward[i], is_over[i] = timestep.reward[0], timestep.is_last[0]
            going_on[i] = not timestep.is_terminal[0]
            truncated[i] = timestep.is_last[0] and not timestep.is_terminal[0]
        self._last = Outcome(observation, reward, going_on, truncated, {})
        return is_over, self._last

    def close(self) -> None:
        """Closes every environment."""
        for environment in self._environments:
            environment.close()


class Anew(OnceOnly):
    """The real environment from its resets: for what a step costs, where there are no forks to begin at."""

    def begin(self, start: Start, *, seed: int) -> tuple[np.ndarray, Outcome]:
        """As many new episodes as there are starts."""
        shown = [environment.reset().observation for environment in self._some(require_start(start, self))]
        return self._present({key: np.concatenate([one[key] for one in shown]) for key in shown[0]})


class Follower:
    """An agent that follows futures by what they show, some of its actions replaced by random ones.

    Args:
        agent: it acts; None: random actions only.
        start: what was seen before.
        action_spec: of the actions.
        random_share: probability that an action is a random one.
        seed: of its actions.
    """

    def __init__(
        self, agent: Agent | None, start: Start, *, action_spec: ActionSpec, random_share: float, seed: int
    ) -> None:
        self._agent, self._spec, self._num = agent, action_spec, len(start.is_first)
        self._rng = np.random.default_rng(seed)
        self._random_share = random_share if agent is not None else 1.0
        self._state: AgentState | None = None
        if agent is None:
            return
        sharding = jax.tree.leaves(agent.params)[0].sharding
        carry = jax.device_put(initial_carry(agent.definition, self._num), sharding)
        self._state = AgentState(carry, jax.random.key(seed), np.uint32(0))
        for time in range(start.is_first.shape[1] - 1):  # the present comes with the first `act`
            shown = {key: array[:, time] for key, array in start.observation.items()}
            self._take_in(shown, start.previous_action[:, time], start.is_first[:, time])
        self._last_action, self._is_first = start.previous_action[:, -1], start.is_first[:, -1]

    def act(self, observation: dict[str, np.ndarray]) -> Float[np.ndarray, "N A"]:
        """Flat actions for what the futures show now."""
        random = random_actions(self._spec, num=self._num, rng=self._rng)
        is_random = self._rng.random(self._num) < self._random_share
        if self._agent is None:
            return random
        chosen = self._take_in(observation, self._last_action, self._is_first)
        self._last_action = np.where(is_random[:, None], random, chosen).astype(np.float32)
        self._is_first = np.zeros(self._num, bool)
        return self._last_action

    def _take_in(self, observation: dict[str, np.ndarray], previous: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        assert self._agent is not None
        assert self._state is not None
        self._state = self._state._replace(carry=self._state.carry._replace(action=previous))
        action, self._state = self._agent.act(observation, state=self._state, is_first=is_first, deterministic=False)
        return action


def follow(
    simulation: Simulation, start: Start, agent: Agent | None, *, random_share: float, steps: int, seed: int
) -> tuple[Futures, Float[np.ndarray, "1 H N A"]]:
    """Lets an agent act in futures by what they show; one branch, and the actions that it took."""
    follower = Follower(agent, start, action_spec=simulation.action_spec, random_share=random_share, seed=seed)
    state, outcome = simulation.begin(start, seed=seed)
    outcomes, actions = [], []
    for _ in range(steps):
        actions.append(follower.act(outcome.observation))
        state, outcome = simulation.step(state, actions[-1])
        outcomes.append(outcome)
    return _collect(outcomes), np.stack(actions)[None]


def replay(simulation: Simulation, start: Start, actions: Float[np.ndarray, "M H N A"], *, seed: int) -> Futures:
    """What a simulation says of given actions. Branches draw the same random numbers: they differ by action only."""
    branches = []
    for branch in actions:
        state, _ = simulation.begin(start, seed=seed)
        outcomes = []
        for action in branch:
            state, outcome = simulation.step(state, action)
            outcomes.append(outcome)
        branches.append(_collect(outcomes))
    return join(branches)


def join(branches: list[Futures]) -> Futures:
    """Several branches as one."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *branches)


def _collect(outcomes: list[Outcome]) -> Futures:
    """Outcomes of one branch."""
    steps = [step for step in KEPT if step <= len(outcomes)]
    continue_prob = np.stack([outcome.continue_prob for outcome in outcomes])
    ended = np.stack([outcome.truncated for outcome in outcomes]) | (continue_prob == 0)
    info = {
        name: np.stack([outcome.info[name] for outcome in outcomes])[None]
        for name, array in outcomes[0].info.items()
        if array.ndim == 1
    }
    return Futures(
        {key: np.stack([outcomes[k - 1].observation[key] for k in steps])[None] for key in outcomes[0].observation},
        np.stack([outcome.reward for outcome in outcomes])[None],
        continue_prob[None],
        np.logical_or.accumulate(ended)[None],
        info,
    )


def expected_return(futures: Futures) -> Float[np.ndarray, "M H N"]:
    """Undiscounted return of the first k steps, each reward weighted by the probability that it is reached."""
    reached = np.cumprod(futures.continue_prob, axis=1)
    reached = np.concatenate([np.ones_like(reached[:, :1]), reached[:, :-1]], axis=1)
    return np.cumsum(futures.reward * reached, axis=1)


def any_action(spec: ActionSpec, shape: tuple[int, ...], *, seed: int) -> Any:
    """Uniformly random flat actions of a shape."""
    flat = random_actions(spec, num=int(np.prod(shape)), rng=np.random.default_rng(seed))
    return flat.reshape(*shape, -1)
