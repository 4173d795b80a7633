"""When a run measures its world model, what it keeps of that, and that nothing of it can cost the run."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer.training.counters import Counters
from dreamer.training.metrics import MetricsLogger
from dreamer.training.progress import Progress
from dreamer.training.scheduled_report import Measure, ScheduledReports, UnmeasurableError


def at(updates: int) -> Counters:
    return Counters(agent_steps=4 * updates, env_frames=4 * updates, updates=updates)


def estimate(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1, "num": 8}


def measured(params: dict, *, counters: Counters, show: Callable[[str], None], look: Callable[[], None]) -> dict:
    """A report whose value is the number of updates."""
    show("useful")
    look()
    random.random()
    np.random.random()
    values = {"model": estimate(counters.updates), "frozen frame": estimate(0.0), "shuffled weights": None}
    return {"num_starts": 8, "quantities": {"useful/ranking": {"title": "Ranking", "values": values}}}


def failing(error: Exception) -> Measure:
    def measure(params: dict, **_: Any) -> dict:
        raise error

    return measure


class Run:
    """A run's folder, log and status line around scheduled reports."""

    def __init__(self, path: Path, *, measure: Measure | None = measured, resume_at: Counters | None = None) -> None:
        self.history, self._said = path / "report" / "history.jsonl", io.StringIO()
        self.log = MetricsLogger(path, env="x", seed=0, resume_at=resume_at)
        self.progress = Progress(100, stream=self._said)
        self.reports = ScheduledReports(measure, history=self.history, every=10)
        self.reports.start_at(resume_at)

    def go_on(self, *updates: int, stop: bool = False) -> None:
        for count in updates:
            if self.reports.due(count):
                self.reports.make(
                    {}, counters=at(count), log=self.log, progress=self.progress, look=lambda: stop
                )  # fmt: skip

    @property
    def said(self) -> list[str]:
        return self._said.getvalue().splitlines()

    @property
    def rows(self) -> list[int]:
        text = self.history.read_text() if self.history.exists() else ""
        return [json.loads(line)["updates"] for line in text.splitlines()]

    def close(self) -> None:
        self.reports.close()
        self.log.close()


def test_reports_come_after_every_multiple_and_become_curves(tmp_path: Path):
    run = Run(tmp_path)
    run.go_on(3, 9, 12, 13, 19, 20, 21, 47)
    run.close()
    assert run.rows == [12, 20, 47]
    row = json.loads(run.history.read_text().splitlines()[0])
    assert (row["agent_steps"], row["num_starts"]) == (48, 8)
    assert row["quantities"]["useful/ranking"]["values"]["model"]["mean"] == 12
    found = EventAccumulator(str(tmp_path)).Reload()
    curve = [(event.step, event.value) for event in found.Scalars("report/useful/ranking")]
    assert curve == [(48, 12.0), (80, 20.0), (188, 47.0)]
    assert "report/useful/ranking/frozen_frame" in found.Tags()["scalars"]
    assert "report/useful/ranking/shuffled_weights" not in found.Tags()["scalars"]  # too few starts for a number
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["report/useful/ranking"] for row in logged] == [12.0, 20.0, 47.0]
    assert run.progress.line().startswith("training")


def test_a_resumed_run_keeps_the_rows_until_its_checkpoint(tmp_path: Path):
    first = Run(tmp_path)
    first.go_on(10, 20, 30)
    first.close()
    with first.history.open("a") as file:
        file.write('{"agent_steps": 160, "env_fr')  # the process was killed here
    second = Run(tmp_path, resume_at=at(25))
    assert second.rows == [10, 20]
    second.go_on(26, 29, 31)
    second.close()
    assert second.rows == [10, 20, 31]
    third = Run(tmp_path, measure=None, resume_at=at(15))  # nobody measures any more
    third.go_on(40)
    third.close()
    assert third.rows == [10]
    Run(tmp_path).close()
    assert not first.history.exists()


def test_a_report_that_was_stopped_is_due_again(tmp_path: Path):
    run = Run(tmp_path)
    run.go_on(10)
    run.go_on(20, stop=True)
    run.close()
    assert run.rows == [10]
    assert run.said == []
    resumed = Run(tmp_path, resume_at=at(20))
    resumed.go_on(20)
    resumed.close()
    assert resumed.rows == [10, 20]


def test_a_failing_report_costs_a_line(tmp_path: Path):
    run = Run(tmp_path, measure=failing(RuntimeError(f"out of memory {'x' * 300}\nwith pages of detail")))
    run.go_on(10, 15, 20)
    run.close()
    assert len(run.said) == 2
    assert run.said[0].startswith("WARNING: the report at 40 agent steps failed: out of memory xxx")
    assert run.said[0].endswith("...; training goes on")
    assert run.rows == []
    assert run.log.failures == 0


def test_a_world_that_cannot_be_measured_is_told_once(tmp_path: Path):
    run = Run(tmp_path, measure=failing(UnmeasurableError("the environment cannot be forked")))
    run.go_on(10, 20, 30)
    run.close()
    assert run.said == ["WARNING: this run gets no reports: the environment cannot be forked"]


def test_a_history_that_cannot_be_written_keeps_the_curves(tmp_path: Path):
    run = Run(tmp_path)
    (tmp_path / "report").write_text("a file is in the way")
    with pytest.warns(UserWarning, match=r"history\.jsonl fails"):
        run.go_on(10)
    run.close()
    assert run.log.failures == 1
    assert "report/useful/ranking" in (tmp_path / "metrics.jsonl").read_text()


def test_training_draws_the_same_random_numbers(tmp_path: Path):
    random.seed(3)
    np.random.seed(3)
    without = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    run = Run(tmp_path)
    run.go_on(10)
    run.close()
    assert run.rows == [10]
    assert (random.random(), np.random.random()) == without
