"""One small trained run, shared by all tests of the Python API."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dreamer.train import main

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # CartPole draws with pygame, here without a screen


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished CartPole run; tests must not write to it."""
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    arguments = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "200", "--log.quiet"]
    assert main([*arguments, "--logdir", str(folder)]) == 0
    return folder
