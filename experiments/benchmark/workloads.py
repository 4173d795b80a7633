"""What is measured: an environment's spaces, a model size, and random experience of the published shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.cores import devices_for
from dreamer.training.mesh import Placement
from dreamer.training.state import Definition
from dreamer.types import Batch, CompactLatent
from dreamer.validation import resolve
from envs.spaces import ActionSpec, DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec

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

    def define(self, overrides: dict[str, Any] | None = None, *, miniature: bool = False) -> Definition:
        """The networks under the preset of the environment, batch 16 x 64, plus `overrides` by dotted name.

        In miniature: those of the preset `debug`, with its batch of 4 x 16, to try the measurement itself.
        """
        published = {"size": self.size, "replay.batch_size": 16, "replay.batch_length": 64}
        chosen = {"preset": "debug"} if miniature else published
        return Definition(resolve({"env": self.env, **chosen, **(overrides or {})}), *self.spaces)


WORKLOADS = {
    "proprio-1m": Workload("dmc_walker_walk", "1m", WALKER),
    "proprio-12m": Workload("dmc_walker_walk", "12m", WALKER),
    "atari100k-12m": Workload("atari100k_pong", "12m", COLOR),
    "atari-12m": Workload("atari_pong", "12m", GRAY),
    "atari100k-200m": Workload("atari100k_pong", "200m", COLOR),
}


def placement(definition: Definition) -> Placement:
    """Where a run would put it: on a CPU as many of JAX's devices as its batch can be divided among, else the first."""
    devices = jax.devices()
    count = devices_for(definition.config.replay.batch_size, cores=len(devices)) if devices[0].platform == "cpu" else 1
    return Placement(f"data={count}" if count > 1 else "", devices=devices[:count])


def random_steps(definition: Definition, *leading: int) -> dict[str, np.ndarray]:
    """Steps of shape `[*leading, ...]` by field: random observations and rewards, no episode ends."""
    rng, steps = np.random.default_rng(0), definition.layout.allocate(*leading)
    for name, array in steps.items():
        if name.startswith("observation/") or name == "reward":
            noise = rng.integers(0, 255, array.shape) if array.dtype == np.uint8 else rng.normal(size=array.shape)
            steps[name] = noise.astype(array.dtype)
    return steps


def random_batch(definition: Definition, where: Placement | None = None) -> Batch:
    """A batch of the configured shape with random content, on the device, or on those of `where`."""
    replay = definition.config.replay
    steps = random_steps(definition, replay.batch_size, replay.batch_length)
    observation: dict[str, Any] = {key: steps[f"observation/{key}"] for key in definition.observation_spec}
    flags: list[Any] = [steps[name] for name in ("reward", "is_first", "is_last", "is_terminal")]
    context: Any = CompactLatent(steps["deter"][:, 0], steps["stoch"][:, 0])
    action: Any = steps["action"]
    return (where or Placement()).put_batch(Batch(observation, action, *flags, context))
