"""Weights & Biases: what it is told, that its failures cost nothing, and the real package, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from dreamer.config import Config
from dreamer.train import main
from dreamer.training import wandb_log
from dreamer.training.counters import Counters
from dreamer.training.metrics import MetricsLogger
from dreamer.training.wandb_log import WandbLog

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES = np.zeros((2, 4, 4, 3), np.uint8)


class FakeRun:
    """Keeps what it is told, and raises once the network is gone."""

    def __init__(self):
        self.rows, self.metrics, self.finished, self.is_online = [], [], False, True

    def define_metric(self, name, **rest):
        self.metrics.append((name, rest))

    def log(self, row):
        if not self.is_online:
            raise ConnectionError("no network")
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def fake(monkeypatch) -> SimpleNamespace:
    """Stands for the package, which the tests' environment does not have."""
    module, given = ModuleType("wandb"), SimpleNamespace(run=FakeRun(), arguments={}, error=None)

    def init(**arguments):
        given.arguments = arguments
        if given.error:
            raise given.error
        return given.run

    module.init, module.Settings, module.Video = init, lambda **settings: settings, lambda file, format: file.read()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return given


def make_logger(directory: Path) -> MetricsLogger:
    directory.mkdir(parents=True, exist_ok=True)
    return MetricsLogger(
        directory, env="x", seed=0, resume_at=None,
        open_mirror=lambda: WandbLog(directory, run_id="0123456789abcdef", config=Config(env="x")),
    )  # fmt: skip


def test_it_is_told_the_same_at_agent_steps(tmp_path, fake):
    logger = make_logger(tmp_path / "runs" / "first")
    logger.scalars(Counters(10, 40, 5), {"loss/reward": 5.5})
    logger.episode(Counters(12, 48, 6), score=3.0, length=7)
    logger.video(Counters(14, 56, 7), "open_loop/image", FRAMES)
    logger.close()
    assert logger.failures == 0
    told = {name: fake.arguments[name] for name in ("project", "name", "id", "resume")}
    assert told == {"project": "runs", "name": "first", "id": "0123456789abcdef", "resume": "allow"}
    assert fake.arguments["config"]["world"]["rssm"]["deter"] == Config().world.rssm.deter
    assert fake.run.metrics == [("global_step", {}), ("*", {"step_metric": "global_step"})]
    scalars, episode, video = fake.run.rows
    assert scalars == {"loss/reward": 5.5, "global_step": 10, "counters/env_frames": 40, "counters/updates": 5}
    assert (episode["episode/score"], episode["episode/length"], episode["global_step"]) == (3.0, 7, 12)
    assert video["open_loop/image"].startswith(b"GIF")
    assert video["global_step"] == 14
    assert fake.run.finished


def test_failures_are_counted_and_the_files_are_written(tmp_path, fake):
    logger = make_logger(tmp_path)
    logger.scalars(Counters(1, 1, 0), {"a": 1.0})
    fake.run.is_online = False
    with pytest.warns(UserWarning, match=r"Weights & Biases fails \(no network\); training goes on"):
        logger.scalars(Counters(2, 2, 0), {"a": 1.0})
    logger.episode(Counters(3, 3, 0), score=1.0, length=1)  # a second warning would be an error
    logger.video(Counters(3, 3, 0), "open_loop/image", FRAMES)
    logger.close()
    assert (logger.failures, len(fake.run.rows)) == (3, 1)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_start_without_network_is_counted(tmp_path, fake):
    fake.error = ConnectionError("no route to host")
    with pytest.warns(UserWarning, match="no route to host"):
        logger = make_logger(tmp_path)
    logger.scalars(Counters(1, 1, 0), {"a": 1.0})
    logger.close()
    assert logger.failures == 1


def test_an_end_without_network_is_not_waited_for(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(wandb_log, "END_SECONDS", 0.05)
    released = threading.Event()
    fake.run.finish = released.wait
    logger = make_logger(tmp_path)
    with pytest.warns(UserWarning, match="wandb sync"):
        logger.close()
    released.set()
    assert logger.failures == 1


def test_a_missing_package_is_named_at_the_start(tmp_path, monkeypatch, capsys):
    """A folder that wandb left behind lies in the way, which Python takes for a package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    arguments = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "3000", "--log.wandb"]
    assert main([*arguments, "--logdir", str(tmp_path / "run")]) == 1
    assert "pip install -e '.[wandb]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


REAL = """
import json, sys, warnings
from pathlib import Path

import numpy as np

from dreamer.config import Config
from dreamer.training.counters import Counters
from dreamer.training.metrics import MetricsLogger
from dreamer.training.run_folder import RunFolder
from dreamer.training.wandb_log import WandbLog, require_wandb

require_wandb()
before = Counters(*json.loads(sys.argv[2]))
with RunFolder(sys.argv[1]) as folder:
    logger = MetricsLogger(
        folder.path, env="x", seed=0, resume_at=before if before.updates else None,
        open_mirror=lambda: WandbLog(folder.path, run_id=folder.run_id, config=Config(env="x")),
    )
    for step in range(1, 4):
        at = Counters(*(count + step for count in before))
        logger.scalars(at, {"loss/reward": 1.0 / step, "loss/policy": float("nan")})
        logger.episode(at, score=1.0, length=step)
    logger.video(at, "open_loop/image", np.zeros((3, 8, 8, 3), np.uint8))
    logger.close()
assert logger.failures == 0, logger.failures
"""


@pytest.mark.slow
def test_the_real_package_offline(tmp_path):
    """Installed beside the tests' environment; one run, gone on with once. Its files hold what was logged."""
    packages, run = tmp_path / "packages", tmp_path / "runs" / "first"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "wandb>=0.18"]
    subprocess.run(pip, check=True, capture_output=True)
    paths = os.pathsep.join([str(REPOSITORY), str(packages)])
    environment = os.environ | {"PYTHONPATH": paths, "WANDB_MODE": "offline"}
    for before in ([0, 0, 0], [3, 3, 3]):
        command = [sys.executable, "-c", REAL, str(run), json.dumps(before)]
        subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    run_id = json.loads((run / "run.json").read_text())["run_id"]
    contents = [path.read_bytes() for path in (run / "wandb").glob(f"offline-run-*-{run_id}/*.wandb")]
    assert len(contents) == 2
    for content in contents:
        assert all(name in content for name in (b"loss/reward", b"global_step", b"episode/score", b"open_loop/image"))
