"""Real sweeps of real trainings, stopped and killed in every way, here and on a Ray cluster."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 1200.0  # until a process that does not go on counts as hung
SEEDS = (0, 1)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture(autouse=True)
def compile_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nothing is measured, and most of the time is the compiler's."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "True")


class Sweep:
    """A suite of one task and two seeds in a folder, and the command that trains it.

    Args:
        folder: of everything.
        steps: of a trial; the 180 updates that 800 steps bring last long enough to be killed in.
    """

    def __init__(self, folder: Path, *, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.started: list[subprocess.Popen[str]] = []
        self.suite = folder / "mine.yaml"
        self.suite.write_text(
            f"protocol: classic\nsteps: {steps}\nseeds: 0-1\npreset: debug\ntasks: [CartPole-v1]\n"
            "overrides: {log: {every_seconds: 0.05, video_every: 0}, checkpoint: {every_seconds: 3}}\n"
        )
        self.arguments = [str(self.suite), "--out", str(folder / "out"), "--results", str(folder / "results")]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """In a session of its own, as from another terminal."""
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.sweep", *self.arguments, *more],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def finish(self, *more: str) -> str:
        """Runs it to its good end; what it printed."""
        process = self.start(*more)
        told, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, told
        assert "2 of 2 done" in told
        return told

    def run(self, seed: int) -> Path:
        return self.folder / "out" / "CartPole-v1" / f"seed{seed}"

    def pid(self, seed: int) -> int:
        """Of the trial that trains now."""
        return json.loads((self.run(seed) / "run.lock").read_text())["pid"]

    def updates(self, seed: int) -> int:
        lines = (self.run(seed) / "metrics.jsonl").read_text().splitlines() if self.is_there(seed) else []
        return json.loads(lines[-1])["updates"] if lines else 0

    def is_there(self, seed: int) -> bool:
        return (self.run(seed) / "metrics.jsonl").exists()

    def saved(self, seed: int) -> int:
        """Agent steps of the newest checkpoint; 0 without one."""
        found = [path for path in (self.run(seed) / "checkpoints").glob("[0-9]*") if (path / "manifest.json").exists()]
        return max((int(path.name[:12]) for path in found), default=0)

    def wait(self, condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def assert_complete(self) -> None:
        """Every episode of both seeds stands once in the table, with all that was recorded; nothing trains any more."""
        with (self.folder / "results" / "mine" / "CartPole-v1.csv").open() as file:
            rows = list(csv.DictReader(file))
        for seed in SEEDS:
            assert self.saved(seed) == self.steps
            with (self.run(seed) / "episodes.csv").open() as file:
                episodes = [(row["agent_steps"], row["score"]) for row in csv.DictReader(file)]
            assert len(set(episodes)) == len(episodes) > 10
            assert [(row["agent_steps"], row["score"]) for row in rows if row["seed"] == str(seed)] == episodes
            assert (self.run(seed) / "run.lock").read_text() == ""
        assert all(float(row["wall_seconds"]) > 0 for row in rows)
        assert {row["size"] for row in rows} == {"1m"}
        assert all(row["commit"] and row["config_hash"] and row["device"] for row in rows)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """Leaves no training behind, whatever fails."""
    made = Sweep(tmp_path, steps=800)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    for seed in SEEDS:
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(made.pid(seed), signal.SIGKILL)


def test_a_killed_trial_goes_on_and_a_finished_sweep_starts_nothing(sweep: Sweep):
    process = sweep.start("--jobs", "2")
    sweep.wait(lambda: sweep.saved(0) > 0 and sweep.updates(1) > 10, process)
    second = sweep.start()
    told, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 1
    assert re.search(r"error: .*out is in use by process \d+ .* another --out\.$", told.strip())
    os.kill(sweep.pid(0), signal.SIGKILL)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    assert "CartPole-v1 seed 0: died, killed by SIGKILL; trying again (1 of 2)" in told
    assert told.count("seed 0: started") == 2
    assert told.count("seed 1: started") == 1
    assert re.search(r"^\| CartPole-v1 +\|.* \(2\) \|$", told, re.MULTILINE)  # in the table of scores, with its seeds
    sweep.assert_complete()
    starts = [json.loads(line) for line in (sweep.run(0) / "starts.jsonl").read_text().splitlines()]
    assert starts[0]["agent_steps"] == 0 < starts[1]["agent_steps"]

    before = {path: path.stat().st_mtime_ns for path in (sweep.folder / "out").rglob("*") if path.name != "sweep.lock"}
    assert "started" not in sweep.finish()
    files = [path for path in before if path.is_file()]
    assert all(path.stat().st_mtime_ns == before[path] for path in files)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_every_trial_and_the_same_command_goes_on(sweep: Sweep, number: signal.Signals, code: int):
    process = sweep.start("--jobs", "2")
    sweep.wait(lambda: min(map(sweep.updates, SEEDS)) > 10, process)
    process.send_signal(number)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == code, told
    assert told.count("stopped and saved") == 2
    assert told.splitlines()[-1] == "stopped; the same command continues"
    saved = [sweep.saved(seed) for seed in SEEDS]
    assert all(0 < steps < sweep.steps for steps in saved)
    sweep.finish("--jobs", "2")
    resumed = [json.loads((sweep.run(seed) / "starts.jsonl").read_text().splitlines()[1]) for seed in SEEDS]
    assert [start["agent_steps"] for start in resumed] == saved
    sweep.assert_complete()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_kill_9_of_the_sweep_loses_nothing(sweep: Sweep):
    process = sweep.start("--jobs", "2")
    sweep.wait(lambda: min(map(sweep.updates, SEEDS)) > 10, process)
    process.kill()
    process.communicate()
    told = sweep.finish("--jobs", "2")  # at once: where a trial is still saving it waits for that
    for seed in SEEDS:
        starts = [json.loads(line) for line in (sweep.run(seed) / "starts.jsonl").read_text().splitlines()]
        assert len(starts) == 2, told
        assert starts[1]["agent_steps"] > 0
    sweep.assert_complete()


def test_a_trial_that_always_fails_is_named_and_the_others_are_done(tmp_path: Path):
    made = Sweep(tmp_path, steps=200)
    made.suite.write_text(made.suite.read_text().replace("[CartPole-v1]", "[CartPole-v1, NoSuchGame-v0]"))
    process = made.start("--retries", "1", "--seeds", "0")
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "NoSuchGame-v0 seed 0: died, error: " in told
    assert "1 of 2 done, 1 failed" in told
    (line,) = [line for line in told.splitlines() if line.startswith("failed: ")]
    assert re.match(r"failed: NoSuchGame-v0 seed 0: error: .*NoSuchGame.* \(all of it: .*seed0\.log\)", line)


def test_the_slurm_array_script_trains_its_trial_and_queues_it_again_when_its_time_is_over(sweep: Sweep):
    tools = sweep.folder / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tools}/asked\n')
    (tools / "scontrol").chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "77", "PATH": path}
    command = ["bash", str(REPOSITORY / "experiments/examples/slurm_array.sh"), *sweep.arguments]

    def submit() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    job = submit()
    sweep.wait(lambda: sweep.updates(1) > 10, job)
    job.send_signal(signal.SIGUSR1)
    told, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 128 + signal.SIGUSR1, told
    assert (tools / "asked").read_text() == "requeue 77_1\n"
    assert 0 < sweep.saved(1) < sweep.steps
    again = submit()
    told, _ = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, told
    assert sweep.saved(1) == sweep.steps
    assert not sweep.run(0).exists()
    environment["SLURM_ARRAY_TASK_ID"] = "2"
    beyond = submit()
    assert "error: the sweep has no trial 2: check --array" in beyond.communicate(timeout=SECONDS)[0]
    assert beyond.returncode == 2


@pytest.fixture
def ray_is_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.fail("this test needs Ray: pip install -e '.[ray]'")


@pytest.mark.usefixtures("ray_is_installed")
def test_on_a_ray_cluster_of_this_machine_a_killed_worker_costs_nothing_but_time(sweep: Sweep):
    process = sweep.start("--ray", "local", "--jobs", "2")
    sweep.wait(lambda: sweep.saved(0) > 0 and sweep.updates(1) > 10, process)
    worker = int(Path("/proc", str(sweep.pid(0)), "stat").read_text().rpartition(")")[2].split()[1])  # its parent
    os.kill(worker, signal.SIGKILL)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    assert re.search(r"seed 0: died, its machine or process is lost: .*; trying again \(1 of 2\)", told)
    assert told.count("seed 1: started") == 1
    sweep.assert_complete()


@pytest.mark.usefixtures("ray_is_installed")
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_trials_of_a_lost_machine_go_on_elsewhere(sweep: Sweep):
    """Three machines, simulated as three raylets on this one: the head, and two with room for one trial each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first, _ = [cluster.add_node(num_cpus=1) for _ in range(2)]
        process = sweep.start("--ray", cluster.address)
        sweep.wait(lambda: min(map(sweep.saved, SEEDS)) > 0, process)
        cluster.remove_node(first, allow_graceful=False)
        told, _ = process.communicate(timeout=SECONDS)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, told
    assert len(re.findall(r"seed \d: died, its machine or process is lost", told)) == 1
    sweep.assert_complete()


@pytest.mark.usefixtures("ray_is_installed")
def test_a_signal_saves_the_trials_of_a_ray_cluster(sweep: Sweep):
    process = sweep.start("--ray", "local", "--jobs", "1")
    sweep.wait(lambda: sweep.updates(0) > 10, process)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, told
    assert 0 < sweep.saved(0) < sweep.steps
    assert not sweep.run(1).exists()
    refused = sweep.start("--ray", "local", "--gpus", "1")
    assert "ask for less, or join more machines" in refused.communicate(timeout=SECONDS)[0]
    assert refused.returncode == 1
