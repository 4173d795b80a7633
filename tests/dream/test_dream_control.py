"""A controller found inside a world model balances the real pole, which it has never touched."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np

import dreamer
from dreamer.dream.env import DreamVectorEnv
from dreamer.dream.starts import History, join
from tests.dream.agents import single
from tests.dream.cma import maximize

AGENT = Path(__file__).parent / "data" / "cartpole_agent"
POPULATION, EPISODES, GENERATIONS, HORIZON = 12, 4, 8, 100
NUM = POPULATION * EPISODES


def returns(envs: gymnasium.vector.VectorEnv, weights: np.ndarray, *, seed: int | None = None) -> np.ndarray:
    """Returns of the first episode in each environment, `weights` `[N, 4]` pushing right where they sum up above 0."""
    observation, _ = envs.reset(seed=seed)
    total, is_open = np.zeros(len(weights)), np.ones(len(weights), bool)
    while is_open.any():
        action = (np.sum(weights * observation, axis=-1) > 0).astype(np.int64)
        observation, reward, terminated, truncated, _ = envs.step(action)
        total += reward * is_open
        is_open &= ~(terminated | truncated)
    return total


def test_cma_es_finds_in_a_dream_what_balances_the_real_pole():
    """What it learned in the dream is worth many times a random policy's 22 steps, and at least 195 of 500."""
    histories = [History(single("CartPole-v1").action_spec, length=1) for _ in range(NUM)]
    for seed, history in enumerate(histories):
        history.add(single("CartPole-v1", seed=seed).reset(), None)  # no real step is taken
    starts = join([history.start() for history in histories])
    dream = DreamVectorEnv(dreamer.load(AGENT), num_envs=NUM, starts=starts, horizon=HORIZON)
    dream.reset(seed=0)

    def value(candidates: np.ndarray) -> np.ndarray:
        return returns(dream, np.repeat(candidates, EPISODES, axis=0)).reshape(POPULATION, EPISODES).mean(-1)

    rng = np.random.default_rng(0)
    best = maximize(value, np.zeros(4), sigma=1.0, population=POPULATION, generations=GENERATIONS, rng=rng)
    real = gymnasium.make_vec("CartPole-v1", num_envs=20, vectorization_mode="sync")
    scores = returns(real, np.tile(best, (20, 1)), seed=1)
    real.close()
    dreamt = returns(dream, np.tile(best, (NUM, 1))).mean()
    print(f"real {scores.mean():.0f} of 500, dreamt {dreamt:.0f} of {HORIZON}")
    assert scores.mean() >= 195
    assert dreamt >= 0.5 * HORIZON


def test_cma_es_finds_a_maximum():
    """Of an ellipsoid with axes of very different length, turned."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    goal, stretch = np.array([1.0, -2.0, 0.5, 3.0]), np.array([1.0, 10.0, 100.0, 1000.0])

    def value(candidates: np.ndarray) -> np.ndarray:
        return -np.sum(stretch * ((candidates - goal) @ turn) ** 2, axis=-1)

    best = maximize(value, np.zeros(4), sigma=1.0, population=12, generations=120, rng=rng)
    np.testing.assert_allclose(best, goal, atol=1e-3)
