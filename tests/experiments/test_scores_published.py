"""The published scores, read as any other runs are, give the published figures."""

from __future__ import annotations

import pytest

from experiments.scores import statistics
from experiments.scores.comparison import compare
from experiments.scores.protocol import SUITES, score_at, training_score
from experiments.scores.published import METHODS, published, suites_of
from experiments.scores.run import ScoresError


@pytest.mark.parametrize(
    ("method", "suite", "tasks", "mean", "median"),
    [
        ("dreamerv3", "atari100k", 26, "124.7", "49.4"),
        ("dreamerv3", "dmc_proprio", 16, "734.7", "824.5"),
        ("dreamerv3", "dmc_vision", 20, "782.4", "854.3"),
        ("dreamerv3", "atari57", 57, "3381", "830"),
        ("muzero", "atari57", 57, "2937", "693"),
    ],
)
def test_the_published_aggregates(method, suite, tasks, mean, median):
    comparison = compare(published(method, suite), SUITES[suite])
    scores = comparison.normalised(method, comparison.common)
    assert len(scores) == tasks
    decimals = len(mean.partition(".")[2])
    assert f"{SUITES[suite].points * statistics.mean(scores):.{decimals}f}" == mean
    assert f"{SUITES[suite].points * statistics.median(scores):.{decimals}f}" == median


def test_atari100k_pools_122_runs_and_names_the_others():
    comparison = compare(published("dreamerv3", "atari100k"), SUITES["atari100k"])
    estimates = comparison.aggregates()["dreamerv3"]
    assert f"{estimates['IQM'].value:.1f}" == "46.3"
    assert f"{estimates['optimality gap'].value:.1f}" == "51.3"
    assert sum(len(row.scores["dreamerv3"]) for row in comparison.rows) == 122
    assert comparison.missing() == [
        "dreamerv3: no score of 8 of 130 runs: crazy_climber 1, gopher 1, kung_fu_master 1, pong 1, up_n_down 4.",
        "dreamerv3: one seed only, which an interval takes for certain: up_n_down.",
    ]


def test_the_tasks_that_were_not_released_are_named():
    comparison = compare(published("dreamerv3", "dmc_proprio"), SUITES["dmc_proprio"])
    assert comparison.missing() == ["dreamerv3: no score for 2 of 18 tasks: finger_spin, reacher_easy."]


def test_the_last_bin_of_the_curves_is_the_stated_score():
    """Two files of the source that must agree: read at 400k frames and by the protocol."""
    suite = SUITES["atari100k"]
    compared = 0
    for run in published("dreamerv3", "atari100k"):
        stated = training_score(run, suite)
        if stated is not None and len(run.frames):
            assert score_at(run, suite, 400_000) == pytest.approx(stated, rel=1e-5)
            compared += 1
    assert compared == 112  # boxing and krull have no curves


def test_every_method_has_a_suite():
    assert {method: set(suites_of(method)) for method in METHODS} == {
        "dreamerv3": {"atari100k", "atari57", "dmc_proprio", "dmc_vision"},
        "ppo": {"atari100k", "dmc_proprio"},
        "muzero": {"atari57"},
    }


def test_a_method_without_scores_for_a_suite_is_refused():
    with pytest.raises(ScoresError, match="muzero has no scores for atari100k, only for atari57"):
        published("muzero", "atari100k")
