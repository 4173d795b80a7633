"""What is measured: an environment's spaces, a model size, and random batches of the published shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.data.layout import StepLayout
from dreamer.training.state import Definition
from dreamer.types import Batch, CompactLatent
from dreamer.validation import resolve
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, action_width

WALKER: tuple[ObservationSpec, ActionSpec] = (
    {"orientations": VectorSpec(14), "height": VectorSpec(1), "velocity": VectorSpec(9)},
    {"action": VectorSpec(6)},
)
COLOR: tuple[ObservationSpec, ActionSpec] = ({"image": ImageSpec(64, 64, 3)}, {"action": DiscreteSpec((6,))})
GRAY: tuple[ObservationSpec, ActionSpec] = ({"image": ImageSpec(96, 96, 1)}, {"action": DiscreteSpec((18,))})


class Workload(NamedTuple):
    """An environment by name, the spaces that it has, and a model size."""

    env: str
    size: str
    spaces: tuple[ObservationSpec, ActionSpec]

    def define(self, overrides: dict[str, Any] | None = None) -> Definition:
        """The networks under the preset of the environment, batch 16 x 64, plus `overrides`."""
        replay = {"batch_size": 16, "batch_length": 64}
        overrides = overrides or {}
        merged = {"env": self.env, "size": self.size, **overrides, "replay": replay | overrides.get("replay", {})}
        return Definition(resolve(merged), *self.spaces)


WORKLOADS = {
    "proprio-1m": Workload("dmc_walker_walk", "1m", WALKER),
    "proprio-12m": Workload("dmc_walker_walk", "12m", WALKER),
    "atari100k-12m": Workload("atari100k_pong", "12m", COLOR),
    "atari-12m": Workload("atari_pong", "12m", GRAY),
    "atari100k-200m": Workload("atari100k_pong", "200m", COLOR),
}


def random_batch(definition: Definition) -> Batch:
    """A batch of the configured shape with random content, on the device."""
    config, rng = definition.config, np.random.default_rng(0)
    shape = (config.replay.batch_size, config.replay.batch_length)
    rssm, width = config.world.rssm, action_width(definition.action_spec)
    layout = StepLayout(definition.observation_spec, action=width, deter=rssm.deter, stoch=rssm.stoch)
    steps = layout.allocate(*shape)
    observation = {}
    for key in definition.observation_spec:
        array = steps[f"observation/{key}"]
        noise = rng.integers(0, 255, array.shape) if array.dtype == np.uint8 else rng.normal(size=array.shape)
        observation[key] = noise.astype(array.dtype)
    context = CompactLatent(steps["deter"][:, 0], steps["stoch"][:, 0])
    flags = [steps[name] for name in ("is_first", "is_last", "is_terminal")]
    batch = Batch(observation, steps["action"], rng.normal(size=shape).astype(np.float32), *flags, context)
    return jax.device_put(batch)
