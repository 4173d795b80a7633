"""A run that was stopped and resumed is the run that was not, bit by bit."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from dreamer.train import main
from dreamer.training.checkpoint import Checkpoints, Restored, read_meta
from tests.integration.runs import newest

BASE = ["--preset", "debug", "--log.quiet", "--log.every-seconds", "0.2"]


def assert_same(one: Restored, two: Restored) -> None:
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one.arrays), jax.tree.leaves(two.arrays), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    assert set(one.host) == set(two.host)
    for name in one.host:
        np.testing.assert_array_equal(one.host[name], two.host[name], err_msg=name)
    assert one.meta["counters"] == two.meta["counters"]
    assert one.meta["ratio"] == two.meta["ratio"]


ENVIRONMENTS = {
    "CartPole-v1": ([], 300, 460),
    "dmc_cartpole_swingup": (["--environment.num-envs", "1"], 150, 240),
    "atari100k_pong": (
        ["--environment.image-size", "16", "16", "--environment.max-episode-steps", "60", "--log.video-every", "10"],
        110,
        160,
    ),
}


@pytest.mark.parametrize(
    "env",
    ["CartPole-v1", *(pytest.param(env, marks=pytest.mark.slow) for env in ("dmc_cartpole_swingup", "atari100k_pong"))],
)
def test_resume_is_bitwise(env: str, tmp_path: Path):
    """The resumed run ends with the same parameters, optimizer, replay, latents, environment and random state."""
    if env.startswith("dmc_"):
        pytest.importorskip("dm_control", reason="dm-control does not install on Python 3.13")
    flags, middle, end = ENVIRONMENTS[env]
    arguments = ["--env", env, *BASE, *flags]
    assert main([*arguments, "--steps", str(end), "--logdir", str(tmp_path / "whole")]) == 0
    assert main([*arguments, "--steps", str(middle), "--logdir", str(tmp_path / "parts")]) == 0
    halfway = newest(tmp_path / "parts")
    assert halfway.meta["counters"]["agent_steps"] == middle
    assert halfway.meta["counters"]["updates"] > 2
    assert main([*arguments, "--steps", str(end), "--logdir", str(tmp_path / "parts")]) == 0
    assert_same(newest(tmp_path / "whole"), newest(tmp_path / "parts"))
    tables = [tmp_path / run / "episodes.csv" for run in ("whole", "parts")]
    episodes = [table.read_text() if table.exists() else "no episode ended" for table in tables]
    assert episodes[0] == episodes[1]
    whole, parts = (
        {v.name: v.read_bytes() for v in (tmp_path / run / "videos").glob("*")} for run in ("whole", "parts")
    )
    assert whole == parts
    assert len(whole) >= 2 or env != "atari100k_pong"


@pytest.mark.slow
def test_several_environments_resume(tmp_path: Path):
    """The clock of the updates: it starts with 64 starts in 3 streams (step 114), then ticks every 4 steps."""
    arguments = ["--env", "CartPole-v1", *BASE, "--environment.num-envs", "3", "--logdir", str(tmp_path / "run")]
    assert main([*arguments, "--steps", "240"]) == 0
    assert main([*arguments, "--steps", "360"]) == 0
    assert newest(tmp_path / "run").meta["counters"] == {"agent_steps": 360, "env_frames": 360, "updates": 62}


@pytest.mark.slow
def test_unforkable_environment_closes_its_episode(tmp_path: Path):
    """Where the environment's state cannot be saved, the open episode ends as a truncation, never as a death."""
    arguments = ["--env", "dreamer/Unforkable-v0", *BASE, "--logdir", str(tmp_path / "run")]
    import gymnasium
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    class Unforkable(CartPoleEnv):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()  # what cannot be copied

    if "dreamer/Unforkable-v0" not in gymnasium.registry:
        gymnasium.register("dreamer/Unforkable-v0", entry_point=Unforkable, max_episode_steps=500)
    assert main([*arguments, "--steps", "200"]) == 0
    assert main([*arguments, "--steps", "300"]) == 0
    host = newest(tmp_path / "run").host
    assert not any(name.startswith("environment/") for name in host)
    assert newest(tmp_path / "run").meta["counters"]["agent_steps"] == 300


def start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "dreamer.train", *arguments], stderr=subprocess.DEVNULL)


def wait_for_updates(run: Path, updates: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, "the trainer ended by itself"
        rows = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
        if any(json.loads(row)["updates"] >= updates for row in rows if row.endswith("}")):
            return
        time.sleep(0.2)
    raise AssertionError(f"no row with {updates} updates")


# What each signal does is short to test, in tests/training/test_signals.py; .ci/run stops a run by SIGTERM.
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_signals_save_and_resume(number: signal.Signals, code: int, tmp_path: Path):
    run = tmp_path / "run"
    arguments = ["--env", "CartPole-v1", *BASE, "--logdir", str(run), "--steps", "100k_agent"]
    process = start(arguments)
    try:
        wait_for_updates(run, 10, process)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    finally:
        process.kill()
    path = Checkpoints(run / "checkpoints").latest()
    assert path is not None
    saved = read_meta(path)["counters"]
    assert saved["updates"] >= 10
    end = saved["agent_steps"] + 40
    assert main([*arguments[:-1], str(end)]) == 0
    with (run / "episodes.csv").open() as file:
        steps = [int(row["agent_steps"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    assert newest(run).meta["counters"]["agent_steps"] == end


@pytest.mark.slow
def test_kill_9_costs_at_most_the_time_since_the_last_save(tmp_path: Path):
    run = tmp_path / "run"
    arguments = ["--env", "CartPole-v1", *BASE, "--logdir", str(run), "--checkpoint.every-seconds", "1"]
    process = start([*arguments, "--steps", "100k_agent"])
    try:
        wait_for_updates(run, 40, process)
        deadline = time.monotonic() + 60
        while not list(run.glob("checkpoints/0*")) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    path = Checkpoints(run / "checkpoints").latest()
    assert path is not None
    saved = read_meta(path)["counters"]["agent_steps"]
    assert main([*arguments, "--steps", str(saved + 40)]) == 0
    assert newest(run).meta["counters"]["agent_steps"] == saved + 40


def test_an_episode_that_ends_just_after_the_last_checkpoint_is_logged_once(tmp_path: Path):
    """Episodes have two steps; the run falls back to step 81, as after a kill, and episodes end at 80 and 82."""
    run = tmp_path / "run"
    arguments = ["--env", "CartPole-v1", *BASE, "--environment.max-episode-steps", "1", "--logdir", str(run)]
    assert main([*arguments, "--steps", "81"]) == 0
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    assert main([*arguments, "--steps", "84"]) == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(tmp_path / "checkpoints", run / "checkpoints")
    assert main([*arguments, "--steps", "84"]) == 0
    with (run / "episodes.csv").open(encoding="utf-8") as file:
        assert [int(row["agent_steps"]) for row in csv.DictReader(file)] == list(range(2, 85, 2))


def test_changed_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--env", "CartPole-v1", *BASE, "--logdir", str(tmp_path / "run"), "--steps", "90"]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "5"]) == 1
    message = capsys.readouterr().err
    assert "seed: 0 in the run, 5 now" in message
    assert newest(tmp_path / "run").meta["counters"]["agent_steps"] == 90


@pytest.mark.slow
def test_finished_run_says_so_and_can_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loud = [flag for flag in BASE if flag != "--log.quiet"]
    arguments = ["--env", "CartPole-v1", *loud, "--logdir", str(tmp_path / "run")]
    assert main([*arguments, "--steps", "90"]) == 0
    written = [*tmp_path.glob("run/checkpoints/*/*"), *tmp_path.glob("run/*.jsonl"), *tmp_path.glob("run/*.csv")]
    files = {path: path.stat().st_mtime_ns for path in written}
    assert len(files) >= 5
    assert main([*arguments, "--steps", "90"]) == 0
    assert "done: 90 agent steps" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in files.items())
    assert main([*arguments, "--steps", "120"]) == 0
    assert "done: 120 agent steps" in capsys.readouterr().out


def test_missing_device_is_one_sentence(tmp_path: Path):
    command = ["--env", "CartPole-v1", *BASE, "--device", "gpu", "--logdir", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "dreamer.train", *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: JAX finds no gpu: install the extra")
