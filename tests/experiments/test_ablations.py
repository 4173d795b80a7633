"""Suites with variants, and counting what they are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments import ablations
from experiments.scores.run import Run
from experiments.sweep.results import COLUMNS, put_rows
from experiments.sweep.suites import SuiteError, load_suite
from experiments.sweep.trials import plan_trials

GOOD = "protocol: classic\nsteps: 1k_agent\nseeds: 0-1\ntasks: [CartPole-v1]\noverrides: {train_ratio: 8}\n"


def test_every_variant_is_trained_with_every_seed(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + "variants: {plain: , deep: {behavior: {horizon: 50}}, eager: {train_ratio: 64}}\n")
    suite = load_suite(str(path))
    trials = plan_trials(suite, out=tmp_path / "runs", flags=("--size", "1m"), seeds=suite.seeds)
    assert [(trial.seed, trial.variant) for trial in trials] == [
        (seed, variant) for seed in (0, 1) for variant in ("plain", "deep", "eager")
    ]
    plain, deep, eager = (trial.config for trial in trials[:3])
    assert (plain.train_ratio, deep.train_ratio, eager.train_ratio) == (8, 8, 64)
    assert (plain.behavior.horizon, deep.behavior.horizon) == (15, 50)
    assert len({trial.folder for trial in trials}) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: [a, b]\n", "variants must be names"),
        ("variants: {a: 3}\n", "variants must be names"),
        ("variants: {../a: }\n", "become folders"),
    ],
)
def test_variants_that_are_none_are_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + text)
    with pytest.raises(SuiteError, match=message):
        load_suite(str(path))


@pytest.mark.parametrize("name", ablations.SUITES)
def test_the_ablations_change_one_thing_each(name: str):
    """Beside the first, which changes nothing."""
    suite = load_suite(name)
    first, *others = suite.variants.values()
    assert not first
    assert all(len(changes) == 1 for changes in others)


def episodes(scores: list[float], *, length: int = 100) -> Run:
    frames = np.arange(1, len(scores) + 1) * length
    return Run("ours", "classic", "CartPole-v1", 0, frames, np.array(scores))


CARTPOLE = ablations.SUITES["ablations"]


def test_solved_is_when_five_episodes_in_a_row_are_good():
    bad, good = [20.0] * 15, [200.0] * 15
    seed = ablations.judge(episodes(bad + good), CARTPOLE)
    # The mean of five is 195 only when all five are good: four would give (4 x 200 + 20) / 5.
    assert seed.steps == 20 * 100
    assert ablations.judge(episodes(bad), CARTPOLE).steps is None
    assert ablations.judge(episodes(good[:4]), CARTPOLE).steps is None


def test_what_was_solved_can_be_lost_again():
    seed = ablations.judge(episodes([20.0] * 5 + [200.0] * 5 + [20.0] * 5 + [110.0] * 5), CARTPOLE)
    assert seed.steps == 1000
    assert (seed.last, seed.lowest) == (pytest.approx(110.0), pytest.approx(20.0))


def test_a_run_that_went_on_for_longer_is_cut():
    run = ablations.cut(episodes([20.0] * 60), load_suite("ablations"))
    assert (run.frames[-1], len(run.scores)) == (5000, 50)


def test_the_command_counts_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for variant, good_from in (("as_published", 10), ("horizon_5", 20), ("train_ratio_64", 99)):
        for seed in (0, 1):
            rows = [
                dict.fromkeys(COLUMNS, "") | {"seed": str(seed), "agent_steps": str(step), "env_frames": str(step),
                 "updates": "1", "score": "200" if index >= good_from else "20", "length": "100"}
                for index, step in enumerate(range(100, 4100, 100))
            ]  # fmt: skip
            put_rows(tmp_path / variant / "CartPole-v1.csv", rows)
    assert ablations.main(["--results", str(tmp_path)]) == 0
    lines = (tmp_path / "steps_to_solve.csv").read_text().splitlines()
    assert "as_published,0,1500,4000,200,200" in lines
    assert "horizon_5,1,2500,4000,200,200" in lines
    assert "train_ratio_64,0,,4000,20," in lines
    assert "not solved" in capsys.readouterr().out
    assert (tmp_path / "ablations.png").stat().st_size > 10_000


def test_without_tables_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert ablations.main(["--results", str(tmp_path)]) == 1
    assert "experiments.sweep ablations" in capsys.readouterr().err
