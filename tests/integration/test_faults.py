"""What a run survives: disks that refuse, checkpoints and chunks that are gone, folders that were copied."""

from __future__ import annotations

import contextlib
import csv
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

from dreamer.train import main
from dreamer.training.checkpoint import Checkpoints, read_meta
from tests.integration.runs import newest

BASE = ["--env", "CartPole-v1", "--preset", "debug", "--log.quiet"]
SMALL = ["--replay.capacity", "160", "--checkpoint.keep", "3"]  # steps in memory: fewer than the checkpoints list
STEPS = (120, 200, 280)  # of the saved run; the first update is at step 80


class Line(gymnasium.Env):
    """Of CartPole's shapes, so that nothing new is compiled; `events[n]` happens in step n of its life."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    events: dict[int, Callable[[], object]] = {}  # noqa: RUF012 (the test's to set, as the trainer makes the object)

    episode_steps = 20

    def __init__(self):
        self.count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        self.events.get(self.count, lambda: None)()
        return self.observe(), 1.0, False, self.count % self.episode_steps == 0, {}

    def observe(self):
        return np.full(4, self.count % 20 / 20, np.float32)


class Squares(Line):
    """Grey pictures."""

    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 1), np.uint8)

    def observe(self):
        return np.full((16, 16, 1), self.count % 256, np.uint8)


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Two functions: the first makes every write beyond `size` bytes of a file fail, the second ends that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield (
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1])),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Trains on `Line`, into the folder `run`, as other words at its end may say."""
    for kind in (Line, Squares):
        if f"dreamer/{kind.__name__}-v0" not in gymnasium.registry:
            gymnasium.register(f"dreamer/{kind.__name__}-v0", entry_point=kind)
    monkeypatch.setattr(Line, "events", {})
    settings = ["--log.every-seconds", "0.05", "--checkpoint.every-seconds", "0.2"]
    return [*BASE, *settings, "--env", "dreamer/Line-v0", "--logdir", str(tmp_path / "run")]


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_no_video_ends_a_run(command: list[str], tmp_path: Path):
    """Where the videos belong lies a file."""
    run = tmp_path / "run"
    Line.events = {20: (run / "videos").touch}
    with pytest.warns(UserWarning, match=r"Logging to videos fails \(.*File exists"):
        assert main([*command, "--env", "dreamer/Squares-v0", "--steps", "120", "--log.video-every", "2"]) == 0
    last = rows(run)[-1]
    assert last["updates"] == 1 + (120 - 80) // 4
    assert last["log/failures"] == 5
    assert newest(run).meta["counters"]["agent_steps"] == 120


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_ends_no_run(command: list[str], tmp_path: Path):
    """From step 100 to step 140."""
    run = tmp_path / "run"
    with disk_of(300_000) as (fill, free):
        Line.events = {100: fill, 140: free}
        assert main([*command, "--steps", "180", "--checkpoint.max-failures", "1000"]) == 0
    logged = rows(run)
    assert logged[-1]["updates"] == 1 + (180 - 80) // 4
    failures = [row["checkpoint/failures"] for row in logged]
    assert 0 == failures[0] < failures[-1]
    assert logged[-1]["checkpoint/seconds"] > 0
    good = [int(path.name[:12]) for path in (run / "checkpoints").iterdir()]
    assert max(good) == 180
    assert min(good) > 140  # it was saved again before its end


@pytest.mark.slow
def test_a_run_that_cannot_be_saved_ends_and_goes_on_later(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Its only episode never ends, and is told of all the same."""
    monkeypatch.setattr(Line, "episode_steps", 10**9)
    command = [*command, "--checkpoint.max-failures", "3"]
    with disk_of(300_000) as (fill, _):
        Line.events = {100: fill}
        assert main([*command, "--steps", "5000"]) == 1
    message = capsys.readouterr().err
    assert "error: 3 saves in a row failed, so the run stops here; nothing was removed" in message
    path = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert path is not None
    saved = read_meta(path)["counters"]["agent_steps"]
    assert 0 < saved <= 100
    last = rows(tmp_path / "run")[-1]
    assert last["episode/open_score"] == last["episode/open_length"] >= 80
    Line.events = {}
    assert main([*command, "--steps", str(saved + 20)]) == 0
    assert newest(tmp_path / "run").meta["counters"]["agent_steps"] == saved + 20


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint; tests must not write to it."""
    run = tmp_path_factory.mktemp("saved") / "run"
    assert go_on(run) == 0
    return run


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """The same run in another place."""
    return Path(shutil.copytree(saved, tmp_path / "copied"))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was resumed twice and has three checkpoints; tests must not write to it."""
    run = tmp_path_factory.mktemp("resumed") / "run"
    for steps in STEPS:
        assert go_on(run, steps=steps) == 0
    return run


def go_on(run: Path, *arguments: str, steps: int = STEPS[-1]) -> int:
    return main([*BASE, *SMALL, "--steps", str(steps), "--logdir", str(run), *arguments])


def checkpoint(run: Path, steps: int) -> Path:
    return run / "checkpoints" / f"{steps:012d}"


@pytest.mark.slow
def test_chunks_stay_as_long_as_a_kept_checkpoint_lists_them(resumed: Path):
    for steps in STEPS:
        listed = read_meta(checkpoint(resumed, steps))["replay"]["chunks"]
        assert listed
        for env, index, _ in listed:
            assert (resumed / "replay" / f"env{env:04d}-chunk{index:08d}.npz").exists(), (steps, index)


@pytest.mark.slow
def test_a_partial_copy_falls_back(resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The copy lacks a file of its newest checkpoint, and one byte of the one before has changed."""
    copied = Path(shutil.copytree(resumed, tmp_path / "copied"))
    (checkpoint(copied, 280) / "host.npz").unlink()
    flipped = checkpoint(copied, 200) / "meta.json"
    flipped.write_bytes(flipped.read_bytes().replace(b"agent_steps", b"agent_stepz", 1))
    with pytest.warns(UserWarning, match=r"host\.npz is missing|meta\.json has changed") as warned:
        assert go_on(copied, steps=160) == 0
    assert len(warned) == 2
    message = capsys.readouterr().err
    assert "resumed at 120 agent steps with 120 steps of replay" in message
    assert "chunk files written after the checkpoint were removed" in message
    assert read_meta(checkpoint(copied, 160))["counters"] == {"agent_steps": 160, "env_frames": 160, "updates": 21}


def test_where_all_are_damaged_the_run_says_so(copied: Path, capsys: pytest.CaptureFixture[str]):
    (checkpoint(copied, STEPS[-1]) / "meta.json").unlink()
    with pytest.warns(UserWarning, match=r"meta\.json is missing"):
        assert go_on(copied) == 1
    assert "All checkpoints in" in capsys.readouterr().err
    assert checkpoint(copied, STEPS[-1]).exists()


def test_another_runs_checkpoint_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]):
    marker = copied / "run.json"
    other = json.loads(marker.read_text()) | {"run_id": "0123456789abcdef"}
    marker.write_text(json.dumps(other))
    assert go_on(copied) == 1
    assert "is run 0123456789abcdef. Remove what was copied in" in capsys.readouterr().err


def test_a_replay_of_which_much_is_lost_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]):
    cut_chunks(copied)
    assert go_on(copied) == 1
    message = capsys.readouterr().err
    assert "128 of 152 steps of replay are lost, more than the share of 0.5" in message
    assert "go on with what is left: --replay.max-lost 1" in message
    assert go_on(copied, "--replay.max-lost", "1") == 0
    told = capsys.readouterr().err
    assert "resumed at 280 agent steps with 24 steps of replay; 128 of 152 saved ones are lost" in told


@pytest.mark.slow
def test_a_replay_that_fills_up_again_brings_no_burst(copied: Path):
    """24 steps are left and an update needs 80: from step 336 on there is one every four steps, and none before."""
    cut_chunks(copied)
    assert go_on(copied, "--replay.max-lost", "1", steps=360) == 0
    counters = read_meta(checkpoint(copied, 360))["counters"]
    assert counters == {"agent_steps": 360, "env_frames": 360, "updates": 51 + (360 - 336) // 4}


def cut_chunks(run: Path) -> None:
    for path in (run / "replay").iterdir():
        path.write_bytes(path.read_bytes()[:-1])


def test_a_finished_run_says_its_score(saved: Path, copied: Path, capsys: pytest.CaptureFixture[str]):
    with (saved / "episodes.csv").open() as file:
        score = float(list(csv.DictReader(file))[-1]["score"])
    assert go_on(copied, "--log.quiet=false") == 0
    assert f"done: 280 agent steps, 280 env frames, 51 updates, last score {score:,.1f}" in capsys.readouterr().out


def test_safe_changes_are_told_and_unsafe_ones_need_a_flag(copied: Path, capsys: pytest.CaptureFixture[str]):
    assert go_on(copied, "--train-ratio", "32", "--replay.capacity", "1000") == 0
    told = capsys.readouterr().err
    assert "changed: train_ratio: 16.0 -> 32.0" in told
    assert "changed: replay.capacity: 160 -> 1000" in told
    kept = (copied / "config.yaml").read_text()
    assert "train_ratio: 32.0" in kept

    unsafe = ["--train-ratio", "32", "--replay.capacity", "1000", "--optimizer.warmup", "7"]
    assert go_on(copied, *unsafe) == 1
    assert "optimizer.warmup: 1000 in the run, 7 now" in capsys.readouterr().err
    assert go_on(copied, *unsafe, "--allow-config-change") == 0
    assert "changed: optimizer.warmup: 1000 -> 7" in capsys.readouterr().err
    kept = (copied / "config.yaml").read_text()
    assert "warmup: 7" in kept
    assert "allow_config_change: false" in kept  # it holds for one start


def test_another_size_is_refused_with_a_way_out(copied: Path, capsys: pytest.CaptureFixture[str]):
    before = (copied / "config.yaml").read_text()
    other = ["--world.rssm.deter", "128", "--allow-config-change"]
    assert go_on(copied, *other) == 1
    message = capsys.readouterr().err
    assert "float32[" in message
    assert "--init-from" in message
    assert (copied / "config.yaml").read_text() == before  # nothing was changed by the attempt


@pytest.mark.parametrize("damage", ["removed: 3\n", "env: [\n"])
def test_a_configuration_of_another_version_is_a_sentence(
    copied: Path, capsys: pytest.CaptureFixture[str], damage: str
):
    with (copied / "config.yaml").open("a") as file:
        file.write(damage)
    assert go_on(copied) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: The configuration of {copied} is damaged, or of another version")
    assert "Traceback" not in message
    assert go_on(copied, "--allow-config-change") == 0


@pytest.mark.slow
def test_a_new_run_starts_with_the_parameters_of_another(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The first update has a learning rate of 0, so that what was taken over is still there."""
    run = tmp_path / "run"
    command = ["--steps", "80", "--logdir", str(run), "--init-from", str(saved)]
    assert main([*BASE, *command, "--seed", "3"]) == 0
    assert "parameter arrays come from" in capsys.readouterr().err
    source, started = newest(saved), newest(run)
    for (path, theirs), ours in zip(
        jax.tree_util.tree_leaves_with_path(source.arrays["train"].params),
        jax.tree.leaves(started.arrays["train"].params),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=jax.tree_util.keystr(path))
    assert started.meta["counters"] == {"agent_steps": 80, "env_frames": 80, "updates": 1}
    assert main([*BASE, "--seed", "3", "--steps", "80", "--logdir", str(run)]) == 0  # the same run, without the flag
    assert f"init_from: {saved}" in (run / "config.yaml").read_text()
    assert main([*BASE, *command[:-1], str(tmp_path), "--seed", "3"]) == 1  # from elsewhere it cannot have begun
    assert f"init_from: {saved} in the run, {tmp_path} now" in capsys.readouterr().err


def test_a_start_from_nothing_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = [*BASE, "--steps", "80", "--logdir", str(tmp_path / "run"), "--init-from", str(tmp_path / "nowhere")]
    assert main(command) == 1
    assert "nowhere is neither a checkpoint nor a run with one" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
