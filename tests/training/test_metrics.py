from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer.training.counters import Counters
from dreamer.training.metrics import EPISODE_COLUMNS, MetricsLogger

tensorboards_thread_may_die = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def at(agent_steps: int) -> Counters:
    return Counters(agent_steps=agent_steps, env_frames=4 * agent_steps, updates=agent_steps // 2)


def make_logger(directory: Path, *, resume_at: Counters | None = None) -> MetricsLogger:
    return MetricsLogger(directory, env="atari_pong", seed=3, resume_at=resume_at)


def read_rows(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def read_episodes(directory: Path) -> list[dict]:
    with (directory / "episodes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_tensorboard(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory), purge_orphaned_data=False).Reload()


def log_steps(logger: MetricsLogger, steps: range) -> None:
    for step in steps:
        logger.scalars(at(step), {"loss/reward": step / 10})
        logger.episode(at(step), score=float(step), length=step)


def test_rows_have_one_schema(tmp_path):
    logger = make_logger(tmp_path)
    logger.scalars(at(10), {"loss/reward": np.float32(0.5), "fps": 3})
    logger.scalars(at(20), {"loss/reward": 0.25})
    logger.close()
    first, second = read_rows(tmp_path)
    assert list(first) == ["agent_steps", "env_frames", "updates", "seconds", "loss/reward", "fps"]
    assert (first["agent_steps"], first["env_frames"], first["updates"]) == (10, 40, 5)
    assert first["loss/reward"] == 0.5
    assert second["seconds"] >= first["seconds"] >= 0


def test_rows_are_strict_json_even_after_divergence(tmp_path):
    logger = make_logger(tmp_path)
    logger.scalars(at(1), {"nan": math.nan, "inf": math.inf, "fine": 1.0})
    logger.close()
    (row,) = read_rows(tmp_path)
    assert (row["nan"], row["inf"], row["fine"]) == (None, None, 1.0)
    assert math.isnan(read_tensorboard(tmp_path).Scalars("nan")[0].value)


def test_episodes_are_a_table(tmp_path):
    logger = make_logger(tmp_path)
    logger.episode(at(10), score=-21.0, length=900)
    logger.close()
    (row,) = read_episodes(tmp_path)
    assert tuple(row) == EPISODE_COLUMNS
    assert list(row.values()) == ["atari_pong", "3", "10", "40", "5", "-21.0", "900"]


def test_an_env_name_with_a_comma_stays_one_cell(tmp_path):
    name = 'my_package:Env("a,b")'
    logger = MetricsLogger(tmp_path, env=name, seed=0, resume_at=None)
    logger.episode(at(1), score=1.0, length=1)
    logger.close()
    assert read_episodes(tmp_path)[0]["env"] == name


def test_tensorboard_reads_scalars_and_video(tmp_path):
    logger = make_logger(tmp_path)
    logger.scalars(at(10), {"loss/reward": 0.5})
    logger.episode(at(10), score=-21.0, length=900)
    frames = np.random.default_rng(0).integers(0, 255, (5, 12, 16, 1), dtype=np.uint8)
    logger.video(at(10), "open_loop/image", frames)
    logger.close()
    events = read_tensorboard(tmp_path)
    for tag, value in {
        "loss/reward": 0.5,
        "episode/score": -21.0,
        "charts/episodic_return": -21.0,
        "episode/length": 900.0,
        "counters/agent_steps": 10.0,
        "counters/updates": 5.0,
    }.items():
        (event,) = events.Scalars(tag)
        assert (event.step, event.value) == (40, value), tag  # the axis is env_frames
    (image,) = events.Images("open_loop/image")
    assert (image.width, image.height, image.step) == (16, 12, 40)
    assert image.encoded_image_string.startswith(b"GIF89a")


def test_resume_removes_what_the_crash_undid(tmp_path):
    """The rows of steps 6 to 9 were written after the checkpoint of step 5; the resumed run writes them anew."""
    logger = make_logger(tmp_path)
    log_steps(logger, range(1, 10))
    logger.close()
    resumed = make_logger(tmp_path, resume_at=at(5))
    log_steps(resumed, range(6, 8))
    resumed.close()
    expected = [1, 2, 3, 4, 5, 6, 7]
    assert [row["agent_steps"] for row in read_rows(tmp_path)] == expected
    assert [int(row["agent_steps"]) for row in read_episodes(tmp_path)] == expected
    events = read_tensorboard(tmp_path)  # files of one second and process come in the order of their names: 10 before 9
    assert sorted(event.step for event in events.Scalars("loss/reward")) == [4 * step for step in expected]
    assert sorted(event.step for event in events.Scalars("episode/score")) == [4 * step for step in expected]


def test_wall_seconds_go_on(tmp_path):
    logger = make_logger(tmp_path)
    logger.scalars(at(1), {})
    logger.close()
    row = read_rows(tmp_path)[0] | {"seconds": 1000.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    resumed = make_logger(tmp_path, resume_at=at(1))
    resumed.scalars(at(2), {})
    resumed.close()
    assert 1000.0 <= read_rows(tmp_path)[1]["seconds"] < 1060.0


def test_a_run_that_starts_anew_keeps_no_rows(tmp_path):
    logger = make_logger(tmp_path)
    log_steps(logger, range(3))
    logger.close()
    again = make_logger(tmp_path, resume_at=None)
    again.scalars(at(0), {"new": 1.0})
    again.close()
    assert [list(row)[-1] for row in read_rows(tmp_path)] == ["new"]
    assert not (tmp_path / "episodes.csv").exists()
    assert "loss/reward" not in read_tensorboard(tmp_path).Tags()["scalars"]


def test_a_killed_writer_leaves_whole_rows_only(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.training.test_metrics import at, make_logger\n"
        "logger = make_logger(Path(sys.argv[1]))\n"
        "for step in range(1, 10**9): logger.scalars(at(step), {'a': 0.1}); logger.episode(at(step), score=1, length=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    rows = read_rows(tmp_path)
    assert len(rows) > 100
    assert abs(len(rows) - len(read_episodes(tmp_path))) <= 1
    middle = rows[len(rows) // 2]["agent_steps"]
    make_logger(tmp_path, resume_at=at(middle)).close()
    assert [row["agent_steps"] for row in read_rows(tmp_path)] == list(range(1, middle + 1))
    steps = [event.step for event in read_tensorboard(tmp_path).Scalars("a")]
    assert max(steps, default=0) <= 4 * middle


@pytest.mark.parametrize("cut", [1, 30])
def test_rows_cut_short_are_dropped(tmp_path, cut):
    logger = make_logger(tmp_path)
    log_steps(logger, range(1, 4))
    logger.close()
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-cut])
    resumed = make_logger(tmp_path, resume_at=at(100))
    resumed.scalars(at(101), {"loss/reward": 1.0})
    resumed.episode(at(101), score=1.0, length=1)
    resumed.close()
    assert read_rows(tmp_path)[-1]["agent_steps"] == 101
    assert read_episodes(tmp_path)[-1]["agent_steps"] == "101"
    assert resumed.failures == 0
    assert read_tensorboard(tmp_path).Scalars("loss/reward")[-1].step == 404


@tensorboards_thread_may_die
def test_a_full_disk_never_stops_training(tmp_path):
    """/dev/full takes no byte."""
    logger = make_logger(tmp_path)
    (events,) = tmp_path.glob("events.*")
    for path in (tmp_path / "metrics.jsonl", tmp_path / "episodes.csv", events):
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/full")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(2, 6):
            log_steps(logger, range(step, step + 1))
            logger.flush()
        logger.close()
    said = [str(warning.message) for warning in caught if "Logging to" in str(warning.message)]
    assert len(said) == 3
    assert sorted(text.split()[2] for text in said) == ["episodes.csv", "metrics.jsonl", "tensorboard"]
    assert all("No space left" in text for text in said)
    assert logger.failures >= 4 + 4 + 4


@tensorboards_thread_may_die
def test_a_folder_that_vanishes_never_stops_training(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    logger = make_logger(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.warns(UserWarning, match="training goes on"):
        log_steps(logger, range(1, 3))
    logger.close()
    assert logger.failures >= 4


def test_a_broken_frame_is_counted_and_training_goes_on(tmp_path):
    logger = make_logger(tmp_path)
    with pytest.warns(UserWarning, match="videos"):
        logger.video(at(1), "open_loop/image", np.zeros((0, 4, 4, 3), np.uint8))
    logger.close()
    assert logger.failures == 1


def test_writing_is_cheap(tmp_path):
    logger = make_logger(tmp_path)
    values = {f"loss/{index}": float(index) for index in range(50)}
    start = time.perf_counter()
    for step in range(100):
        logger.scalars(at(step), values)
    seconds = time.perf_counter() - start
    logger.close()
    assert seconds / 100 < 0.01


def test_tensorflow_is_not_needed(tmp_path):
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from dreamer.training.metrics import MetricsLogger\n"
        "logger = MetricsLogger(sys.argv[1], env='x', seed=0, resume_at=None); logger.close()\n"
        "assert logger.failures == 0"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True)
