"""What runs log, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import training_logs
from experiments.scores.run import ScoresError

ROWS = [
    {"env_frames": 400},  # before the first update
    {"env_frames": 600, "value": 1.0, "loss/reconstruction/a": 2.0, "loss/reconstruction/b": 3.0},
    {"env_frames": 1000, "value": 3.0, "loss/reconstruction/a": 4.0, "loss/reconstruction/b": 5.0},
    {"env_frames": 2001, "value": 7.0, "loss/reconstruction/a": 1.0, "loss/reconstruction/b": 1.0},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    return folder


def test_rows_of_a_bin_have_one_mean_and_parts_of_an_observation_one_sum(run: Path):
    log = training_logs.read(run)
    assert log["env_frames"].tolist() == [1000, 3000]
    assert log["value"].tolist() == [2.0, 7.0]
    assert log["loss/reconstruction"].tolist() == [7.0, 2.0]
    assert "policy_entropy" not in log


def test_what_the_command_leaves_is_what_it_takes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert training_logs.main([f"ours={run}", "--out", str(tmp_path)]) == 0
    again, log = training_logs.read(tmp_path / "ours.csv"), training_logs.read(run)
    assert again.keys() == log.keys()
    assert all(np.array_equal(again[name], log[name]) for name in log)
    assert training_logs.main([f"a={run}", f"b={tmp_path / 'ours.csv'}", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "b.csv").exists()
    assert (tmp_path / "training_logs.png").stat().st_size > 10_000
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " a " in line or " b " in line]
    assert len(lines) == 4


@pytest.mark.parametrize(("spec", "message"), [("run", "NAME=RUN"), ("a=nowhere", "cannot be read")])
def test_what_is_no_run_is_told(spec: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert training_logs.main([spec, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_run_without_an_update_is_told(run: Path):
    (run / "metrics.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(ScoresError, match="holds no row"):
        training_logs.read(run)


def test_a_run_that_still_trains_is_read_to_its_last_whole_line(run: Path):
    whole = training_logs.read(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(ROWS[-1])[:20])
    assert training_logs.read(run)["value"].tolist() == whole["value"].tolist()


def test_a_broken_line_is_told_by_its_number(run: Path):
    with (run / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(ScoresError, match=r"metrics\.jsonl line 5 cannot be read"):
        training_logs.read(run)
