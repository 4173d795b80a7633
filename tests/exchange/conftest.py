"""Packages of the extras, beside the tests' environment, and one small run whose experience and policy leave it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.train import main

PACKAGES = ("minari>=0.5.4", "h5py", "safetensors>=0.4", "flatbuffers>=24.3")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packages lie; also on this process's path."""
    target = tmp_path_factory.mktemp("extras")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *PACKAGES]
    subprocess.run(pip, check=True, capture_output=True)
    sys.path.append(str(target))
    importlib.invalidate_caches()
    return target


@pytest.fixture(scope="session")
def datasets(extras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place of its own for datasets."""
    folder = tmp_path_factory.mktemp("datasets")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished CartPole run; tests must not write to it."""
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    arguments = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "700", "--replay.chunk", "128"]
    assert main([*arguments, "--train-ratio", "4", "--logdir", str(folder), "--log.quiet"]) == 0
    return folder


@pytest.fixture
def command(extras: Path):
    """Runs `python -m MODULE ARGUMENTS` in a process of its own, as a user does."""

    def call(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(REPOSITORY), str(extras)])
        words = [sys.executable, "-m", module, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return call
