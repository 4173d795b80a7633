"""The queue of a sweep with a runner whose trials end as they are told; the processes themselves; and its tables."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dreamer.cli import parse as parse_training
from dreamer.config import Config
from dreamer.presets import to_yaml
from dreamer.training.run_lock import RunLock, is_locked
from dreamer.validation import resolve
from experiments.sweep.__main__ import main
from experiments.sweep.board import Board, summary
from experiments.sweep.processes import JobsError, LocalRunner, Outcome, Slot, launch, local_slots
from experiments.sweep.queue import Queue
from experiments.sweep.results import COLUMNS, config_hash, write_results
from experiments.sweep.trials import Trial

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = {"env": "CartPole-v1", "preset": "debug", "steps": "100"}


def trial(folder: Path, seed: int) -> Trial:
    return Trial("CartPole-v1", seed, resolve(SETTINGS | {"seed": seed}), (), folder / f"seed{seed}")


def finish(made: Trial) -> None:
    """Leaves what a training leaves that has come to its end."""
    checkpoint = made.folder / "checkpoints" / f"{made.total_steps:012}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()


class Handle:
    """A trial that ends when `outcome` is set."""

    place = "here"

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.signals: list[int] = []

    def poll(self) -> Outcome | None:
        return self.outcome

    def signal(self, number: int) -> None:
        self.signals.append(number)


class Runner:
    """Room for so many; keeps what was started, in order."""

    def __init__(self, room: int) -> None:
        self.room, self.started = room, []

    def has_room(self) -> bool:
        return sum(handle.outcome is None for _, handle in self.started) < self.room

    def start(self, made: Trial) -> Handle:
        self.started.append((made, Handle()))
        return self.started[-1][1]

    def close(self) -> None:
        pass

    def end(self, made: Trial, *, code: int | None = 0, reason: str = "") -> None:
        if code == 0:
            finish(made)
        newest = [handle for started, handle in self.started if started is made][-1]
        newest.outcome = Outcome(code, reason)


def begin(
    trials: list[Trial], *, room: int = 1, retries: int = 1, retry_seconds: float = 0.0
) -> tuple[Queue, Runner, list[Trial], list[str]]:
    runner, completed, told = Runner(room), [], []
    queue = Queue(
        trials, runner=runner, retries=retries, complete=completed.append, tell=told.append, retry_seconds=retry_seconds
    )
    return queue, runner, completed, told


def statuses(queue: Queue) -> list[str]:
    return [entry.status for entry in queue.entries]


def test_trials_run_in_order_as_there_is_room_and_finished_ones_do_not(tmp_path: Path):
    trials = [trial(tmp_path, seed) for seed in range(4)]
    finish(trials[0])
    queue, runner, completed, _ = begin(trials, room=2)
    queue.step()
    assert statuses(queue) == ["done", "running", "running", "waiting"]
    assert "1 of 4 done, 2 running, 1 waiting" in summary(queue)
    runner.end(trials[2])
    queue.step()
    assert [made.seed for made, _ in runner.started] == [1, 2, 3]
    runner.end(trials[1])
    runner.end(trials[3])
    queue.step()
    assert queue.is_over
    assert sorted(made.seed for made in completed) == [0, 1, 2, 3]


def test_what_died_is_tried_again_so_often_and_its_last_words_are_told(tmp_path: Path):
    trials = [trial(tmp_path, 0), trial(tmp_path, 1)]
    queue, runner, completed, told = begin(trials, retries=1)
    queue.step()
    trials[0].log.parent.mkdir(exist_ok=True)
    trials[0].log.write_text("plan\nerror: no such game\n")
    runner.end(trials[0], code=1)
    queue.step()
    queue.step()
    assert told[-2:] == [
        "CartPole-v1 seed 0: died, error: no such game; trying again (1 of 1)",
        "CartPole-v1 seed 0: started on here",
    ]
    runner.end(trials[0], code=None, reason="killed by SIGKILL")
    queue.step()
    assert statuses(queue) == ["failed", "running"]
    assert f"FAILED, killed by SIGKILL (all of it: {trials[0].log})" in told[-2]
    runner.end(trials[1])
    queue.step()
    assert completed == [trials[1]]


def test_a_wrong_command_line_is_not_tried_again(tmp_path: Path):
    queue, runner, _, _ = begin([trial(tmp_path, 0)], retries=5)
    queue.step()
    runner.end(queue.entries[0].trial, code=2)
    queue.step()
    assert statuses(queue) == ["failed"]


def test_an_end_without_the_last_checkpoint_is_no_success(tmp_path: Path):
    queue, runner, completed, _ = begin([trial(tmp_path, 0)], retries=0)
    queue.step()
    runner.started[0][1].outcome = Outcome(0, "")
    queue.step()
    assert (statuses(queue), completed) == (["failed"], [])


def test_a_signal_reaches_what_runs_and_nothing_starts_any_more(tmp_path: Path):
    trials = [trial(tmp_path, seed) for seed in range(3)]
    queue, runner, completed, told = begin(trials, room=2)
    queue.step()
    queue.stop(signal.SIGTERM)
    assert [handle.signals for _, handle in runner.started] == [[signal.SIGTERM]] * 2
    assert statuses(queue) == ["running", "running", "stopped"]
    runner.end(trials[0], code=143)
    runner.end(trials[1])  # it had come to its end
    queue.step()
    assert (statuses(queue), completed) == (["stopped", "done", "stopped"], [trials[1]])
    assert "CartPole-v1 seed 0: stopped and saved" in told
    assert len(runner.started) == 2


def test_a_folder_that_another_process_trains_in_is_waited_for(tmp_path: Path):
    made = trial(tmp_path, 0)
    made.folder.mkdir(parents=True)
    queue, runner, _, told = begin([made])
    lock = RunLock(made.folder / "run.lock")
    queue.step()
    queue.step()
    assert is_locked(made.folder / "run.lock")
    assert (runner.started, told) == ([], ["CartPole-v1 seed 0: another process trains it; waiting for its end"])
    lock.release()
    queue.step()
    assert len(runner.started) == 1


def test_the_live_table_shows_the_urgent_ones_where_not_all_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setenv("COLUMNS", "100")
    trials = [trial(tmp_path, seed) for seed in range(20)]
    for made in trials[:10]:
        finish(made)
    queue, _, _, _ = begin(trials, room=2)
    queue.step()
    (trials[10].folder).mkdir()
    rows = [{"agent_steps": steps, "seconds": steps / 10} for steps in (20, 60)]
    (trials[10].folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (trials[10].folder / "episodes.csv").write_text("env,seed\nCartPole-v1,10,9,9,0,12.5,9\n")
    with (tmp_path / "screen").open("w") as file:
        board = Board("smoke: 20 trials", stream=file)
        board._console._force_terminal = True
        with board:
            board.refresh(queue, now=True)
    screen = (tmp_path / "screen").read_text()
    assert "60.0%" in screen
    assert "4s" in screen  # 40 steps at 10 a second
    assert "12.5" in screen
    assert "starting" in screen
    assert "... and 15 more" in screen
    assert "10 of 20 done, 2 running, 8 waiting" in screen


SAYS_ITS_SIGNAL = """
import signal, sys, time
def stop(number, frame):
    open(sys.argv[1], "w").write(str(number))
    raise SystemExit
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
STARTS_IT = """
import sys, time
from pathlib import Path
from experiments.sweep.processes import launch
launch([sys.executable, "-c", sys.argv[1], sys.argv[2]], Path(sys.argv[3]))
time.sleep(60)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_kill_9_of_the_sweep_asks_its_trials_to_save(tmp_path: Path):
    log = tmp_path / "trial.log"
    command = [sys.executable, "-c", STARTS_IT, SAYS_ITS_SIGNAL, str(tmp_path / "signal"), str(log)]
    parent = subprocess.Popen(command, cwd=REPOSITORY)
    wait_for(lambda: log.exists() and "ready\n" in log.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: (tmp_path / "signal").exists() and (tmp_path / "signal").read_text() == str(int(signal.SIGTERM)))


def test_processes_run_side_by_side_and_say_how_they_ended(tmp_path: Path):
    quick = [sys.executable, "-c", "import os, sys; print(os.environ['PLACE']); sys.exit(3)"]
    process = launch(quick, tmp_path / "a.log", environment={"PLACE": "there"}, cores=[0])
    assert process.wait(timeout=20) == 3
    assert (tmp_path / "a.log").read_text().splitlines()[-1] == "there"

    class Sleeping(Trial):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", "import time; time.sleep(60)"]

    runner = LocalRunner([Slot("first"), Slot("second")])
    trials = [Sleeping("a", seed, Config(), (), tmp_path / f"seed{seed}") for seed in range(3)]
    handles = [runner.start(made) for made in trials[:2]]
    assert [handle.place for handle in handles] == ["first", "second"]
    assert not runner.has_room()
    handles[0].signal(signal.SIGKILL)
    wait_for(lambda: handles[0].poll() is not None)
    assert handles[0].poll() == Outcome(None, "killed by SIGKILL")
    assert runner.has_room()
    third = runner.start(trials[2])
    assert third.place == "first"
    for handle in (handles[1], third):
        handle.signal(signal.SIGKILL)
        wait_for(lambda handle=handle: handle.poll() is not None)


def test_one_trial_for_each_simulated_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.environment for slot in local_slots(None, device="auto")] == [
        {"CUDA_VISIBLE_DEVICES": number} for number in ("0", "1", "2")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert [slot.place for slot in local_slots(1, device="gpu")] == ["gpu 1"]
    with pytest.raises(JobsError, match="--jobs 3, but 2 GPUs are visible"):
        local_slots(3, device="auto")
    assert [slot.environment for slot in local_slots(2, device="cpu")] == [{}, {}]


def write_run(made: Trial, episodes: list[tuple[int, float]]) -> None:
    """The files of a run with two starts, the second on another device and from step 50."""
    made.folder.mkdir(parents=True)
    (made.folder / "config.yaml").write_text(to_yaml(made.config))
    rows = [f"CartPole-v1,{made.seed},{steps},{2 * steps},{steps // 4},{score!r},9" for steps, score in episodes]
    header = "env,seed,agent_steps,env_frames,updates,score,length"
    (made.folder / "episodes.csv").write_text("\n".join([header, *rows, ""]))
    metrics = [{"agent_steps": 40, "seconds": 20.0}, {"agent_steps": 100, "seconds": 50.0}]
    (made.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    starts = [{"agent_steps": 0, "commit": "a1", "device": "cpu"}, {"agent_steps": 50, "commit": "b2", "device": "gpu"}]
    (made.folder / "starts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in starts))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_a_row_for_every_episode_and_a_seed_replaces_itself(tmp_path: Path):
    runs, results = tmp_path / "runs" / "CartPole-v1", tmp_path / "results" / "mine"
    for seed in (1, 0):
        write_run(trial(runs, seed), [(20, 1.5), (70, 3.0)])
        table = write_results(trial(runs, seed), results)
    rows = read_table(table)
    assert table == results / "CartPole-v1.csv"
    assert tuple(rows[0]) == COLUMNS
    assert [(row["seed"], row["agent_steps"], row["env_frames"], row["updates"], row["score"]) for row in rows] == [
        (seed, steps, frames, updates, score)
        for seed in ("0", "1")
        for steps, frames, updates, score in (("20", "40", "5", "1.5"), ("70", "140", "17", "3.0"))
    ]
    assert [(row["wall_seconds"], row["commit"], row["device"]) for row in rows[:2]] == [
        ("10.0", "a1", "cpu"),
        ("35.0", "b2", "gpu"),
    ]
    assert len({row["config_hash"] for row in rows}) == 1  # seeds do not count
    again = trial(tmp_path / "again" / "CartPole-v1", 1)
    write_run(again, [(30, 7.0)])
    assert [row["score"] for row in read_table(write_results(again, results))] == ["1.5", "3.0", "7.0"]
    assert list(results.iterdir()) == [table]


def test_runs_on_other_machines_and_longer_ones_are_of_one_configuration():
    """A CPU's cores become a mesh in the configuration, and nothing depends on the last step: its hash groups seeds."""
    one, two, other = (
        config_hash(resolve({"env": "CartPole-v1", **changes}))
        for changes in ({}, {"mesh": "data=2", "seed": 1, "device": "cpu", "steps": "61k"}, {"train_ratio": 64.0})
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["smok"], 2, "error: no suite is called 'smok'; did you mean smoke?"),
        (["smoke", "--job", "2"], 2, "there is no --job; did you mean --jobs?"),
        (["smoke", "--tasks", "Pong"], 2, "error: suite smoke has no task Pong (it has CartPole-v1, Pendulum-v1)"),
        (["smoke", "--seeds", "4-"], 2, "error: expected seeds such as 0-4"),
        (["smoke", "--seed", "4"], 2, "--seed is decided by --seeds: leave it out"),
        (["smoke", "--size", "13m"], 2, "error: suite smoke, task CartPole-v1: command line: --size expects one of"),
        (["--jobs", "2", "smoke"], 2, "the first word names a suite"),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    try:
        returned = main(arguments)
    except SystemExit as ended:
        returned = ended.code
    assert returned == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_or_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    out.mkdir()
    lock = RunLock(out / "sweep.lock")
    assert main(["smoke", "--out", str(out)]) == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    lock.release()
    folder = out / "CartPole-v1" / "seed0"
    (folder / "checkpoints" / "000000000050").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(resolve(SETTINGS | {"behavior.horizon": 9})))
    assert main(["smoke", "--out", str(out), "--results", str(tmp_path / "results")]) == 1
    assert f"{folder} was trained with other settings (behavior.horizon 9, now 5)" in capsys.readouterr().err


def test_the_list_is_the_commands_of_the_trials(capsys: pytest.CaptureFixture[str]):
    assert main(["smoke", "--list", "--seeds", "3", "--out", "a b", "--train-ratio=2"]) == 0
    words = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in words] == [["python", "-m", "dreamer.train"]] * 2
    assert words[0][3].startswith("--env CartPole-v1 --seed 3 --logdir 'a b/CartPole-v1/seed3' --steps 1k_agent")
    assert words[0][3].endswith("--preset debug --train-ratio=2")


def test_the_wandb_example_names_real_flags(tmp_path: Path):
    """The agent's own way to start a run: its command, with `--name=value` for every parameter."""
    document = yaml.safe_load((REPOSITORY / "experiments/examples/wandb_sweep.yaml").read_text())
    parameters = document["parameters"].items()
    chosen = [f"--{name}={given.get('value', given.get('values', [None])[0])}" for name, given in parameters]
    command = [word for part in document["command"] for word in (chosen if part == "${args}" else [part])]
    shim = tmp_path / "python"
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shim.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "WANDB_RUN_ID": "abc"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    module, *arguments = done.stdout.splitlines()[1:]
    assert module == "dreamer.train"
    config = parse_training(arguments)
    assert (config.logdir, config.log.wandb) == ("runs/wandb/abc", True)
    assert (config.env, config.train_ratio, config.optimizer.learning_rate) == ("CartPole-v1", 64.0, 1e-4)
