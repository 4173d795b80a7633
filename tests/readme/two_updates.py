"""Makes two updates of the tiny model with the package that Python finds, and prints what came of them as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np

from dreamer.training.state import Definition, Params
from dreamer.training.step import make_train_step
from envs.spaces import ImageSpec, VectorSpec
from tests.model.tiny import random_batch, tiny_definition

IMAGE, VECTOR = "image", "vector"
OBSERVATIONS = {IMAGE: {"camera": ImageSpec(16, 24, 3)}, VECTOR: {"state": VectorSpec(3)}}


def definition(kind: str) -> Definition:
    """The tiny model for one kind of observation."""
    return tiny_definition(OBSERVATIONS[kind])


def parameter_shapes(params: Params) -> dict[str, list[int]]:
    """Shape of every parameter by its path, such as `world/rssm/prior_out/bias`."""
    return {name: list(leaf.shape) for name, leaf in _flat(params).items()}


def two_updates(kind: str) -> dict[str, Any]:
    """The metrics of the second update, the shapes of all parameters, and the names of those that it moved."""
    tiny = definition(kind)
    step, batch, state = make_train_step(tiny), random_batch(tiny), tiny.init(0)
    before = _flat(jax.device_get(state.params))
    metrics: dict[str, jax.Array] = {}
    for _ in range(2):  # the first has a learning rate of zero
        state, _, metrics = step(state, batch)
    after = _flat(jax.device_get(state.params))
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "shapes": parameter_shapes(state.params),
        "moved": [name for name in before if np.any(before[name] != after[name])],
    }


def _flat(params: Params) -> dict[str, Any]:
    leaves, _ = jax.tree.flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


if __name__ == "__main__":
    print(json.dumps(two_updates(sys.argv[1])))
