"""Hosts: what they share, what they agree on, and two real ones without a training (that is in tests/integration)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dreamer.config import ReplayConfig
from dreamer.launch import _differences
from dreamer.presets import ConfigError
from dreamer.training.checkpoint import CheckpointError, Checkpoints
from dreamer.training.hosts import Hosts, Round
from dreamer.training.run_folder import RunFolder, RunFolderError, SharedRunFolder
from dreamer.training.shared_checkpoints import SharedCheckpoints
from dreamer.validation import resolve

REPOSITORY = Path(__file__).parents[2]
TWO = {"hosts.count": 2, "hosts.coordinator": "node1:1234"}
SIXTEEN = {"replay.batch_size": 16, "replay.batch_length": 64, "replay.chunk": 1024}


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hosts.count": 2}, "needs --hosts.coordinator HOST:PORT"),
        ({**TWO, "hosts.coordinator": "node1"}, "must be HOST:PORT, not 'node1'"),
        ({**TWO, "hosts.index": 2}, "--hosts.index 2 must be below --hosts.count 2"),
        ({**TWO, **SIXTEEN, "hosts.count": 3}, "--replay.batch-size 16 does not divide by 3: 18 would"),
        ({**TWO, "mesh": "data=1,model=4"}, "data must be a multiple of 2"),
        ({**TWO, **SIXTEEN, "replay.capacity": 3199}, "need at least 3200"),
    ],
)
def test_hosts_that_cannot_work_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        resolve({"env": "CartPole-v1", **settings})


def test_hosts_started_with_other_settings_are_named():
    told = [{"seed": 0, "size": "1m"}, {"seed": 0, "size": "1m"}, {"seed": 5, "size": "1m"}]
    (problem,) = _differences(told)
    assert "host 2 was started with --seed 5, host 0 with 0" in problem


def test_hosts_share_replay_and_batches_but_no_seed():
    hosts = [Hosts(count=4, index=index) for index in range(4)]
    share = hosts[1].share(ReplayConfig(capacity=4000, batch_size=16))
    assert (share.capacity, share.batch_size) == (1000, 4)
    seeds = [host.seed(3) for host in hosts]
    assert seeds[0] == 3
    assert len(set(seeds)) == 4
    assert hosts[1].seed(4) not in seeds


def test_a_process_alone_agrees_with_itself():
    mine = Round(episodes=[(1.0, 2)], ready=True, save=True, stop=False)
    assert Hosts().agree(mine) == mine
    with pytest.raises(KeyError), Hosts().all_or_none(CheckpointError):
        raise KeyError("as it was")


def test_another_host_finds_the_folder_of_the_first(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        other = SharedRunFolder(tmp_path / "run", run_id=folder.run_id, host=1)
        assert (other.run_id, other.config) == (folder.run_id, folder.config)
        assert other.replay != folder.replay
        assert other.refused_batch != folder.refused_batch
        other.replay.mkdir(parents=True)
        folder.discard_new()
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunFolderError, match="run abc there, not there here"):
        SharedRunFolder(tmp_path / "run", run_id="abc", host=1)


def test_a_checkpoint_of_two_hosts_is_not_continued_by_one(tmp_path):
    path = Checkpoints(tmp_path / "checkpoints").save(1, arrays={"train": np.ones(1)}, host={}, meta={"hosts": 2})
    shared = SharedCheckpoints(tmp_path / "checkpoints", keep=2, hosts=Hosts())
    with pytest.raises(CheckpointError, match=r"saved by 2 hosts.* --hosts.count 2, or start a new run"):
        shared.restore(path, abstract_arrays={})


def run_two(folder: Path, *arguments: str, variables: Callable[[int], dict[str, str]] = lambda index: {}):
    """Exit codes, outputs and errors of two members."""
    common = {"PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "tests.training.host_member"]
    members = [
        subprocess.Popen(
            [*command, str(index), str(folder), *arguments],
            env=os.environ | common | variables(index),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        said = [member.communicate(timeout=120) for member in members]
    finally:
        for member in members:
            member.kill()
    return [member.returncode for member in members], [output for output, _ in said], [error for _, error in said]


def test_two_hosts_agree_save_load_and_end_together(tmp_path):
    """Two real processes with two devices each. Host 1 fails in the end, and host 0 does not wait for it."""
    codes, outputs, errors = run_two(tmp_path, free_address())
    assert codes == [1, 1], errors
    assert all("refused: The train state of hosts [1] is not that of host 0" in output for output in outputs), errors
    assert "lost: host 1 on" in outputs[0]
    assert "ended: the simulator has no licence" in outputs[0]
    assert not any("Check failure stack trace" in error for error in errors)
    assert [path.name for path in Checkpoints(tmp_path / "checkpoints").metas()] == ["000000000012"]


@pytest.mark.slow
def test_hosts_find_each_other_in_a_simulated_slurm(tmp_path):
    """The variables that Slurm gives to each task, on one node."""

    def slurm(index: int) -> dict[str, str]:
        names = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
        values = (str(os.getpid()), "localhost", "2", str(index), str(index))
        return {f"SLURM_{name}": value for name, value in zip(names, values, strict=True)}

    codes, outputs, errors = run_two(tmp_path, variables=slurm)
    assert codes == [1, 1], errors
    assert "lost: host 1 on" in outputs[0]
    assert all("this host joins the others, as Slurm" in error for error in errors)
