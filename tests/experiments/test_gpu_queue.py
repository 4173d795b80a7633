"""The queue of trainings for a GPU: real trainings, in miniature, on the CPU."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmark.workloads import WORKLOADS
from experiments.gpu import queue
from experiments.sweep.results import COLUMNS
from experiments.sweep.trials import Trial


def test_the_order_of_worth_and_the_published_settings(tmp_path: Path):
    trials = [queue.plan(job, tmp_path, miniature=False) for job in queue.JOBS]
    assert [str(job) for job in queue.JOBS][:4] == [
        "atari100k_pong-12m", "atari100k_pong-200m", "atari100k_breakout-12m", "atari100k_breakout-200m",
    ]  # fmt: skip
    assert trials[0].total_steps == 100_000
    assert {trial.config.train_ratio for trial in trials[:6]} == {128}
    walker = next(trial for job, trial in zip(queue.JOBS, trials, strict=True) if job.task == "dmc_walker_walk")
    assert (walker.config.train_ratio, walker.total_steps) == (512, 250_000)
    assert len({trial.folder for trial in trials}) == len(queue.JOBS)


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(queue, "gpu_facts", lambda names: {})
    assert queue.main(["--runs", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--miniature" in capsys.readouterr().err


def test_what_came_back_becomes_tables(tmp_path: Path):
    row = dict.fromkeys(COLUMNS, "") | {"seed": "0", "agent_steps": "9", "size": "12m", "score": "-20.0"}
    packed = tmp_path / "episodes.csv"
    with packed.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["suite", "task", *COLUMNS])
        writer.writeheader()
        writer.writerow({"suite": "atari100k", "task": "atari100k_pong", **row})
        writer.writerow({"suite": "dmc_proprio", "task": "dmc_walker_walk", **row})
    tables = queue.unpack(packed, tmp_path / "results")
    assert tables == [
        tmp_path / "results/gpu_12m/atari100k/atari100k_pong.csv",
        tmp_path / "results/gpu_12m/dmc_proprio/dmc_walker_walk.csv",
    ]
    with tables[0].open(newline="") as file:
        assert list(csv.DictReader(file)) == [row]


def finish(trial: Trial) -> None:
    """Leaves what a sweep takes for the end of a run: its last checkpoint, whole."""
    last = trial.folder / "checkpoints" / str(trial.total_steps)
    last.mkdir(parents=True)
    (last / "manifest.json").touch()
    (trial.folder / "episodes.csv").touch()


def test_throughput_is_asked_for_when_nothing_is_left_to_train(tmp_path: Path, capsys):
    command = ["--miniature", "--slice-minutes", "0", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert queue.main(command) == 0
    assert "update-" not in capsys.readouterr().out
    for job in queue.JOBS:
        finish(queue.plan(job, tmp_path / "runs", miniature=True))
    assert queue.main(command) == 0
    told = capsys.readouterr().out
    assert all(f"update-{workload}" in told for workload in WORKLOADS), told


def trial_of(command: str, folder: Path) -> Trial:
    """A run whose process does something else than training."""

    class Other(Trial):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", command]

    plain = queue.plan(queue.JOBS[0], folder, miniature=True)
    return Other(plain.task, plain.seed, plain.config, plain.flags, plain.folder)


def test_a_run_that_fails_makes_way_and_is_named(tmp_path: Path):
    failing = trial_of("import sys; sys.exit('error: no such device')", tmp_path)
    failed = queue.work({queue.JOBS[0]: failing}, tmp_path, deadline=time.monotonic() + queue.CLOSING + 50)
    assert failed == {queue.JOBS[0]: "exit code 1: error: no such device"}
    status = json.loads((tmp_path / queue.STATUS).read_text())["atari100k_pong-12m"]
    assert status["failed"] == failed[queue.JOBS[0]]
    assert status["is_finished"] is False


def test_one_that_does_not_stop_is_killed_in_time(tmp_path: Path):
    deaf = trial_of("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", tmp_path)
    began = time.monotonic()
    assert queue.train(deaf, seconds=1.5, deadline=began + 3) < 0
    assert time.monotonic() - began < 6


@pytest.mark.slow
def test_slices_of_real_trainings(tmp_path: Path):
    """The end of a slice stops a run, which saves; the next slices bring it, and the run after it, to their ends."""
    jobs = [job for job in queue.JOBS if str(job) in ("atari100k_pong-12m", "dmc_walker_walk-12m")]
    trials = {job: queue.plan(job, tmp_path / "runs", miniature=True) for job in jobs}
    first = trials[jobs[0]]
    code = queue.train(first, seconds=12, deadline=time.monotonic() + 120)
    assert code == queue.SAVED, first.log.read_text()
    for _ in range(4):
        assert not queue.work(trials, tmp_path, deadline=time.monotonic() + queue.CLOSING + 240)
        if all(trial.is_finished for trial in trials.values()):
            break
    status = json.loads((tmp_path / queue.STATUS).read_text())
    assert [job["agent_steps"] for job in status.values()] == [400, 400]
    with (tmp_path / queue.EPISODES).open(newline="") as file:
        assert all(int(row["agent_steps"]) <= 400 for row in csv.DictReader(file))
