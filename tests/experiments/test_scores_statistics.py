"""Aggregates by hand, intervals against known answers and against rliable."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.scores import statistics
from experiments.scores.comparison import compare
from experiments.scores.protocol import SUITES
from experiments.scores.published import published

TASKS, SEEDS = 8, 10


def arrays(*tasks: list[float]) -> list[np.ndarray]:
    return [np.array(task) for task in tasks]


def test_mean_and_median_are_over_tasks_however_many_seeds_each_has():
    scores = arrays([0.0, 2.0], [3.0], [5.0, 5.0, 8.0])
    assert statistics.mean(scores) == pytest.approx((1 + 3 + 6) / 3)
    assert statistics.median(scores) == 3.0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (arrays([7.0, 0.0, 3.0, 4.0], [1.0, 2.0, 5.0, 6.0]), 3.5),  # of 0..7 the middle four
        (arrays([0.0, 1.0, 2.0], [100.0, 3.0]), 2.0),  # of five one is cut at each end
        (arrays([1.0], [2.0], [6.0]), 3.0),  # of three none is
    ],
)
def test_interquartile_mean(scores, expected):
    assert statistics.interquartile_mean(scores) == pytest.approx(expected)


def test_optimality_gap_counts_what_is_below_one_and_gives_no_credit_above():
    assert statistics.optimality_gap(arrays([0.5, 7.0], [-0.5])) == pytest.approx((0.5 + 0.0 + 1.5) / 3)


def test_probability_of_improvement_counts_all_pairs_and_halves_ties():
    ours, theirs = arrays([1.0, 2.0], [5.0]), arrays([1.0, 3.0], [4.0])
    assert statistics.probability_of_improvement(ours, theirs) == pytest.approx((1.5 / 4 + 1.0) / 2)
    assert statistics.probability_of_improvement(theirs, ours) == pytest.approx(1 - (1.5 / 4 + 1.0) / 2)


def test_profile_is_the_part_of_runs_above_a_threshold():
    scores = arrays([0.0, 1.0], [0.5, 2.0])
    assert statistics.profile(scores, np.array([-1.0, 0.0, 0.7, 2.0])).tolist() == [1.0, 0.75, 0.5, 0.0]


def test_seeds_are_drawn_within_their_task():
    """Each of two constant tasks keeps its value in every sample, so only a mix-up of tasks could spread the mean."""
    samples = statistics.bootstrap(arrays([1.0, 1.0, 1.0], [5.0, 5.0]), statistics.mean, resamples=700)
    assert samples.shape == (700,)
    assert set(samples) == {3.0}
    # A task with the seeds 0 and 2 gives 0, 1 and 2 with chances 1/4, 1/2 and 1/4.
    drawn = statistics.bootstrap(arrays([0.0, 2.0]), statistics.mean, resamples=4000)
    assert [np.mean(drawn == value) for value in (0.0, 1.0, 2.0)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_a_long_bootstrap_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys):
    statistics.bootstrap(arrays([0.0, 2.0]), statistics.mean, resamples=1000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(statistics, "_PATIENCE", 0.0)
    statistics.bootstrap(arrays([0.0, 2.0]), statistics.mean, resamples=1000)
    assert "bootstrap: 500 of 1,000 resamples" in capsys.readouterr().err


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """Normal scores, whose mean, and whose chance to beat another normal, are known."""
    random = np.random.default_rng(1)
    centers = np.linspace(0.2, 1.6, TASKS)
    repetitions, held, better_held = 300, 0, 0
    better = 0.5 * (1 + math.erf(0.3 / 2))  # of two normals of spread 1 whose centers are 0.3 apart
    for _ in range(repetitions):
        ours = [random.normal(center, size=SEEDS) for center in centers]
        theirs = [random.normal(center - 0.3, size=SEEDS) for center in centers]
        low, high = statistics.interval(statistics.bootstrap(ours, statistics.mean, resamples=400))
        held += low <= centers.mean() <= high
        samples = statistics.bootstrap(
            [*ours, *theirs],
            lambda both: statistics.probability_of_improvement(both[:TASKS], both[TASKS:]),
            resamples=200,
        )
        low, high = statistics.interval(samples)
        better_held += low <= better <= high
    assert 0.90 <= held / repetitions <= 0.98
    assert 0.90 <= better_held / repetitions <= 0.98


def test_the_band_of_a_curve_needs_half_of_the_seeds():
    gap = math.nan
    curves = np.array([[1.0, 1.0, gap], [3.0, gap, gap], [5.0, gap, 5.0], [7.0, 5.0, gap]])
    mean, band = statistics.mean_and_band(curves)
    assert mean[:2].tolist() == [4.0, 3.0]
    assert np.isnan(mean[2])
    assert (band[0, 0], band[1, 0]) == pytest.approx((2.0, 6.0), abs=0.6)
    assert np.isnan(band[:, 2]).all()
    single, no_band = statistics.mean_and_band(np.array([[2.0, 4.0]]))
    assert single.tolist() == [2.0, 4.0]
    assert np.isnan(no_band).all()


# Printed by rliable 1.2.0 (arch 7.2.0, pandas 2) for the 16 tasks and 5 seeds of dmc_proprio, 20,000 resamples; and the
# probability that PPO improves on DreamerV3, 5,000 resamples.
RLIABLE = {
    "mean": (0.734689, 0.7040, 0.7626),
    "median": (0.824493, 0.7838, 0.8853),
    "IQM": (0.844811, 0.8121, 0.8723),
    "optimality gap": (0.265311, 0.2374, 0.2960),
}
RLIABLE_IMPROVEMENT = (0.0475, 0.01875, 0.0825)


def test_the_figures_are_those_of_rliable():
    runs = [*published("ppo", "dmc_proprio"), *published("dreamerv3", "dmc_proprio")]
    comparison = compare(runs, SUITES["dmc_proprio"], against="dreamerv3")
    found = statistics.aggregates(comparison.normalised("dreamerv3", comparison.common))
    for name, (value, low, high) in RLIABLE.items():
        assert found[name].value == pytest.approx(value, abs=1e-6)
        assert found[name][1:] == pytest.approx((low, high), abs=2e-3)
    assert comparison.improvements()["ppo"] == pytest.approx(RLIABLE_IMPROVEMENT, abs=2e-3)
