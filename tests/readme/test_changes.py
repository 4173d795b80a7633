"""A reader's changes: what the README proposes applies, is small, works, and does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dreamer.training.step import train_step
from tests.model.tiny import random_batch
from tests.readme.document import REPOSITORY, blocks
from tests.readme.two_updates import IMAGE, VECTOR, definition, parameter_shapes

MOST_LINES = 15
ENCODER, AUXILIARY_LOSS, METRIC = range(3)  # order in the README


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the two updates need."""
    for name in ("dreamer", "envs", "configs", "tests/model", "tests/readme"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def apply(tree: Path, diff: str) -> None:
    subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tree, check=True)


def two_updates(tree: Path, kind: str) -> dict[str, Any]:
    """Two updates with the changed package."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "tests.readme.two_updates", kind]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert np.isfinite(list(result["metrics"].values())).all()
    return result


def unchanged(kind: str) -> tuple[set[str], dict[str, list[int]]]:
    """Names of the metrics and shapes of the parameters as they are in this checkout, without computing anything."""
    tiny = definition(kind)
    state = tiny.abstract()
    _, _, metrics = jax.eval_shape(lambda state, batch: train_step(tiny, state, batch), state, random_batch(tiny))
    return set(metrics), parameter_shapes(state.params)


def test_the_readme_shows_three_changes():
    assert len(blocks("diff")) == 3


@pytest.mark.parametrize("diff", blocks("diff"))
def test_a_change_is_one_file_and_at_most_fifteen_lines(diff):
    changed = [line for line in diff.splitlines() if re.match(r"[+-](?!\+\+ |-- )", line)]
    assert len(re.findall(r"^\+\+\+ ", diff, re.MULTILINE)) == 1
    assert 0 < len(changed) <= MOST_LINES


@pytest.mark.parametrize("diff", blocks("diff"))
def test_a_changed_file_passes_the_linter(tree, diff):
    apply(tree, diff)
    path = re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE)[0]
    shutil.copy(REPOSITORY / "pyproject.toml", tree)
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, path], cwd=tree, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_another_image_encoder(tree):
    apply(tree, blocks("diff")[ENCODER])
    result = two_updates(tree, IMAGE)
    metrics, shapes = unchanged(IMAGE)
    assert set(result["metrics"]) == metrics
    names = shapes.keys() | result["shapes"].keys()
    differing = {name for name in names if shapes.get(name) != result["shapes"].get(name)}
    assert differing
    assert all(name.startswith("world/encoder/cnn_") for name in differing)
    assert [name for name in result["moved"] if name.startswith("world/encoder/cnn_16x24/layer/")]


def test_an_auxiliary_loss_and_a_metric(tree):
    """Both in one tree: they are apart in the file, and one compilation is enough to see them."""
    apply(tree, blocks("diff")[AUXILIARY_LOSS])
    apply(tree, blocks("diff")[METRIC])
    result = two_updates(tree, VECTOR)
    metrics, shapes = unchanged(VECTOR)
    assert set(result["metrics"]) - metrics == {"loss/inverse", "reward_error"}
    assert metrics <= set(result["metrics"])
    assert min(result["metrics"]["loss/inverse"], result["metrics"]["reward_error"]) > 0
    head = {"world/inverse_head/kernel", "world/inverse_head/bias"}
    assert result["shapes"].keys() - shapes.keys() == head <= set(result["moved"])
