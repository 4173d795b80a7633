"""Parameters of another run, as far as names and shapes fit."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from dreamer.training.checkpoint import CheckpointError, Checkpoints
from dreamer.training.init_from import inherit
from dreamer.training.step import initial_carry
from envs.spaces import VectorSpec
from tests.model.tiny import tiny_definition


def leaves(params) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in found}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with one checkpoint."""
    run, definition = tmp_path_factory.mktemp("source"), tiny_definition()
    arrays = {"train": definition.init(0), "carry": initial_carry(definition, 1)}
    Checkpoints(run / "checkpoints").save(7, arrays=arrays, host={}, meta={})
    return run


def test_everything_that_is_learned_is_taken_over_and_nothing_else(source: Path):
    definition = tiny_definition()
    theirs, fresh = definition.init(0), definition.init(1)
    state, told = inherit(fresh, source)
    ours, expected = leaves(state.params), leaves(theirs.params)
    assert ours.keys() == expected.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
    for name, leaf in leaves(state.slow_critic).items():
        np.testing.assert_array_equal(leaf, expected[f"behavior/critic/{name}"], err_msg=name)
    assert (state.step, state.skipped) == (0, 0)
    assert state.optimizer is fresh.optimizer
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(fresh.key))
    assert f"{len(ours)} of {len(ours)} parameter arrays" in told
    assert "new are" not in told
    (checkpoint,) = (source / "checkpoints").iterdir()
    assert inherit(definition.init(1), checkpoint)[1] == told


def test_another_environment_gets_what_fits(source: Path):
    definition = tiny_definition({"state": VectorSpec(11)})
    fresh = definition.init(1)
    before, theirs = leaves(fresh.params), leaves(tiny_definition().init(0).params)
    state, told = inherit(fresh, source)
    taken = [name for name, leaf in before.items() if name in theirs and leaf.shape == theirs[name].shape]
    assert 0 < len(taken) < len(before)
    for name, leaf in leaves(state.params).items():
        np.testing.assert_array_equal(leaf, theirs[name] if name in taken else before[name], err_msg=name)
    assert f"{len(taken)} of {len(before)} parameter arrays" in told
    assert "world/encoder" in told
    assert "there, 11x" in told


def test_where_nothing_fits_it_is_refused(source: Path):
    state = tiny_definition().init(1)
    renamed = state._replace(params={"other": state.params})
    with pytest.raises(CheckpointError, match=r"No parameter of .* fits this run: .*\(not there\), and \d+ more"):
        inherit(renamed, source)


def test_a_changed_byte_is_noticed(source: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a run"):
        inherit(tiny_definition().init(1), tmp_path)
    (checkpoint,) = (source / "checkpoints").iterdir()
    data = next(path for path in checkpoint.rglob("d/*") if path.is_file())
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{data.name} has changed"):
        inherit(tiny_definition().init(1), checkpoint)
