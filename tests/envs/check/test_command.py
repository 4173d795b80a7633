"""`python -m envs.check` as a user runs it: real environments, hangs and crashes, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from envs.check import report
from envs.check.__main__ import main, parse
from envs.check.catalogue import CHECKS
from envs.check.evidence import subject_of
from envs.check.finding import Finding
from tests.envs.check.detection import alarms

REPOSITORY = Path(__file__).resolve().parents[3]
needs_dmc = pytest.mark.skipif(sys.version_info >= (3, 13), reason="dm-control does not install on Python 3.13")

ROGUES = """
import os, time
import gymnasium, numpy as np

class Rogue(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        print("noise on stdout")
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 30:
            self.rebel()
        return np.zeros(1, np.float32), 0.0, False, False, {}

class Hangs(Rogue):
    def rebel(self): time.sleep(1000)

class Dies(Rogue):
    def rebel(self): os.abort()

class Exits(Rogue):
    def rebel(self): raise SystemExit("licence expired")
"""


def check(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "envs.check", *arguments], cwd=folder, env=environment(), capture_output=True, text=True
    )


def environment():
    import os

    return os.environ | {"PYTHONPATH": str(REPOSITORY)}


@pytest.mark.parametrize("name", ["CartPole-v1", "atari100k_pong", pytest.param("dmc_walker_walk", marks=needs_dmc)])
def test_real_environments_raise_no_alarm(name):
    assert alarms(subject_of(name), seconds=4.0) == {}


def test_a_good_environment_passes_with_every_check_in_the_report(tmp_path):
    done = check("CartPole-v1", "--json", "--seconds", "10", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [finding["name"] for finding in told["findings"]] == list(CHECKS)
    assert {finding["status"] for finding in told["findings"]} == {"ok"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Hangs", "`step` has not returned"),
        ("Dies", "the process died during `step` (SIGABRT"),
        ("Exits", "SystemExit: licence expired"),
    ],
)
def test_a_rogue_environment_is_a_finding_and_no_traceback(tmp_path, name, sentence):
    (tmp_path / "rogues.py").write_text(ROGUES)
    done = check(f"rogues:{name}", "--json", "--seconds", "6", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]  # what it prints has not reached stdout
    assert [finding["name"] for finding in findings] == list(CHECKS)
    assert any(finding["status"] == "FAIL" and sentence in finding["text"] for finding in findings), findings
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["CartPole-v1", "--seconds", "0"], ["CartPole-v1", "--second", "5"], ["CartPole-v1", "--seed", "-1"]],
)
def test_a_bad_command_line_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_steps_may_be_written_short():
    assert parse(["CartPole-v1", "--steps", "5e6"]).steps == 5_000_000


def test_the_table_is_aligned_and_tells_the_remedy():
    findings = [
        Finding("spaces", "ok", "fine"),
        Finding("last observation", "FAIL", "wrong " * 30, "mend it"),
        Finding("fork", "-", "not checked: no time"),
        Finding("speed", "-", "not checked: no time"),
    ]
    lines = report.table(findings, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    starts = {lines[0].index("fine"), lines[1].index("wrong"), lines[2].index("wrong")}
    assert len(starts) == 1
    assert any(line.strip() == "-> mend it" for line in lines)
    assert sum("no time" in line for line in lines) == 1
    assert lines[-1] == "1 ok, 0 warnings, 1 FAIL, 2 not checked"
    assert not report.passed(findings)
