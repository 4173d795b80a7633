"""Environments that raise, die or hang in the middle of a run are started anew; their broken episode is cut."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import envs
from dreamer.train import main
from envs.environment import EnvironmentFault, EnvSettings
from tests.faults.tickets import FAILS_AT, Flaky
from tests.integration.runs import newest


def make(folder: Path, kind: str, *, tickets: int, workers: str = "none", **settings):
    folder.mkdir()
    for index in range(tickets):
        (folder / str(index)).touch()
    path = str(folder)
    options = EnvSettings(workers=workers, **settings)
    return envs.make(lambda: Flaky(path, kind), num_envs=2, seed=0, settings=options)


CASES = [
    ("raise", "none"),
    ("raise", "spawn"),
    ("kill", "spawn"),
    ("crash", "spawn"),
    ("hang", "spawn"),
    ("hang", "none"),
    ("reset", "none"),
]
SAYS = {
    "raise": "RuntimeError: the physics engine exploded",
    "kill": "exit code -9: mostly memory that ran out",
    "crash": "exit code -11: a segmentation fault in native code",
    "hang": "gave no answer within 1 s",
    "reset": "RuntimeError: the physics engine exploded",
}


@pytest.mark.parametrize(("kind", "workers"), CASES)
def test_one_failure_costs_one_episode(kind: str, workers: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    env = make(tmp_path / "tickets", "none", tickets=0, workers=workers, step_timeout=1.0)
    env.close()
    env = make(tmp_path / kind, kind, tickets=0, workers=workers, step_timeout=1.0)
    first = env.reset()
    for index in range(2 if kind == "reset" else 1):
        (tmp_path / kind / str(index)).touch()
    action = np.tile(np.eye(2, dtype=np.float32)[1], (2, 1))
    steps = [env.step(action) for _ in range(20)]
    times = np.array([step.observation["state"][:, 0] for step in steps])
    (broken,) = {int(row) for row in np.argwhere(times[FAILS_AT - 1] == 0)[:, 0]}
    other = 1 - broken
    failure = steps[FAILS_AT - 1]
    assert failure.is_first.tolist() == [row == broken for row in range(2)]
    assert not failure.is_last.any()
    assert failure.reward[broken] == 0
    assert times[:, broken].tolist() == [1, 2, 0, *range(1, 11), 0, *range(1, 7)]
    assert times[:, other].tolist() == [*range(1, 11), 0, *range(1, 10)]
    assert not any(step.is_terminal.any() for step in steps)
    if workers == "spawn":
        before, after = first.observation["state"][:, 1], steps[-1].observation["state"][:, 1]
        assert (before == after).tolist() == [row != broken for row in range(2)]
    told = capfd.readouterr().err
    assert SAYS[kind] in told
    assert f"environment {broken} (seed " in told
    assert "at action [0. 1.]" in told
    assert told.count("started anew") == (2 if kind == "reset" else 1)
    env.close()


@pytest.mark.parametrize("kind", ["raise", "kill", "hang"])
def test_a_vector_environment_is_made_again(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = str(tmp_path / "tickets")
    Path(path).mkdir()

    def factory():
        makers = [lambda: Flaky(path, kind) for _ in range(2)]
        return SyncVectorEnv(makers) if kind == "raise" else AsyncVectorEnv(makers, context="spawn")

    env = envs.make(factory, num_envs=2, seed=0, settings=EnvSettings(step_timeout=1.0))
    first = env.reset()
    Path(path, "ticket").touch()
    action = np.tile(np.eye(2, dtype=np.float32)[1], (2, 1))
    steps = [env.step(action) for _ in range(5)]
    assert [step.observation["state"][0, 0] for step in steps] == [1, 2, 0, 1, 2]
    assert [step.is_first.tolist() for step in steps] == [
        2 * [False],
        2 * [False],
        2 * [True],
        2 * [False],
        2 * [False],
    ]
    assert steps[2].reward.tolist() == [0, 0]
    assert env.incidents["restarts"] == 1
    says = {"raise": "the physics engine exploded", "kill": "(exit code -9)", "hang": "gave no answer within 1 s"}
    assert says[kind] in capfd.readouterr().err
    if kind != "raise":
        assert not set(first.observation["state"][:, 1]) & set(steps[-1].observation["state"][:, 1])
    env.close()


@pytest.mark.parametrize("workers", ["none", "spawn"])
def test_a_first_reset_that_fails_is_tried_again(workers: str, tmp_path: Path):
    env = make(tmp_path / "tickets", "reset", tickets=2, workers=workers)
    assert env.reset().is_first.all()
    assert env.incidents["restarts"] == 2
    env.close()


def test_environments_that_differ_are_refused():
    class Larger(Flaky):
        observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    kinds = iter([Flaky, Larger])
    with pytest.raises(
        EnvironmentFault, match=r"same observations, but one has others: 'state' is .*3.* instead of .*2"
    ):
        envs.make(lambda: next(kinds)("unused", "none"), num_envs=2, seed=0)


def test_signals_to_the_whole_job_leave_the_workers_to_the_trainer(tmp_path: Path):
    env = make(tmp_path / "tickets", "none", tickets=0, workers="spawn")
    processes = env.reset().observation["state"][:, 1].astype(int)
    for process in processes:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(process, number)
    step = env.step(np.zeros((2, 2), np.float32))
    assert step.observation["state"].tolist() == [[1, processes[0]], [1, processes[1]]]
    env.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_slow_environment_can_be_waited_for(tmp_path: Path):
    env = make(tmp_path / "tickets", "hang", tickets=0, workers="spawn", step_timeout=2.0)
    env.reset()
    action = np.zeros((2, 2), np.float32)
    for _ in range(FAILS_AT - 1):
        env.begin(action)
        assert env.wait(2.0)
        env.step(action)
    (tmp_path / "tickets" / "ticket").touch()
    began = time.monotonic()
    env.begin(action)
    assert not env.wait(0.5)
    while not env.wait(0.1):
        assert time.monotonic() - began < 10
    assert time.monotonic() - began > 1.8  # its time was over
    assert env.step(action).is_first.sum() == 1
    env.close()


@pytest.mark.parametrize("workers", ["none", "spawn"])
def test_failing_too_often_ends_the_run(workers: str, tmp_path: Path):
    env = make(tmp_path / "tickets", "raise", tickets=9, workers=workers, max_restarts=1)
    env.reset()
    action = np.zeros((2, 2), np.float32)
    for _ in range(5):
        env.step(action)
    with pytest.raises(EnvironmentFault, match=r"exploded.*failure 2 within 10 minutes.*--environment\.max-restarts"):
        env.step(action)
    env.close()


@pytest.mark.parametrize("workers", ["none", "spawn"])
def test_a_broken_contract_is_not_tried_again(workers: str, tmp_path: Path):
    env = make(tmp_path / "tickets", "nan", tickets=0, workers=workers)
    env.reset()
    env.step(np.zeros((2, 2), np.float32))
    env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(EnvironmentFault, match="environment 0, step 3: the reward is nan"):
        env.step(np.zeros((2, 2), np.float32))
    env.close()


@pytest.mark.slow
def test_the_run_goes_on_and_one_that_ends_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Five failures: three are forgiven, the fourth ends the run with a checkpoint, and the mended one is continued."""
    tickets = tmp_path / "tickets"
    tickets.mkdir()
    for index in range(5):
        (tickets / str(index)).touch()
    monkeypatch.setenv("FLAKY_TICKETS", str(tickets))
    monkeypatch.setenv("FLAKY_KIND", "raise")
    if "dreamer/Flaky-v0" not in gymnasium.registry:
        gymnasium.register("dreamer/Flaky-v0", entry_point=Flaky)
    command = ["--env", "dreamer/Flaky-v0", "--preset", "debug", "--steps", "100", "--logdir", str(tmp_path / "run")]
    assert main(command) == 1
    told = capfd.readouterr().err
    assert told.count("started anew") == 3
    assert "error: dreamer/Flaky-v0: environment 0" in told
    assert (
        newest(tmp_path / "run").meta["counters"]["agent_steps"] == 11
    )  # four episodes of three actions, the last lost
    assert len(list(tickets.iterdir())) == 1
    assert main([*command, "--environment.max-restarts", "4"]) == 0
    assert newest(tmp_path / "run").meta["counters"]["agent_steps"] == 100
