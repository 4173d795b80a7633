"""A run that measures its own world model is the run that does not, bit by bit; and it ends when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreamer.train import main
from tests.integration.runs import newest
from tests.integration.test_resume import assert_same

BASE = ["--env", "CartPole-v1", "--preset", "debug", "--log.every-seconds", "0"]
OF_THE_CLOCK = ("seconds", "memory/resident_gb")


def rows(run: Path) -> list[dict]:
    """What was logged of training, without what a clock decides."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [row for row in found if not any(name.startswith("report/") for name in row)]
    return [{name: value for name, value in row.items() if name not in OF_THE_CLOCK} for row in training]


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "report" / "history.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_with_reports_is_bitwise_the_run_without(tmp_path: Path):
    plain, measured = tmp_path / "plain", tmp_path / "measured"
    arguments = [*BASE, "--steps", "120", "--log.quiet"]
    assert main([*arguments, "--logdir", str(plain)]) == 0
    reports = ["--log.report-every", "4", "--log.report-only", "causal"]
    assert main([*arguments, *reports, "--logdir", str(measured)]) == 0
    assert [row["updates"] for row in history(measured)] == [4, 8]
    assert_same(newest(plain), newest(measured))
    assert rows(plain) == rows(measured)
    assert len(rows(plain)) > 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--log.report-only", "casual"], "no property is called 'casual'"),
        (["--log.report-starts", "3"], "3 starts give no interval"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_the_start(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        main([*BASE, *arguments, "--log.report-every", "4", "--log.quiet", "--logdir", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_ends_a_report_and_it_is_made_again(tmp_path: Path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "dreamer.train", *BASE, "--steps", "200", "--logdir", str(run)]
    command += ["--log.report-every", "20", "--log.report-starts", "64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    assert any("report: useful" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert time.monotonic() - told < 60  # the report as a whole takes several times as long beside other work
    assert not (run / "report" / "history.jsonl").exists()
    updates = newest(run).meta["counters"]["updates"]
    assert updates == 20
    assert main([*command[3:], "--log.quiet", "--log.report-starts", "8", "--log.report-only", "causal"]) == 0
    assert history(run)[0]["updates"] in (20, 21)
