"""A run of two hosts, two real processes on this machine: stopped, resumed, killed, resumed, evaluated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dreamer
from dreamer.training.checkpoint import Checkpoints, read_meta
from dreamer.training.shared_checkpoints import CHECKSUM
from tests.faults.flaky import CRASH
from tests.integration.test_resume import BASE, wait_for_updates
from tests.training.test_hosts import free_address

REPOSITORY = Path(__file__).parents[2]
SECONDS = 300.0  # for two processes that share two cores; a deadlock takes longer


class TwoHosts:
    """Both processes of the run in a folder."""

    def __init__(self, run: Path) -> None:
        self.run, self.processes = run, list[subprocess.Popen[str]]()

    def start(self, *flags: str, second: dict[str, str] | None = None) -> None:
        """Starts both, the second one with these variables."""
        address, environment = free_address(), os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "dreamer.train", "--env", "CartPole-v1", *BASE, "--logdir", str(self.run)]
        command += ["--hosts.count", "2", "--hosts.coordinator", address, *flags, "--hosts.index"]
        self.processes = [
            subprocess.Popen([*command, str(index)], env=environment | more, stderr=subprocess.PIPE, text=True)
            for index, more in enumerate([{}, second or {}])
        ]

    def wait(self) -> tuple[list[int], list[str]]:
        """Exit codes and standard errors."""
        errors = [process.communicate(timeout=SECONDS)[1] for process in self.processes]
        return [process.returncode for process in self.processes], errors

    def newest(self) -> Path:
        path = Checkpoints(self.run / "checkpoints").latest()
        assert path is not None
        return path

    def counters(self) -> dict[str, int]:
        return read_meta(self.newest())["counters"]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    both = TwoHosts(tmp_path / "run")
    yield both
    for process in both.processes:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_of_two_hosts(hosts: TwoHosts):
    # A signal to one host stops both, at the same update, with a checkpoint in which their states are the same.
    hosts.start("--steps", "100k_agent")
    wait_for_updates(hosts.run, 10, hosts.processes[0])
    hosts.processes[1].send_signal(signal.SIGTERM)
    codes, errors = hosts.wait()
    assert codes == [143, 143], errors
    saved = hosts.counters()
    metas = [read_meta(hosts.newest()), read_meta(hosts.newest() / "hosts/1")]
    assert metas[0]["counters"] == metas[1]["counters"] == saved
    assert saved["updates"] >= 10
    assert metas[0][CHECKSUM] == metas[1][CHECKSUM]
    ends = [meta["replay"]["ends"] for meta in metas]
    assert ends[0] == ends[1] == [saved["agent_steps"] // 2]
    shares = [
        np.load(folder / "host.npz")["replay/heads/observation/state"]
        for folder in (hosts.newest(), hosts.newest() / "hosts/1")
    ]
    assert not np.array_equal(*shares)  # their environments have seeds of their own

    # The same commands go on.
    hosts.start("--steps", str(saved["agent_steps"] + 40))
    codes, errors = hosts.wait()
    assert codes == [0, 0], errors
    assert "resumed at" in errors[0]
    assert "resumed at" not in errors[1]  # host 0 alone prints
    assert hosts.counters()["agent_steps"] == saved["agent_steps"] + 40
    assert hosts.counters()["updates"] == saved["updates"] + 10
    rows = (hosts.run / "episodes.csv").read_text().splitlines()[1:]
    lengths = sum(int(row.split(",")[-1]) for row in rows)
    assert hosts.counters()["agent_steps"] / 3 < lengths <= hosts.counters()["agent_steps"]  # those of both hosts

    # One that is killed ends the other with a sentence, and the run goes on from its last checkpoint.
    hosts.start("--steps", "100k_agent")
    wait_for_updates(hosts.run, hosts.counters()["updates"] + 5, hosts.processes[0])
    hosts.processes[1].kill()
    codes, errors = hosts.wait()
    assert codes == [1, -signal.SIGKILL], errors
    assert "error: host 1 is gone without a word" in errors[0]
    assert "Start all hosts again" in errors[0]
    before = hosts.counters()
    hosts.start("--steps", str(before["agent_steps"] + 8))
    codes, errors = hosts.wait()
    assert codes == [0, 0], errors
    assert hosts.counters()["updates"] == before["updates"] + 2

    # One process reads the parameters, and is refused as a run of its own.
    agent = dreamer.load(hosts.run)
    assert agent.counters.agent_steps == before["agent_steps"] + 8
    action, _ = agent.predict(np.zeros(4, np.float32))
    assert action in (0, 1)
    done = subprocess.run(
        [sys.executable, "-m", "dreamer.train", "--env", "CartPole-v1", *BASE, "--logdir", str(hosts.run)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "saved by 2 hosts" in done.stderr


def test_a_broken_environment_of_one_host_ends_both_saved(hosts: TwoHosts):
    flags = ["--env", "tests.faults.flaky:FlakyCartPole", "--environment.max-restarts", "0", "--steps", "100k_agent"]
    hosts.start(*flags, second={CRASH: "0.05"})
    codes, errors = hosts.wait()
    assert codes == [1, 1], errors
    assert "the environments of another host have failed" in errors[0]
    assert "an injected crash" in errors[1]
    assert hosts.counters()["agent_steps"] >= 0
