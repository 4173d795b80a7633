"""Every metric on the real CartPole: a model that is the environment reaches the ceiling, controls are at chance."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from dreamer.dream.report import causal, execution, interactive, realtime, trustworthy, useful
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, ORACLE, OTHER_START, TRUTH, Quantity
from dreamer.dream.report.futures import HORIZONS, OnceOnly
from dreamer.dream.simulation import Outcome, Start
from tests.dream.agents import untrained
from tests.dream.report.benches import bench_of, make_cartpole, starts

NUM = 20


@pytest.fixture(scope="module")
def start() -> Start:
    return starts(NUM)


@pytest.fixture(scope="module")
def bench(start: Start) -> Bench:
    """The environment in the place of a model; an agent that was never trained acts."""
    return bench_of(OnceOnly(make_cartpole), start, agent=untrained("CartPole-v1"))


def by_key(quantities: list[Quantity]) -> dict[str, Quantity]:
    return {quantity.key: quantity for quantity in quantities}


def means(quantity: Quantity, name: str) -> list[float]:
    return [one.mean for one in quantity.values[name] if one is not None]


def test_causal(bench: Bench):
    found = by_key(causal.measure(bench))
    assert len(means(found["cda"], MODEL)) >= 3  # random futures rarely last 50 steps
    for name, chance in ((MODEL, 1), (TRUTH, 1), (BLIND, 0.5), (FROZEN, 0.5)):
        assert set(means(found["cda"], name)) == {chance}
    assert found["cda"].verdict() == "pass"
    assert found["cda"].x == HORIZONS
    assert means(found["bit_test"], MODEL) == means(found["bit_test"], TRUTH) == [1]


class Prescient(OnceOnly):
    """Shows what the next action will do: its reward is that of the action that comes after it."""

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        state, outcome = super().begin(start, seed=seed)
        self.pending: list[Outcome] = []
        return state, outcome

    def step(self, state: Any, action: np.ndarray) -> tuple[Any, Outcome]:
        state, outcome = super().step(state, action)
        self.pending.append(outcome)
        # A reward array that is filled in later, as by a model that renders several steps at once.
        if len(self.pending) > 1:
            self.pending[-2].reward[:] = action[:, 0]
        return state, outcome


def test_a_model_that_sees_the_future_fails_the_bit_test(start: Start):
    assert causal.bit_test(OnceOnly(make_cartpole), start, seed=0).min() == 1
    assert causal.bit_test(Prescient(make_cartpole), start, seed=0).mean() < 1


def test_interactive(bench: Bench):
    found = by_key(interactive.measure(bench))
    gap = found["gap"]
    assert means(gap, MODEL) == means(gap, TRUTH)
    assert min(means(gap, MODEL)) > 5
    assert {*means(gap, BLIND), *means(gap, FROZEN)} == {0}
    assert gap.verdict() == "measured"
    assert means(found["half_life"], MODEL) == means(found["half_life"], TRUTH)
    accuracy = found["inverse_dynamics"]
    assert means(accuracy, MODEL) == means(accuracy, TRUTH)
    assert means(accuracy, MODEL)[0] > 0.9
    for name in (BLIND, FROZEN):
        assert 0.3 < means(accuracy, name)[0] < 0.7


def test_useful(bench: Bench):
    found = by_key(useful.measure(bench))
    assert means(found["ranking"], MODEL) == means(found["ranking"], TRUTH) == [1]
    assert means(found["ranking"], BLIND) == means(found["ranking"], FROZEN) == [0]
    assert means(found["regret"], MODEL) == [0]
    assert means(found["regret"], BLIND)[0] > 0.2
    assert set(means(found["return_error"], MODEL)) == {0}
    assert means(found["return_error"], FROZEN)[0] == 1  # says 0 where the reward is 1
    assert means(found["usable_horizon"], MODEL) == [50]
    assert means(found["usable_horizon"], FROZEN) == [0]
    assert means(found["optimism_gap"], MODEL) == means(found["optimism_gap"], TRUTH) == [0]
    assert means(found["optimism_gap"], FROZEN)[0] < 0  # promises nothing of a task that rewards every step


def test_execution(bench: Bench):
    found = by_key(execution.measure(bench))
    assert means(found["success"], MODEL) == means(found["success"], TRUTH) == [1]
    assert means(found["success"], BLIND) == means(found["success"], FROZEN) == [0]
    assert means(found["optimism"], MODEL) == [0]
    assert found["success"].verdict() == "measured"


def test_trustworthy(bench: Bench):
    found = by_key(trustworthy.measure(bench))
    assert set(means(found["continue_calibration"], MODEL)) == {0}
    assert max(means(found["continue_calibration"], FROZEN)) > 0.01  # says that all goes on
    assert set(means(found["reward_calibration"], FROZEN)) == {1}
    assert not any(key.startswith("entropy") for key in found)  # the environment tells none


def test_the_simulation_lemma(bench: Bench):
    """A model that is the environment is not told from it; a frozen frame always is, and its error stays in bounds."""
    found = by_key(trustworthy.lemma(bench))
    distance, bound, error = (found[key] for key in ("one_step_distance", "value_bound", "value_error"))
    assert means(distance, MODEL) == means(distance, TRUTH) == [0]
    assert means(distance, FROZEN)[0] > 0.9
    assert distance.verdict() == "measured"
    assert set(means(bound, MODEL)) == set(means(error, MODEL)) == {0}
    pairs = list(zip(means(bound, FROZEN), means(error, FROZEN), strict=True))
    assert pairs[0] == (1, 1)
    assert all(0 < seen <= most for most, seen in pairs)
    assert "LOWER bound" in distance.note
    assert "LOWER bound" in bound.note


def test_entropy_that_tells_the_error_is_at_the_ceiling(bench: Bench):
    """A model that errs more the longer its numbers say so, and one whose entropy says nothing."""
    rng = np.random.default_rng(0)
    error = rng.uniform(0.1, 3, NUM)
    truth = bench.futures[TRUTH]
    shifted = {key: array + error[:, None].astype(np.float32) for key, array in truth.observation.items()}

    def measured(entropy: np.ndarray) -> dict[str, Quantity]:
        info = {"prior_entropy": np.broadcast_to(entropy, truth.reward.shape)}
        bench.futures[MODEL] = truth._replace(observation=shifted, info=info)
        return by_key(trustworthy.entropy(bench))

    kept = bench.futures[MODEL]
    try:
        knows, says_nothing = measured(error), measured(np.ones(NUM))
    finally:
        bench.futures[MODEL] = kept
    assert set(means(knows["entropy_rank"], MODEL)) == {1.0}
    assert set(means(knows["entropy_auroc"], ORACLE)) == {1.0}
    assert set(means(says_nothing["entropy_rank"], MODEL)) == {0.0}
    assert abs(np.mean(means(knows["entropy_rank"], OTHER_START))) < 0.6
    assert knows["entropy_rank"].verdict() == "measured"
    assert says_nothing["entropy_rank"].verdict() == "no better than a control"


class Growing:
    """A model whose step takes longer the more steps there were."""

    def __init__(self) -> None:
        inner = OnceOnly(make_cartpole)
        self.observation_spec, self.action_spec = inner.observation_spec, inner.action_spec

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Any]:
        return 0, None

    def step(self, state: int, action: np.ndarray) -> tuple[int, Any]:
        until = time.perf_counter() + state * 2e-6
        while time.perf_counter() < until:
            pass
        return state + 1, None


def test_a_cost_that_grows_is_seen(start: Start):
    seconds = realtime.cost_ratio(Growing(), start, seed=0, late=300, calls=20)
    assert realtime.median_ratio(seconds) > 5
    assert realtime.in_browser(lambda: [10.0, 20.0, 30.0, 40.0] * 5, seed=0).at(MODEL).mean == 40
    assert realtime.median_ratio(np.array([[3.0, 1.0], [4.0, 2.0], [9.0, 9.0]])) == 2
    assert len(realtime.step_seconds(OnceOnly(make_cartpole), start, seed=0, calls=5)) == 5
