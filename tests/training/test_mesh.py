"""Several devices: the same update, whatever is split over what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.config import mesh_sizes
from dreamer.presets import ConfigError
from dreamer.validation import resolve

REPOSITORY = Path(__file__).parents[2]
EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("text", "sizes"), [("data=4,model=2", (4, 2)), ("model=8", (1, 8)), (" data = 2", (2, 1))])
def test_sizes(text, sizes):
    assert mesh_sizes(text) == sizes


@pytest.mark.parametrize("text", ["4x2", "data=0", "data=2,data=2", "rows=2", "data=4;model=2"])
def test_what_is_no_mesh_is_refused(text):
    with pytest.raises(ConfigError, match="such as data=4,model=2"):
        resolve({"env": "CartPole-v1", "mesh": text})


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="does not divide by 3: 9 would"):
        resolve({"env": "CartPole-v1", "mesh": "data=3", "replay.batch_size": 8})


@pytest.mark.slow
def test_an_update_on_eight_devices_is_the_update_on_one(tmp_path):
    """Three updates from the same state and batches; the state is saved on one mesh and continued on another."""
    done = run_python("-m", "tests.training.mesh_updates", "compare", str(tmp_path), **EIGHT)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_make_the_update_of_one(tmp_path):
    done = run_python("-m", "tests.training.mesh_updates", "two-processes", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_run_changes_its_mesh(tmp_path):
    command = ["-m", "dreamer.train", "--env", "CartPole-v1", "--preset", "debug", "--logdir", str(tmp_path / "run")]
    first = run_python(*command, "--steps", "150", "--mesh", "data=2,model=4", **EIGHT)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "8 x cpu" in first.stdout
    second = run_python(*command, "--steps", "200")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "resumed at 150 agent steps" in second.stdout + second.stderr
    third = run_python(*command, "--steps", "250", "--mesh", "data=2")
    assert third.returncode == 1
    assert "needs 2 devices, and JAX sees 1" in third.stderr
