"""The README's programs, run as they stand; only the networks and the budget are smaller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme.document import REPOSITORY, blocks, commands

DEBUG = ["--preset", "debug", "--steps", "120"]  # the debug preset makes its first update after about 80
DREAM, ENVIRONMENT, API = range(3)  # order of the Python blocks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, which holds the environment of the README."""
    (tmp_path / "reach.py").write_text(blocks("python")[ENVIRONMENT])
    return tmp_path


def python(*arguments: str, folder: Path) -> str:
    path = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def updates(run: Path) -> int:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["updates"]


def test_an_own_environment_trains_and_is_evaluated(folder):
    train = next(words for words in commands("dreamer.train") if "reach:Reach" in words)
    evaluate = next(words for words in commands("dreamer.evaluate") if "runs/reach" in words)
    size = train.index("--size")
    shortened = [*train[:size], *train[size + 2 :], *DEBUG]  # of a repeated flag the last one counts
    plan = python("-m", "dreamer.train", *shortened, folder=folder)
    assert "state -> MLP" in plan
    assert updates(folder / "runs/reach") >= 2
    assert "20 episodes" in python("-m", "dreamer.evaluate", *evaluate, folder=folder)


def test_the_python_interface_trains_loads_and_acts(folder):
    code = blocks("python")[API]
    shortened = code.replace('size="1m"', 'preset="debug"').replace("steps=30_000", "steps=120")
    assert shortened.count("debug") == shortened.count("120") == 1
    (folder / "main.py").write_text(shortened)
    python("main.py", folder=folder)
    assert updates(folder / "runs/y") >= 2
    python("-c", "import dreamer; dreamer.load('reach-agent')", folder=folder)
