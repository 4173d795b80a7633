"""A session over real environments, without JAX: the truth in the place of the dream, a controller as the agent."""

from __future__ import annotations

from typing import Any

import numpy as np

import envs
from dreamer.dream.controls import Frozen
from dreamer.dream.simulation import Start
from dreamer.dream.truth import Truth
from dreamer.play.keymap import Keymap, known_names
from dreamer.play.reality import RealEnvironment
from dreamer.play.session import Judgement, Session

ENV = "CartPole-v1"


class Balance:
    """A pilot that balances the pole, and remembers the observations since the last reset."""

    def fresh(self) -> tuple[np.ndarray, ...]:
        return ()

    def watch(self, memory: Any, observation: dict[str, np.ndarray], action: np.ndarray, *, is_first: bool) -> Any:
        return (observation["state"][0],) if is_first else (*memory, observation["state"][0])

    def recall(self, state: Any) -> Any:
        return (state.observation["state"][0],)

    def judge(self, memory: Any) -> Judgement:
        position, speed, angle, spin = memory[-1]
        right = angle + 0.5 * spin + 0.03 * position + 0.1 * speed > 0
        policy = np.array([1.0 - right, right], np.float32)
        return Judgement(policy, float(len(memory)), [policy])


class Noted(Frozen):
    """A frozen world that notes where it was begun."""

    def __init__(self, environment: Any) -> None:
        super().__init__(observation_spec=environment.observation_spec, action_spec=environment.action_spec)
        self.starts: list[Start] = []

    def begin(self, start: Start, *, seed: int) -> Any:
        self.starts.append(start)
        return super().begin(start, seed=seed)


def real(*, warm_up: int = 5, seed: int = 0, env: str = ENV) -> RealEnvironment:
    return RealEnvironment(envs.make(env, num_envs=1, seed=seed), pilot=Balance(), warm_up=warm_up)


def table(*, warm_up: int = 5, seed: int = 0) -> Session:
    """A session; its environments need no closing."""
    reality, other = real(warm_up=warm_up, seed=seed), envs.make(ENV, num_envs=1, seed=7)
    worlds = {"dream": Truth(other), "reality": reality, "frozen": Noted(other)}
    keymap = Keymap(reality.action_spec, names=known_names(ENV))
    return Session(worlds, reality=reality, pilot=Balance(), keymap=keymap, set_temperature=lambda _: None, seed=0)
