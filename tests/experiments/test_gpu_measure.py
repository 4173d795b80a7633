"""The unattended command of a GPU: order, time limits, failures and what it skips, tried with trivial processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.gpu.game import GAME_STEPS, extrapolate
from experiments.gpu.measure import Results, measure, missing, summary
from experiments.gpu.measurements import JSON, MEASUREMENTS, Figure, Measurement
from experiments.gpu.process import gpu_facts, run

REPOSITORY = Path(__file__).resolve().parents[2]
WRITE = "import json, os, sys; json.dump({'time': {'ms': 7}, 'flags': os.environ['XLA_FLAGS']}, open(sys.argv[1], 'w'))"
TIME = Figure("time", "time.ms", "ms", at_most=6)
SLEEP = "import time; print('begun', flush=True); time.sleep(60)"


def measurement(name: str, code: str, *, limit: float = 30.0, least: float = 0.0, **others: Any) -> Measurement:
    return Measurement(name, ("-c", code, JSON), (TIME,), limit, least, **others)


def carried_out(plan: list[Measurement], folder: Path, *, seconds: float = 60.0) -> tuple[Results, list[str]]:
    results = Results(folder, miniature=False)
    return results, measure(plan, results, deadline=time.monotonic() + seconds, miniature=False)


def test_every_outcome_is_kept_and_the_next_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", "--given")
    plan = [
        measurement("raises", "print('first'); raise ValueError('this is why')"),
        measurement("hangs", SLEEP, limit=1.0),
        measurement("silent", "pass"),
        measurement("good", WRITE, xla_flags="--added"),
    ]
    results, failed = carried_out(plan, tmp_path)
    assert failed == ["raises", "hangs", "silent"]
    records = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert list(records) == ["raises", "hangs", "silent", "good"]
    assert records["raises"]["exit_code"] == 1
    assert records["raises"]["last_lines"].splitlines()[-1] == "ValueError: this is why"
    assert (records["hangs"]["status"], records["hangs"]["last_lines"]) == ("timeout", "begun")
    assert 1.0 <= records["hangs"]["seconds"] < 10.0
    assert "no figures" in records["silent"]["last_lines"]
    assert records["good"]["figures"] == {"time": {"ms": 7}, "flags": "--given --added"}
    table = summary([*plan, measurement("never", WRITE)], results, miniature=False)
    assert "at most 6 ms (MISSED)" in table
    assert "ValueError: this is why" in table
    assert table.endswith("not reached: never")


def test_it_ends_before_the_deadline_and_begins_nothing_that_cannot_end(tmp_path: Path):
    """Seven seconds, of which the last five belong to nobody."""
    plan = [measurement("long", WRITE, least=10.0), measurement("hangs", SLEEP), measurement("late", WRITE, least=1.5)]
    start = time.monotonic()
    results, failed = carried_out(plan, tmp_path, seconds=7.0)
    assert 2.0 <= time.monotonic() - start < 7.0
    assert failed == ["hangs"]
    assert [results.get(name) is None for name in ("long", "hangs", "late")] == [True, False, True]


def test_a_second_call_skips_what_is_there_and_tries_failures_last(tmp_path: Path):
    plan = [measurement("first", WRITE), measurement("broken", "raise SystemExit(3)"), measurement("new", WRITE)]
    carried_out(plan[:2], tmp_path)
    results = Results(tmp_path, miniature=False)
    assert [left.name for left in missing(plan, results)] == ["new", "broken"]
    before = results.get("first")
    results, failed = carried_out(plan, tmp_path)
    assert failed == ["broken"]
    assert results.get("first") == before
    assert "7.00" in summary(plan, results, miniature=True)
    with pytest.raises(ValueError, match="holds results of a GPU: name another --out"):
        Results(tmp_path, miniature=True)


def test_what_a_process_has_started_ends_with_it(tmp_path: Path):
    """A trainer that outlives its measurement would spoil the next one."""
    code = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); "
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(60)"
    )
    outcome = run([sys.executable, "-c", code, str(tmp_path / "pid")], seconds=2.0, environment=os.environ)
    assert (outcome.status, outcome.exit_code) == ("timeout", None)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/status").exists() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_facts_of_a_simulated_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A number where there is one, text where there is none; nothing where the tool is missing or fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_facts(("name",)) == {}
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 1980, [N/A]'\n")
    tool.chmod(0o755)
    facts = gpu_facts(("name", "clocks.sm", "power.draw"))
    assert facts == {"name": "NVIDIA H200", "clocks.sm": 1980.0, "power.draw": "[N/A]"}
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_facts(("name",)) == {}


def test_without_a_gpu_the_command_says_what_it_can_do(tmp_path: Path):
    command = [sys.executable, "-m", "experiments.gpu.measure", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--miniature" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_game_is_extrapolated_from_what_was_measured():
    first = {"agent_steps": 1_100, "updates": 10, "seconds": 20.0}
    last = {"agent_steps": 11_000, "updates": 1_240, "seconds": 50.0}
    game = extrapolate(first, last, start_seconds=30.0, saving_seconds=2.0)
    assert game["agent_steps_per_second"] == pytest.approx(330.0)
    assert game["extrapolated_seconds"] == pytest.approx(30.0 + (GAME_STEPS - 1_100) / 330.0 + 2.0)
    with pytest.raises(RuntimeError, match="slice is too short"):
        extrapolate(first, first, start_seconds=30.0, saving_seconds=2.0)


def test_the_issues_targets_come_first_and_fit_into_their_time():
    """The rows of the issue are measured before any variant, and nothing is given more than a fresh start can use."""
    names = [measurement.name for measurement in MEASUREMENTS]
    assert len(set(names)) == len(names)
    wanted = ["update-proprio-1m", "update-atari100k-12m", "update-atari100k-200m", "game-atari100k-12m"]
    assert names[:4] == wanted
    assert sum(measurement.limit for measurement in MEASUREMENTS[:4]) <= 9 * 60
    assert all(0 < measurement.least <= measurement.limit for measurement in MEASUREMENTS)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a CPU compiles a program for each set of flags
def test_rehearsal(tmp_path: Path):
    """One measurement of every kind for real, in miniature on this CPU; a second call finds nothing left to do."""
    kinds = ["update-proprio-1m", "game-atari100k-12m", "policy-proprio-1m", "while-unrolled-proprio-1m"]
    kinds += ["unroll-4-proprio-1m", "replay-atari100k-12m", "long-run-proprio-1m"]
    command = [
        sys.executable,
        "-m",
        "experiments.gpu.measure",
        "--miniature",
        "--minutes",
        "55",
        "--out",
        str(tmp_path),
    ]
    command += ["--only", *kinds]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "CPU MINIATURE" in done.stdout
    assert "not reached: nothing" in done.stdout
    records = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert {name: record["status"] for name, record in records.items()} == dict.fromkeys(kinds, "ok")
    assert records["game-atari100k-12m"]["figures"]["extrapolated_seconds"] > 0
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert again.stdout == done.stdout[done.stdout.index("CPU MINIATURE") :]
