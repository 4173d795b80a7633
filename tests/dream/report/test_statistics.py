"""Formulas against cases that can be worked out by hand, and intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.dream.report.distance import PSNR_CAP, WINDOW, Scale, ssim
from dreamer.dream.report.estimate import (
    BLIND,
    MODEL,
    TRUTH,
    Estimate,
    Quantity,
    auroc,
    bootstrap,
    calibration_error,
    mean_of,
    ranks,
    spearman,
)
from dreamer.dream.report.execution import carried_out, success_share
from dreamer.dream.report.futures import KEPT, Futures, expected_return
from dreamer.dream.report.interactive import first_effect, time_above
from dreamer.dream.report.lemma import return_bound, total_variation, value, value_bound
from dreamer.dream.report.twosample import told_apart
from dreamer.dream.report.twosample import total_variation as total_variation_of
from dreamer.dream.report.useful import LEVELS, optimism, regret_at_1, usable_horizon
from envs.spaces import DiscreteSpec, ImageSpec, VectorSpec


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_95_of_100_intervals_cover_the_truth(draw: str):
    rng = np.random.default_rng(0)
    true, samples = {
        "normal": (0.0, rng.normal(size=(400, 40))),
        "exponential": (1.0, rng.exponential(size=(400, 40))),
    }[draw]
    found = [bootstrap(sample, seed=index) for index, sample in enumerate(samples)]
    covered = np.mean([one.low <= true <= one.high for one in found if one is not None])
    assert 0.90 <= covered <= 0.975  # a percentile interval of 40 units covers a little less than it says


def test_what_is_missing_does_not_count():
    units = np.array([1.0, np.nan, 3.0] * 5)
    one = bootstrap(units, seed=0)
    assert one is not None
    assert one.mean == 2
    assert one.num == 10
    assert one == bootstrap(units, seed=0)
    assert bootstrap(units[:9], seed=0) is None  # six are left
    np.testing.assert_array_equal(
        mean_of(np.array([[1.0, 5.0], [3.0, 7.0]]), np.array([[True, False], [True, False]]), axis=0), [2, np.nan]
    )


def test_ranks_and_correlations():
    np.testing.assert_array_equal(ranks(np.array([10.0, 30.0, 20.0, 20.0])), [0, 3, 1.5, 1.5])
    one = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(one, one**3) == pytest.approx(1)
    assert spearman(one, -one) == pytest.approx(-1)
    assert spearman(one, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)
    assert spearman(one, np.ones(4)) == 0
    assert auroc(one, np.array([False, False, True, True])) == 1
    assert auroc(one, np.array([False, True, False, True])) == 0.75  # 3 of 4 pairs
    assert auroc(np.ones(4), np.array([False, True, False, True])) == 0.5
    assert auroc(one, np.zeros(4, bool)) == 0.5


def test_calibration_is_the_distance_between_promise_and_fact():
    promised = np.repeat([0.2, 0.8], 10)
    happened = np.concatenate([np.arange(10) < 2, np.arange(10) < 8]).astype(float)
    assert calibration_error(promised, happened) == pytest.approx(0)
    assert calibration_error(promised, 1 - happened) == pytest.approx(0.6)
    assert calibration_error(np.full(4, 0.5), np.array([1.0, 1.0, 1.0, 1.0])) == pytest.approx(0.5)


def test_distances_are_in_units_of_the_spread():
    spec = {"state": VectorSpec(2), "mode": DiscreteSpec((3,))}
    examples = {"state": np.array([[0.0, 7], [4, 7]], np.float32), "mode": np.zeros((2, 1), np.int32)}
    scale = Scale(spec, [examples])  # spread 2 and 0: the second component is not compared
    one = {"state": np.array([[1.0, 0]], np.float32), "mode": np.array([[1]], np.int32)}
    other = {"state": np.array([[5.0, 9]], np.float32), "mode": np.array([[2]], np.int32)}
    np.testing.assert_allclose(scale.distance(one, other), [(2.0**2 + 0 + 1) / 3])
    np.testing.assert_allclose(scale.psnr(one, other), [-10 * np.log10(5 / 3)])
    np.testing.assert_allclose(scale.psnr(one, one), [PSNR_CAP])


def test_images_are_compared_by_their_structure():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 12, 10, 3)).astype(np.uint8)
    x, y = one.astype(float).mean(-1), other.astype(float).mean(-1)
    values = []
    for row in range(12 - WINDOW + 1):
        for column in range(10 - WINDOW + 1):
            a, b = (image[row : row + WINDOW, column : column + WINDOW].ravel() for image in (x, y))
            covariance = np.mean((a - a.mean()) * (b - b.mean()))
            top = (2 * a.mean() * b.mean() + 6.5025) * (2 * covariance + 58.5225)
            values.append(top / ((a.mean() ** 2 + b.mean() ** 2 + 6.5025) * (a.var() + b.var() + 58.5225)))
    np.testing.assert_allclose(ssim(one, other), np.mean(values), rtol=1e-4)
    np.testing.assert_allclose(ssim(one, one), 1)
    scale = Scale({"image": ImageSpec(12, 10, 3)}, [])
    black, grey = np.zeros((1, 12, 10, 3), np.uint8), np.full((1, 12, 10, 3), 51, np.uint8)
    np.testing.assert_allclose(scale.psnr({"image": black}, {"image": grey}), [-20 * np.log10(0.2)])
    assert scale.distance({"image": black}, {"image": grey})[0] > 0.5


def futures(reward: np.ndarray, continue_prob: np.ndarray) -> Futures:
    return Futures({}, reward, continue_prob, continue_prob == 0, {})


def test_returns_stop_where_an_episode_does():
    reward, going_on = np.array([[[1.0], [2.0], [4.0]]]), np.array([[[1.0], [0.5], [0.0]]])
    np.testing.assert_allclose(expected_return(futures(reward, going_on))[0, :, 0], [1, 3, 5])


def test_half_life_and_usable_horizon():
    gaps = np.tile(np.linspace(10, 0, len(KEPT)), (3, 1))
    assert time_above(gaps, 0.5) == KEPT[7]  # the first that is below 5
    assert time_above(gaps * 0 + 1, 0.5) == KEPT[-1]
    assert time_above(-gaps, 0.5) == KEPT[0]
    late = np.concatenate([gaps[:, :2] * 0, gaps[:, :-2]], axis=1)  # actions show two steps later
    assert time_above(late, 0.5) == KEPT[0]
    assert time_above(late, 0.5, 2) == KEPT[9]
    assert first_effect([Estimate(0.0, 0.0, 0.0, 8), None, Estimate(3.0, 2.0, 4.0, 8)]) == 2
    assert first_effect([Estimate(0.1, -0.1, 0.3, 8), None]) == 0
    errors = np.array([[0.0, 0.04, 0.1, 0.0]] * 2)
    assert usable_horizon(errors) == 2
    assert usable_horizon(errors * 0) == 4
    assert usable_horizon(errors + 1) == 0


def test_regret_and_success():
    real = [0.0, 5.0, 10.0]
    assert regret_at_1(np.array([[1.0, 2.0, 3.0, *real]])) == 0
    assert regret_at_1(np.array([[1.0, 3.0, 2.0, *real]])) == 0.5
    assert regret_at_1(np.array([[1.0, 1.0, 1.0, *real]])) == 0.5  # knows nothing: the mean
    assert regret_at_1(np.zeros((1, 6))) == 0
    promised, came = np.array([[1.0, 2.0, 2.0]]), np.array([[9.0, 4.0, 6.0]])
    np.testing.assert_array_equal(carried_out(promised, came), [5])
    assert success_share(np.array([[6.0, 4.0, 8.0]])) == 0.5
    assert success_share(np.array([[4.0, 4.0, 4.0]])) == 0


def quantity(model: float, control: float, *, level: float | None = None) -> Quantity:
    def around(mean: float) -> list[Estimate | None]:
        return [Estimate(mean, mean - 0.1, mean + 0.1, 20)]

    return Quantity(
        "key", "title", "unit", {MODEL: around(model), BLIND: around(control), TRUTH: around(1.0)}, level=level
    )


def test_a_verdict_needs_controls_that_separate():
    assert quantity(0.95, 0.5).verdict() == "measured"
    assert quantity(0.95, 0.5, level=0.9).verdict() == "pass"
    assert quantity(0.85, 0.5, level=0.9).verdict() == "below level"
    assert quantity(0.95, 0.9, level=0.9).verdict() == "not measurable"
    assert quantity(0.55, 0.5, level=0.9).verdict() == "no better than a control"
    assert quantity(0.95, 0.5)._replace(values={MODEL: [None], TRUTH: [None]}).verdict() == "not measurable"
    assert quantity(0.95, 0.5)._replace(values={MODEL: [Estimate(1, 1, 1, 9)]}).verdict() == "not measurable"


@pytest.mark.parametrize("discount", [0.9, 0.99, 1 - 1 / 333])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 1e-1])
@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_the_bound_is_reached_by_two_states(discount: float, epsilon: float, least: float):
    reward = np.array([1.0, least])
    stays = np.eye(2)
    leaves = np.array([[1 - epsilon, epsilon], [0, 1]])
    assert total_variation(stays, leaves) == pytest.approx(epsilon)
    gap = value(stays, reward, discount=discount) - value(leaves, reward, discount=discount)
    bound = value_bound(epsilon=epsilon, discount=discount, reward_range=1.0 - least)
    assert gap[0] == pytest.approx(bound, rel=1e-9)
    assert bound <= (1 - least) / (1 - discount)


@pytest.mark.parametrize(("discount", "epsilon"), [(0.9, 0.1), (0.99, 0.01), (1 - 1 / 333, 1.0)])
def test_the_bound_of_many_steps_is_that_without_an_end(discount: float, epsilon: float):
    bound = return_bound(epsilon=epsilon, discount=discount, reward_range=2.0, steps=20_000)
    assert bound * discount == pytest.approx(value_bound(epsilon=epsilon, discount=discount, reward_range=2.0))
    assert return_bound(epsilon=epsilon, discount=discount, reward_range=2.0, steps=1) == pytest.approx(2 * epsilon)


def test_a_classifier_finds_no_more_than_there_is():
    """Gaussians: equal ones are told apart by chance only, shifted ones by no more than their total variation."""
    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(2, 2000, 5))
    shifted = same + np.array([1.0, 0, 0, 0, 0])
    assert total_variation_of(told_apart(one, same, seed=0)) < 0.06  # two standard deviations of 2000 answers
    assert set(told_apart(one, one, seed=0)) == {0.5}
    found, true = total_variation_of(told_apart(one, shifted, seed=0)), 0.3829  # 2 * Phi(1 / 2) - 1
    assert 0.8 * true < found < true + 0.06


def test_a_thousand_random_processes_stay_within_the_bound():
    rng = np.random.default_rng(0)
    closest = 0.0
    for _ in range(1000):
        states, discount = int(rng.integers(2, 7)), float(rng.uniform(0.5, 0.99))
        true, other = rng.dirichlet(np.full(states, 0.5), size=(2, states))
        model = true + rng.uniform(0, 1) ** 3 * (other - true)
        reward = rng.uniform(-1, 1, states)
        noise = rng.uniform(-0.1, 0.1, states) * rng.integers(2)
        gap = np.abs(value(true, reward, discount=discount) - value(model, reward + noise, discount=discount)).max()
        spread = float(max(np.ptp(reward), np.ptp(reward + noise)))
        bound = value_bound(
            epsilon=total_variation(true, model),
            discount=discount,
            reward_range=spread,
            reward_error=float(np.abs(noise).max()),
        )
        assert gap <= bound + 1e-9
        closest = max(closest, gap / bound)
    assert closest > 0.5  # so that the test would notice a bound that is half as large


def test_the_optimism_gap_by_hand():
    """The agent is thought to reach 14 and reaches 9; the best of its versions 10, random actions 5."""
    real = np.tile(np.linspace(9, 5, len(LEVELS)), (8, 1))
    real[:, 1] = 10
    fooled = np.full_like(real, 14)
    found = optimism({MODEL: fooled, TRUTH: real}, seed=0)
    assert found.at(MODEL) == Estimate(1.0, 1.0, 1.0, 8)
    assert found.at(TRUTH) == Estimate(0.0, 0.0, 0.0, 8)
    assert "better than random actions: 5." in found.note
    assert "uncertain" not in found.note


def test_the_optimism_gap_has_no_unit_where_random_actions_are_best():
    real = np.tile(np.linspace(5, 9, len(LEVELS)), (8, 1))
    found = optimism({MODEL: real + 1, TRUTH: real}, seed=0)
    assert found.at(MODEL) is None
    real = np.random.default_rng(0).normal(size=(8, len(LEVELS)))  # policies that hardly differ
    assert "uncertain" in optimism({MODEL: real + 1, TRUTH: real}, seed=0).note
