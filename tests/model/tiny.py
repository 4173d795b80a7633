"""A model small enough to compile in seconds, with every kind of observation and action."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dreamer.config import Config
from dreamer.training.state import Definition
from dreamer.types import Batch, CompactLatent
from dreamer.validation import resolve
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, action_width

OBSERVATION: ObservationSpec = {
    "camera": ImageSpec(16, 24, 3),
    "depth": ImageSpec(16, 24, 1),
    "map": ImageSpec(9, 9, 1),
    "state": VectorSpec(3),
    "mode": DiscreteSpec((4, 2)),
}
ACTION: ActionSpec = {"arm": VectorSpec(2), "buttons": DiscreteSpec((3, 2))}
VECTOR: ObservationSpec = {"state": VectorSpec(3)}


def tiny_config(**overrides: object) -> Config:
    return resolve({"env": "dummy", "preset": "debug", "world.rssm.deter": 32, **overrides})


def tiny_definition(
    observation: ObservationSpec = VECTOR, action: ActionSpec = ACTION, **overrides: object
) -> Definition:
    return Definition(tiny_config(**overrides), observation, action)


def random_observation(spec: ObservationSpec, shape: tuple[int, ...], rng: np.random.Generator) -> dict:
    values = {}
    for key, part in spec.items():
        if isinstance(part, ImageSpec):
            values[key] = rng.integers(0, 256, (*shape, part.height, part.width, part.channels), dtype=np.uint8)
        elif isinstance(part, VectorSpec):
            values[key] = rng.normal(size=(*shape, part.size)).astype(np.float32)
        else:
            parts = [rng.integers(0, classes, shape, dtype=np.int32) for classes in part.num_classes]
            values[key] = np.stack(parts, axis=-1)
    return values


def random_batch(definition: Definition, *, seed: int = 0, batch: int = 4, length: int = 16) -> Batch:
    rng, rssm = np.random.default_rng(seed), definition.config.world.rssm
    shape, width = (batch, length), action_width(definition.action_spec)
    last = rng.random(shape) < 0.15
    first = np.zeros(shape, bool)
    first[:, 1:] = last[:, :-1]
    context = CompactLatent(
        jnp.asarray(rng.normal(size=(batch, rssm.deter)), jnp.bfloat16),
        jnp.asarray(rng.integers(0, rssm.classes, (batch, rssm.stoch)), jnp.uint8),
    )
    return Batch(
        observation={k: jnp.asarray(v) for k, v in random_observation(definition.observation_spec, shape, rng).items()},
        previous_action=jnp.asarray(rng.normal(size=(*shape, width)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=shape), jnp.float32),
        is_first=jnp.asarray(first),
        is_last=jnp.asarray(last),
        is_terminal=jnp.asarray(last & (rng.random(shape) < 0.5)),
        context=context,
    )
