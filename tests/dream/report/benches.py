"""A bench around the real CartPole: a second copy of the environment as a model that knows everything, and controls."""

from __future__ import annotations

from dreamer.agent import Agent
from dreamer.dream.controls import ActionBlind, Frozen
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.simulation import Simulation, Start
from dreamer.dream.starts import PlayedStarts
from envs.environment import Environment
from tests.dream.agents import single


def make_cartpole(seed: int) -> Environment:
    return single("CartPole-v1", seed=seed)


def starts(num: int) -> Start:
    return PlayedStarts(make_cartpole, agent=None, context=4, spacing=5).draw(num, seed=0)


def bench_of(model: Simulation, start: Start, *, agent: Agent | None = None) -> Bench:
    """A model that is put to the test on CartPole."""
    models: dict[str, Simulation] = {
        MODEL: model,
        BLIND: ActionBlind(OnceOnly(make_cartpole)),
        FROZEN: Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec),
    }
    return Bench(models, OnceOnly(make_cartpole), start, 0, agent, make_cartpole, print)
