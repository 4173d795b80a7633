"""Training with collectors on a real Ray cluster of several processes, and what it survives."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dreamer.config import prefill_steps
from dreamer.validation import resolve
from tests.integration.runs import newest
from tests.remote.numbered import EPISODE, FAILS_AT, FOLDER

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTORS, ROUND = 3, 16
CUT = FAILS_AT // ROUND * ROUND  # rows of one environment that were received before it failed
STEPS = 510  # ends in the middle of a round
LENGTH = STEPS // COLLECTORS
BASE = ["--env", "tests.remote.numbered:Numbered", "--preset", "debug", "--log.every-seconds", "0.05"]
BASE += ["--environment.num-envs", str(COLLECTORS), "--replay.chunk", "1024"]  # of which none is full
RAY = ["--ray.collectors", str(COLLECTORS), "--ray.round", str(ROUND)]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def ray_is_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.fail("this test needs Ray: pip install -e '.[ray]'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For tickets and lives."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("JAX_PLATFORMS", "")  # the collectors are to choose the CPU by themselves
    return tmp_path


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamer.train", *BASE, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)


def assert_processes(folder: Path, count: int) -> None:
    """As many held environments, one each, with JAX on the CPU; none is left."""
    lives = [path.read_text().split() for path in folder.glob("life-*")]
    assert len(lives) == len({process for process, _ in lives}) == count
    assert {platform for _, platform in lives} == {"cpu"}
    assert not any(Path("/proc", process).exists() for process, _ in lives)


def rows(run: Path) -> dict[str, np.ndarray]:
    """Everything in the replay of a run, `[environment, step, ...]`."""
    host = newest(run).host
    heads = {name.removeprefix("replay/heads/"): array for name, array in host.items() if "/heads/" in name}
    return {name: array.reshape(COLLECTORS, -1, *array.shape[1:]) for name, array in heads.items()}


def last_row(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def lives(replay: dict[str, np.ndarray]) -> list[list[int]]:
    """Steps of each environment that stood in a row of the replay, one after the other; within each nothing is lost."""
    lengths = []
    for state in replay["observation/state"]:
        parts = np.split(state, np.flatnonzero(state[:, 1] == 1)[1:])
        for part in parts:
            assert part[:, 1].tolist() == [*range(1, len(part) + 1)]
            assert len(set(part[:, 0])) == 1
        lengths.append([len(part) for part in parts])
    assert len({part for state in replay["observation/state"] for part in state[:, 0]}) == sum(map(len, lengths))
    return lengths


def updates_due(steps: int) -> int:
    """One every four steps of the run, from the first on for which the replay was ready."""
    ready = prefill_steps(resolve({"env": "CartPole-v1", "preset": "debug"}).replay, num_envs=COLLECTORS)
    return 0 if steps < ready else 1 + (steps - ready) // 4


def assert_counters_are_exact(run: Path, *, steps: int) -> None:
    """In every row and at the end; updates only ever are ahead where the learner had to wait."""
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["updates"] >= updates_due(row["agent_steps"]) for row in logged)
    assert [row["agent_steps"] for row in logged] == sorted(row["agent_steps"] for row in logged)
    assert (logged[-1]["agent_steps"], logged[-1]["updates"]) == (steps, updates_due(steps))
    with (run / "episodes.csv").open() as file:
        assert {row["score"] for row in csv.DictReader(file)} == {str(float(EPISODE))}


def test_a_killed_collector_costs_its_round(folder: Path):
    (folder / "ticket-0").write_text("SIGKILL")
    run = folder / "run"
    done = train(*RAY, "--steps", str(STEPS), "--logdir", str(run))
    assert done.returncode == 0, done.stderr
    assert_processes(folder, COLLECTORS + 1)
    replay = rows(run)
    (broken,) = (env for env, parts in enumerate(lives(replay)) if len(parts) > 1)
    assert sorted(lives(replay)) == [[CUT, LENGTH - CUT], *2 * [[LENGTH]]]
    assert replay["is_first"][broken, CUT]
    assert replay["is_last"][broken, CUT - 1]
    assert not replay["is_terminal"].any()
    assert np.argwhere(replay["is_last"][broken - 1]).ravel().tolist() == [*range(EPISODE, LENGTH, EPISODE + 1)]
    assert replay["action"].sum(-1).min() == 1
    assert_counters_are_exact(run, steps=STEPS)
    assert last_row(run)["environment/collector_restarts"] == 1
    assert f"collector {broken} on " in done.stderr
    assert f"is lost: its worker process has died, in the round of steps {CUT} to {CUT + ROUND - 1}" in done.stderr

    alone = train("--steps", str(STEPS + 60), "--logdir", str(run))
    assert alone.returncode == 0, alone.stderr
    assert "changed: ray.collectors: 3 -> 0" in alone.stderr
    assert sorted(lives(rows(run))) == [[CUT, LENGTH - CUT, 20], *2 * [[LENGTH, 20]]]
    assert rows(run)["is_last"][:, LENGTH - 1].all()
    again = train(*RAY, "--steps", str(STEPS + 120), "--logdir", str(run))
    assert again.returncode == 0, again.stderr
    assert "the collectors begin with fresh episodes" in again.stderr
    assert_counters_are_exact(run, steps=STEPS + 120)


def test_a_collector_that_hangs_is_replaced(folder: Path):
    (folder / "ticket-0").write_text("SIGSTOP")
    run = folder / "run"
    patience = ["--environment.step-timeout", "2", "--ray.timeout", "5"]
    done = train(*RAY, *patience, "--steps", str(STEPS), "--logdir", str(run))
    assert done.returncode == 0, done.stderr
    assert_processes(folder, COLLECTORS + 1)  # the one that was stopped among them
    assert sorted(lives(rows(run))) == [[CUT, LENGTH - CUT], *2 * [[LENGTH]]]
    assert_counters_are_exact(run, steps=STEPS)
    assert "gave no round within 5 s (--ray.timeout)" in done.stderr


def test_collectors_that_fail_too_often_end_the_run_saved(folder: Path):
    for number in range(20):
        (folder / f"ticket-{number}").write_text("SIGKILL")
    run = folder / "run"
    done = train(*RAY, "--environment.max-restarts", "1", "--steps", str(STEPS), "--logdir", str(run))
    assert done.returncode == 1
    assert "that was failure 2 within 10 minutes" in done.stderr.splitlines()[-1]
    assert lives(rows(run)) == COLLECTORS * [[CUT, CUT]]


def test_a_signal_to_all_processes_ends_the_run_saved(folder: Path):
    """As a terminal or a job scheduler sends it: to the cluster, too, which is the program's own."""
    run = folder / "run"
    command = [sys.executable, "-m", "dreamer.train", *BASE, *RAY, "--steps", "1000000", "--logdir", str(run)]
    training = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while not (run / "metrics.jsonl").exists() or not last_row(run)["updates"]:
        assert training.poll() is None
        time.sleep(0.1)
    os.killpg(training.pid, signal.SIGTERM)
    told, _ = training.communicate(timeout=120)
    assert training.returncode == 128 + signal.SIGTERM
    assert "the same command continues" in told
    assert newest(run).meta["counters"]["agent_steps"] == last_row(run)["agent_steps"]


PROGRAM = """
import os, sys
import gymnasium
import dreamer

class Here(gymnasium.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        with open(os.path.join(os.environ["NUMBERED_FOLDER"], f"process-{os.getpid()}"), "w") as file:
            file.write(str("jax" in sys.modules))

ray = {"ray.collectors": 2, "environment.num_envs": 4, "environment.workers": "spawn"}
env = lambda: Here(gymnasium.make("CartPole-v1"))
dreamer.Dreamer(env=env, preset="debug", logdir="run", config=ray).learn(steps=200)
"""


def test_a_function_of_a_script_reaches_the_workers_of_collectors(folder: Path):
    """By value: no other process can import it. Each collector calls it once, and so do two workers without JAX."""
    (folder / "main.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert last_row(folder / "run")["agent_steps"] == 200
    assert sorted(path.read_text() for path in folder.glob("process-*")) == 4 * ["False"] + 2 * ["True"]


@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_a_lost_machine_costs_its_rounds(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Three machines, simulated as three raylets on this one: the learner's, without a core for collectors, and two."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first, _ = [cluster.add_node(num_cpus=COLLECTORS) for _ in range(2)]
        run = folder / "run"
        arguments = [*RAY, "--ray.address", cluster.address, "--steps", "3000", "--logdir", str(run)]
        with ThreadPoolExecutor() as executor:
            training = executor.submit(train, *arguments)
            while not (run / "metrics.jsonl").exists() or not last_row(run)["updates"]:
                assert not training.done(), training.result().stderr
                time.sleep(0.1)
            cluster.remove_node(first, allow_graceful=False)
            done = training.result()
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    assert re.search(r"collector \d on .* is lost: its (process or its machine|node|worker process) ", done.stderr)
    assert done.stderr.count("waiting for the environment") < 20  # a line for the state, not for every update ahead
    broken = [parts for parts in lives(rows(run)) if len(parts) > 1]
    assert len(broken) in (1, 2)
    assert all(parts[0] % ROUND == 0 and sum(parts) == 1000 for parts in broken)
    assert_counters_are_exact(run, steps=3000)
