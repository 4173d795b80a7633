"""The benchmark counts what it says, and runs from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark.counting import update_cost
from experiments.benchmark.workloads import WORKLOADS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "by_hand"), [("proprio-1m", 28e9), ("proprio-12m", 0.44e12), ("atari100k-12m", 1.36e12)]
)
def test_operations_are_those_counted_by_hand(name: str, by_hand: float):
    """Figures counted independently of this code, in which small layers were left out."""
    assert update_cost(WORKLOADS[name].define()).operations == pytest.approx(by_hand, rel=0.06)


def test_a_rewrite_is_not_charged():
    """Counts follow from shapes of parameters and data alone: batch and length scale them, nothing else."""
    small, large = (
        WORKLOADS["proprio-1m"].define({"replay": {"batch_size": size, "batch_length": 32}}) for size in (4, 8)
    )
    assert update_cost(large).operations == pytest.approx(2 * update_cost(small).operations)
    assert update_cost(large).bytes < 2 * update_cost(small).bytes  # the optimizer's pass does not grow


@pytest.mark.slow
def test_command(tmp_path: Path):
    """One workload, few updates: the table is printed and the file holds every figure that it names."""
    command = [sys.executable, "-m", "experiments.benchmark", "proprio-1m", "--out", str(tmp_path), "--updates", "5"]
    command += ["--seconds", "1", "--loop", "0"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "proprio-1m.json").read_text())
    assert "proprio-1m" in done.stdout
    assert "floor" in done.stdout
    assert 0 < result["share_of_floor"] < 1.5
    assert result["policy_1"]["p50_ms"] <= result["policy_1"]["p95_ms"] <= result["policy_1"]["p99_ms"]


def test_unknown_workload():
    """Bad input names what there is."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmark", "proprio"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "proprio-1m" in done.stderr
