"""A CPU trains with one device for each core, wherever that was not decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dreamer.cores import devices_for, over_cores
from dreamer.validation import resolve

TRAIN = [sys.executable, "-m", "dreamer.train", "--env", "CartPole-v1", "--preset", "debug", "--replay.batch-size", "8"]


@pytest.mark.parametrize(
    ("rows", "cores", "devices"), [(16, 1, 1), (16, 2, 2), (16, 3, 2), (16, 64, 4), (7, 4, 1), (12, 3, 3), (4, 2, 1)]
)
def test_every_device_gets_enough_rows(rows: int, cores: int, devices: int):
    assert devices_for(rows, cores=cores) == devices


def test_in_a_process_of_others_nothing_changes():
    """Only the command line decides how JAX starts; here it has one device."""
    config = resolve({"env": "CartPole-v1"})
    assert over_cores(config) is config


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of usable cores can be set on Linux only")
def test_a_run_uses_the_cores_that_it_may_and_goes_on_with_others(tmp_path):
    """Two cores, then one by choice: the same run."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")

    def train(steps: int, *arguments: str) -> str:
        allowed = sorted(os.sched_getaffinity(0))[:2]
        done = subprocess.run(
            [*TRAIN, "--logdir", str(tmp_path / "run"), "--steps", str(steps), *arguments],
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),  # before any thread starts
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    assert "2 x cpu" in train(210)
    assert "mesh data=2" not in (told := train(230, "--mesh", "data=1"))
    assert "resumed at 210 agent steps" in told
