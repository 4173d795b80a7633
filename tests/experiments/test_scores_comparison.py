"""Runs of our own: reading them, and at which frames they are compared with whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.scores import own
from experiments.scores.comparison import Comparison, compare
from experiments.scores.protocol import SUITES
from experiments.scores.published import published
from experiments.scores.run import Run, ScoresError
from experiments.sweep import results as sweep_results
from tests.experiments.result_files import Episodes, write_results, write_run

ATARI = SUITES["atari100k"]


def run(task: str, seed: int, episodes: Episodes, *, method: str = "ours", suite: str = "atari100k") -> Run:
    frames, scores = zip(*episodes, strict=True) if episodes else ((), ())
    return Run(method, suite, task, seed, np.array(frames, dtype=float), np.array(scores, dtype=float))


def against_dreamerv3(*runs: Run, at: int | None = None) -> Comparison:
    return compare([*runs, *published("dreamerv3", "atari100k")], ATARI, against="dreamerv3", at=at)


def test_a_finished_run_has_the_score_of_the_window_and_no_other_episodes():
    episodes = [(200_000, 99.0), (389_999, 99.0), (390_000, 2.0), (399_000, 4.0), (400_004, 99.0)]
    (row,) = against_dreamerv3(run("breakout", 0, episodes)).rows
    assert row.frames is None
    assert row.scores["ours"].tolist() == [3.0]
    assert row.scores["dreamerv3"].mean() == pytest.approx(9.7, abs=0.05)


def test_an_unfinished_run_is_compared_at_its_own_frames():
    """At 127,000 frames the last whole bin ends at 120,000, and so does the reference's."""
    mine = run("breakout", 0, [(105_000, 1.0), (112_000, 2.0), (118_000, 4.0), (127_000, 50.0)])
    (row,) = against_dreamerv3(mine).rows
    assert row.frames == 120_000
    assert row.scores["ours"].tolist() == [3.0]
    bins = [
        float(r.scores[r.frames == 120_000][0]) for r in published("dreamerv3", "atari100k") if r.task == "breakout"
    ]
    assert sorted(row.scores["dreamerv3"]) == sorted(bins)


@pytest.mark.parametrize(("lengths", "frames"), [([1_002] * 59, 60_000), ([1_002] * 58 + [1_001], 50_000)])
def test_a_bin_is_whole_when_no_episode_of_a_fixed_length_can_still_end_in_it(lengths: list[int], frames: int):
    """The last one ends at 59,118; the next would at 60,120."""
    mine = run("cartpole_balance", 0, [(end, 1.0) for end in np.cumsum(lengths)], suite="dmc_proprio")
    assert compare([mine], SUITES["dmc_proprio"]).rows[0].frames == frames


def test_a_bin_without_an_episode_has_the_value_before_but_not_for_ever():
    mine = run("up_n_down", 0, [(10_000, 1.0), (20_000, 3.0), (300_000, 8.0)])
    assert against_dreamerv3(mine, at=120_000).rows[0].scores["ours"].tolist() == [3.0]
    assert "ours" not in against_dreamerv3(mine, at=150_000).rows[0].scores


def test_the_slower_half_of_the_seeds_does_not_hold_up_the_comparison():
    runs = [run("pong", seed, [(5_000, -21.0), (last, -seed)]) for seed, last in enumerate((90_000, 70_000, 11_000))]
    comparison = against_dreamerv3(*runs)
    assert comparison.rows[0].frames == 70_000
    assert sorted(comparison.rows[0].scores["ours"]) == [-21.0, -1.0]  # at 70k the first is still at its first episode
    assert "ours, pong: seed 2 ended its last episode at 11,000 frames." in comparison.missing()


def test_missing_tasks_and_seeds_are_named():
    done = [(395_000, 1.0)]
    runs = [run("pong", 0, done), run("pong", 1, [(388_000, 1.0)]), run("qbert", 0, done), run("qbert", 2, [])]
    missing = against_dreamerv3(*runs).missing()
    assert missing[0].startswith("ours: no score for 24 of 26 tasks: alien, amidar,")
    assert "ours, pong: seed 2 was not run; seed 1 ended its last episode at 388,000 frames." in missing
    assert "ours, qbert: seed 1 was not run; seed 2 has finished no episode." in missing
    assert "dreamerv3: no score of 1 of 10 runs: pong 1." in missing


def test_aggregates_are_over_the_tasks_that_all_have():
    """Boxing has no published curve: at the same frames nobody can be compared there."""
    runs = [run(task, 0, [(100_000, 10.0)]) for task in ("boxing", "pong", "qbert")]
    comparison = against_dreamerv3(*runs)
    assert [row.task for row in comparison.common] == ["pong", "qbert"]
    assert "dreamerv3: no score for 1 of 3 tasks: boxing." in comparison.missing()
    assert set(comparison.aggregates()) == {"ours", "dreamerv3"}


def test_a_task_without_a_published_protocol_has_its_last_twenty_episodes():
    episodes = [(100 * (index + 1), float(index)) for index in range(50)]
    comparison = compare([run("CartPole-v1", 0, episodes, suite="gymnasium")], SUITES["gymnasium"])
    assert comparison.rows[0].scores["ours"].tolist() == [np.mean(range(30, 50))]
    assert comparison.common == []


def test_the_same_seed_twice_is_refused_and_both_places_are_named(tmp_path: Path):
    for name in ("a", "b"):
        write_run(tmp_path / name, "atari100k_pong", 0, [(395_000, 1.0)])
    with pytest.raises(ScoresError, match=r"seed 0 of pong is there twice, in .*a/episodes.csv \(12m\) and in .*b/"):
        compare(own.read(tmp_path, method="ours"), ATARI)


def test_a_sweep_is_its_run_folders_and_a_run_without_an_episode_counts(tmp_path: Path):
    write_run(tmp_path / "pong" / "0", "atari100k_pong", 0, [(5_000, -21.0), (9_000, -20.0)])
    write_run(tmp_path / "pong" / "1", "atari100k_pong", 1, [])
    write_run(tmp_path / "walker" / "0", "dmc_vision_walker_walk", 0, [(1_000, 30.0)])
    (tmp_path / "pong" / "0" / "samples.csv").write_text("seconds,memory\n1,2\n")
    found = {(r.suite, r.task, r.seed, len(r.frames), r.facts.size) for r in own.read(tmp_path, method="ours")}
    assert found == {
        ("atari100k", "pong", 0, 2, "12m"),
        ("atari100k", "pong", 1, 0, "12m"),
        ("dmc_vision", "walker_walk", 0, 1, "12m"),
    }


def test_a_result_file_says_where_its_runs_come_from(tmp_path: Path):
    facts = {"wall_seconds": "7200", "commit": "abc1234", "device": "H200", "size": "12m", "config_hash": "77"}
    path = write_results(tmp_path / "dmc_vision" / "dmc_walker_walk.csv", {3: [(9_000, 2.0), (5_000, 1.0)]}, **facts)
    with path.open("a") as file:
        file.write("3,2500,10000")  # a row that is still being written
    (found,) = own.read(path, method="ours")
    assert (found.suite, found.task, found.seed) == ("dmc_vision", "walker_walk", 3)  # the folder names the suite
    assert (found.frames.tolist(), found.scores.tolist()) == ([5_000, 9_000], [1.0, 2.0])
    assert (found.facts.wall_seconds, found.facts.commits, found.facts.devices) == (7200.0, ("abc1234",), ("H200",))


def test_the_columns_are_those_that_a_sweep_writes():
    assert sweep_results.COLUMNS == own.COLUMNS
