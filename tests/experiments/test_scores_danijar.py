"""Folders of danijar/dreamerv3 as RUNs, their rows as commit e3f0224 writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import table, training_logs
from experiments.scores import own
from experiments.scores.run import ScoresError
from tests.experiments.result_files import write_run

CONFIG: dict[str, Any] = {
    "task": "dmc_cartpole_balance",
    "seed": 3,
    "agent": {"dyn": {"typ": "rssm", "rssm": {"deter": 512}}},
    "env": {"dmc": {"proprio": True, "image": False, "repeat": 2}},
}
TRAINING = {
    "train/val": 2.0, "train/ret": 0.5, "train/rew": 0.1, "train/ent/action": 1.3, "train/dyn_ent": 41.0,
    "train/loss/dyn": 4.0, "train/loss/rep": 4.0, "train/loss/rew": 5.0, "train/loss/con": 0.7, "train/loss/value": 0.7,
    "train/loss/policy": 0.0, "train/loss/repval": 11.0, "train/loss/position": 2.0, "train/loss/velocity": 3.0,
}  # fmt: skip


def write(folder: Path, rows: list[dict[str, float]], **changes: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes))
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "scores.jsonl").write_text("".join(line for line in lines if "episode/score" in line))
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def episodes(*pairs: tuple[int, float]) -> list[dict[str, float]]:
    return [{"step": step, "episode/score": score} for step, score in pairs]


def test_scores_task_seed_and_size(tmp_path: Path):
    (run,) = own.read(write(tmp_path / "theirs", episodes((1002, 10.0), (2004, 20.0))), method="theirs")
    assert (run.method, run.suite, run.task, run.seed) == ("theirs", "dmc_proprio", "cartpole_balance", 3)
    assert (run.frames.tolist(), run.scores.tolist()) == ([1002, 2004], [10, 20])
    assert (run.facts.env, run.facts.size) == ("dmc_cartpole_balance", "1m")


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("dmc_cup_catch", {"proprio": False, "image": True}, ("dmc_vision", "ball_in_cup_catch")),
        ("atari100k_pong", {"proprio": True, "image": True}, ("atari100k", "pong")),
        ("gym_CartPole-v1", {}, ("gymnasium", "CartPole-v1")),
    ],
)
def test_its_tasks_have_our_names(task: str, settings: dict[str, bool], expected: tuple[str, str], tmp_path: Path):
    (run,) = own.read(write(tmp_path / "theirs", episodes((4, 1.0)), task=task, env={"dmc": settings}), method="theirs")
    assert (run.suite, run.task) == expected


def test_what_was_done_again_after_a_restart_counts_once(tmp_path: Path):
    rows = episodes((1002, 1.0), (2004, 2.0), (3006, 3.0), (2004, 20.0), (3006, 30.0))
    (run,) = own.read(write(tmp_path / "theirs", rows), method="theirs")
    assert (run.frames.tolist(), run.scores.tolist()) == ([1002, 2004, 3006], [1, 20, 30])


def test_a_run_without_an_episode_and_one_that_writes_its_last_line(tmp_path: Path):
    folder = write(tmp_path / "theirs", [])
    (folder / "scores.jsonl").unlink()
    (run,) = own.read(folder, method="theirs")
    assert len(run.frames) == 0
    (folder / "scores.jsonl").write_text('{"step": 1002, "episode/score": 1.0}\n{"step": 20')
    (run,) = own.read(folder, method="theirs")
    assert run.frames.tolist() == [1002]


def test_one_table_of_their_folders_and_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs = [(1002 * (episode + 1), 100.0) for episode in range(60)]
    write(tmp_path / "theirs" / "seed3", episodes(*pairs))
    write_run(tmp_path / "ours", "dmc_cartpole_balance", 0, [(frames, 300.0) for frames, _ in pairs])
    folders = [f"theirs={tmp_path / 'theirs'}", str(tmp_path / "ours")]
    assert table.main([*folders, "--against", "dreamerv3", "--at", "60k"]) == 0
    assert re.search(
        r"cartpole_balance +\| +60,000 \* \| +100.0 \(1\) \| +300.0 \(1\) \| 578.9", capsys.readouterr().out
    )


def test_training_logs_have_our_names(tmp_path: Path):
    rows = [{"step": 1002, "episode/score": 1.0}, {"step": 2440, **TRAINING}]
    log = training_logs.read(write(tmp_path / "theirs", rows))
    assert {name: values.tolist() for name, values in log.items()} == {
        "env_frames": [3000], "value": [2.0], "scaled_return": [0.5], "imagined_reward": [0.1],
        "policy_entropy": [1.3], "loss/dynamics": [4.0], "prior_entropy": [41.0], "loss/reconstruction": [5.0],
        "loss/reward": [5.0], "loss/replay_value": [11.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        ({"env": {"dmc": {"proprio": True, "image": True}}}, "", "vectors and pictures of dmc_cartpole_balance"),
        ({"seed": None}, "", "names no seed"),
        ({}, "nonsense\n", "line 1 cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_told(changes: dict[str, object], line: str, message: str, tmp_path: Path):
    folder = write(tmp_path / "theirs", [], **changes)
    (folder / "scores.jsonl").write_text(line)
    with pytest.raises(ScoresError, match=message):
        own.read(folder, method="theirs")
