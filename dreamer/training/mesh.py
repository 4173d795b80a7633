"""Where arrays live when there is more than one device: shardings are data, the update itself knows nothing of them.

`--mesh data=4,model=2` arranges eight devices as a grid. Batches are split over `data`; every large array of the train
state is split over `model` along its longest axis that divides evenly, small ones are copied to all. XLA derives the
communication from that, so that the update is the same function on any mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from dreamer.config import MESH_AXES, mesh_sizes
from dreamer.training.state import TrainState

LARGE = 2**12  # numbers; below, splitting costs more than it saves

Tree = TypeVar("Tree")


class MeshError(ValueError):
    """A mesh that these devices cannot form."""


class Placement:
    """The devices of a run and what lies where.

    Args:
        mesh: `data=4,model=2`, either axis may be left out; empty: the first device alone.
        devices: all of JAX's by default, those of other hosts included.

    Raises:
        MeshError: the devices are too few or too many.
    """

    def __init__(self, mesh: str = "", *, devices: Sequence[Any] | None = None) -> None:
        chosen = jax.devices() if devices is None else list(devices)
        self.mesh: Mesh | None = None
        if not mesh:
            self.everywhere: Sharding = SingleDeviceSharding(chosen[0])
            self.batch: Sharding = self.everywhere
            return
        data, model = mesh_sizes(mesh)
        if data * model != len(chosen):
            raise MeshError(f"--mesh {mesh} needs {data * model} devices, and JAX sees {len(chosen)}.")
        self.mesh = Mesh(np.asarray(chosen).reshape(data, model), MESH_AXES)
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.batch = NamedSharding(self.mesh, PartitionSpec("data"))
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.everywhere)

    def state(self, abstract: TrainState) -> TrainState:
        """The sharding of every array of a train state, as a tree like it."""
        return jax.tree.map(self._split_large, abstract)

    def abstract(self, abstract: TrainState) -> TrainState:
        """`abstract` with its shardings, to restore a checkpoint of any mesh on this one."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract,
            self.state(abstract),
        )

    def results(self, abstract: TrainState) -> tuple[Any, Any, Any]:
        """Shardings of what the update returns: the next state like the last, latents like the batch, metrics."""
        return self.state(abstract), self.batch, self.everywhere

    def put_batch(self, batch: Tree) -> Tree:
        """Moves arrays `[B, ...]` to the devices, split over `data`. B counts the sequences of this process."""
        if self.mesh is None:
            return jax.device_put(batch, self.batch)
        return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(self.batch, rows), batch)

    def on_one_device(self, tree: Tree) -> Tree:
        """A whole copy on the first device of this process: what acts takes the parameters from there."""
        if self.mesh is None:
            return tree
        if self.mesh.shape["model"] > 1:
            tree = self._gather(tree)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def _split_large(self, leaf: Any) -> Sharding:
        if self.mesh is None or leaf.size < LARGE or leaf.ndim < 2:
            return self.everywhere
        size = self.mesh.shape["model"]
        fitting = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % size == 0]
        if not fitting:
            return self.everywhere
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*(["model" if a == longest else None for a in range(leaf.ndim)])))
