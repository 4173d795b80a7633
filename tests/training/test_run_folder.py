from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamer.training import run_lock
from dreamer.training.run_folder import RunFolder, RunFolderError, read_run_id
from dreamer.training.run_lock import RunLockedError

HOLD = """
import sys, time
from dreamer.training.run_folder import RunFolder
with RunFolder(sys.argv[1]) as run:
    print("ready", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_run_keeps_its_id(tmp_path):
    with RunFolder(tmp_path / "deep" / "run") as run:
        assert run.is_new
        first = run.run_id
    with RunFolder(tmp_path / "deep" / "run") as run:
        assert not run.is_new
        assert run.run_id == first == read_run_id(run.path)
    with RunFolder(tmp_path / "other") as other:
        assert other.run_id != first


def test_a_folder_in_which_nothing_began_is_taken_back(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        run.config.write_text("env: mistyped")
        run.replay.mkdir()
        run.discard_new()
    assert not (tmp_path / "run").exists()
    with RunFolder(tmp_path / "run") as run:
        run.replay.mkdir()
        (run.replay / "chunk").touch()
        run.discard_new()
    with RunFolder(tmp_path / "run") as run:
        (run.replay / "chunk").unlink()
        run.discard_new()  # an older run's
        assert not run.has_checkpoint
        (run.checkpoints / "000000000007").mkdir(parents=True)
        assert run.has_checkpoint
    assert (tmp_path / "run").exists()


def test_everything_lies_inside(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        for path in (run.config, run.checkpoints, run.replay, run.videos):
            assert path.parent == run.path


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"thesis\.tex.*Choose another --logdir"):
        RunFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "run")


def test_a_start_that_was_killed_is_no_obstacle(tmp_path):
    (tmp_path / "run.lock").touch()
    (tmp_path / "run.partial").write_text("{")
    with RunFolder(tmp_path) as run:
        assert run.is_new


def test_a_damaged_marker_is_named(tmp_path):
    RunFolder(tmp_path).close()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"run\.json is damaged"):
        RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match="holds no run"):
        read_run_id(tmp_path / "nowhere")


def test_what_another_run_wrote_is_refused(tmp_path):
    with RunFolder(tmp_path) as run:
        run.require_owner(run.run_id, source="checkpoint 5")
        with pytest.raises(RunFolderError, match="checkpoint 5 belongs to run abc"):
            run.require_owner("abc", source="checkpoint 5")


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    first = hold(tmp_path)
    try:
        with pytest.raises(RunLockedError, match=f"in use by process {first.pid} on .* since"):
            RunFolder(tmp_path)
    finally:
        first.kill()
        first.communicate()
    began = time.monotonic()
    with RunFolder(tmp_path) as run:
        assert not run.is_new
    assert time.monotonic() - began < 5  # kill -9 needs no human and no waiting


def test_the_same_process_is_refused_too(tmp_path):
    with RunFolder(tmp_path), pytest.raises(RunLockedError, match=f"process {os.getpid()} "):
        RunFolder(tmp_path)
    RunFolder(tmp_path).close()


@pytest.fixture
def foreign_lock(tmp_path, monkeypatch) -> Path:
    """What a holder on another host left, on a file system that keeps `flock` to one host."""
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.8)
    RunFolder(tmp_path).close()
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "yesterday"}))
    return lock


def test_another_host_with_a_heartbeat_is_respected(foreign_lock):
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            os.utime(foreign_lock)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunLockedError, match="process 1 on elsewhere since yesterday"):
            RunFolder(foreign_lock.parent)
    finally:
        ended.set()
        thread.join()


def test_another_host_without_a_heartbeat_is_dead(foreign_lock):
    with RunFolder(foreign_lock.parent):
        assert json.loads(foreign_lock.read_text())["pid"] == os.getpid()
        before = foreign_lock.stat().st_mtime_ns
        time.sleep(0.6)
        assert foreign_lock.stat().st_mtime_ns > before  # and now this one beats
    assert foreign_lock.read_text() == ""
