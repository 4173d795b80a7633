"""The report of a model that was trained longer is the better one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamer import train
from dreamer.agent import load
from dreamer.dream.model import ModelSimulation
from dreamer.dream.report import causal, interactive
from dreamer.dream.report.estimate import MODEL, Estimate
from tests.dream.report.benches import bench_of, starts

CONFIG = ("--env", "CartPole-v1", "--preset", "debug", "--train-ratio", "128")


def measured(run: Path) -> dict[str, Estimate]:
    """CDA after 5 steps and the first gap, from the same starts under the same random actions."""
    bench = bench_of(ModelSimulation(load(run)), starts(24))
    five, first = causal.measure(bench)[0].values[MODEL][1], interactive.measure(bench)[0].at(MODEL)
    assert five is not None
    assert first is not None
    return {"cda": five, "gap": first}


@pytest.mark.slow
def test_a_model_trained_longer_scores_better(tmp_path: Path):
    found = {}
    for steps in (200, 2000):
        assert train.main([*CONFIG, "--steps", str(steps), "--logdir", str(tmp_path / str(steps))]) == 0
        found[steps] = measured(tmp_path / str(steps))
    early, late = found[200], found[2000]
    assert late["cda"].low > early["cda"].high
    assert late["cda"].mean > 0.65
    assert late["gap"].low > early["gap"].high
