"""Where arrays live when there is more than one device.

`--mesh data=4,model=2` arranges eight devices as a grid. Batches are split over `data`: each device computes the
gradient of its rows (`training/step.py`). Every large array of the train state is split over `model` along its longest
axis that divides evenly, small ones are copied to all; XLA derives the communication from that.

The devices of several hosts form one mesh, of which each host holds whole rows, and with them the whole train state.
Hence a host acts, saves and loads with arrays on its own devices: `here` and `spread` turn the pieces of an array over
all hosts into one of this host and back, without copying or communicating.
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
        MeshError: the devices are too few or too many, or a row of them reaches over hosts.
    """

    def __init__(self, mesh: str = "", *, devices: Sequence[Any] | None = None) -> None:
        chosen = jax.devices() if devices is None else list(devices)
        self.mesh: Mesh | None = None
        self._rows_here: Mesh | None = None
        if not mesh:
            self.everywhere: Sharding = SingleDeviceSharding(chosen[0])
            self.batch: Sharding = self.everywhere
            return
        data, model = mesh_sizes(mesh)
        if data * model != len(chosen):
            raise MeshError(f"--mesh {mesh} needs {data * model} devices, and JAX sees {len(chosen)}.")
        grid = np.asarray(sorted(chosen, key=lambda device: device.process_index)).reshape(data, model)
        self.mesh = Mesh(grid, MESH_AXES)
        self._rows_here = _rows_of_this_host(self.mesh)
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.batch = NamedSharding(self.mesh, PartitionSpec("data"))
        self._gather = jax.jit(lambda tree: tree, out_shardings=NamedSharding(self._rows_here, PartitionSpec()))

    def state(self, abstract: TrainState) -> TrainState:
        """The sharding of every array of a train state, as a tree like it."""
        return jax.tree.map(self._split_large, abstract)

    def abstract(self, abstract: TrainState) -> TrainState:
        """`abstract` with its shardings on this host, to restore a checkpoint of any mesh; `spread` comes after."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._on(sharding)),
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
        whole = self._gather(self.here(tree)) if self.mesh.shape["model"] > 1 else tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)

    def here(self, tree: Tree) -> Tree:
        """What this host holds of arrays over all of them: the whole train state, its own rows of a batch."""
        if self.mesh is self._rows_here:
            return tree
        return jax.tree.map(self._piece, tree)

    def spread(self, state: TrainState) -> TrainState:
        """Undoes `here` for a train state, which all hosts must have alike."""
        mesh = self.mesh
        if mesh is None or mesh is self._rows_here:
            return state
        return jax.tree.map(lambda leaf: _assembled(leaf, leaf.shape, NamedSharding(mesh, leaf.sharding.spec)), state)

    def _piece(self, leaf: Any) -> Any:
        assert self.mesh is not None
        assert self._rows_here is not None
        shape = list(leaf.shape)
        if "data" in leaf.sharding.spec:
            axis = leaf.sharding.spec.index("data")
            shape[axis] = shape[axis] * self._rows_here.shape["data"] // self.mesh.shape["data"]
        return _assembled(leaf, tuple(shape), self._on(leaf.sharding))

    def _on(self, sharding: Any) -> Sharding:
        """The same on the devices of this host."""
        mesh = self._rows_here
        return sharding if mesh is None or mesh is self.mesh else NamedSharding(mesh, sharding.spec)

    def _split_large(self, leaf: Any) -> Sharding:
        if self.mesh is None or leaf.size < LARGE or leaf.ndim < 2:
            return self.everywhere
        size = self.mesh.shape["model"]
        fitting = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % size == 0]
        if not fitting:
            return self.everywhere
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*(["model" if a == longest else None for a in range(leaf.ndim)])))


def _rows_of_this_host(mesh: Mesh) -> Mesh:
    """`mesh` itself where it is all of one host's.

    Raises:
        MeshError: a row reaches over hosts.
    """
    process = jax.process_index()
    is_mine = np.vectorize(lambda device: device.process_index == process, otypes=[bool])(mesh.devices)
    rows = is_mine.all(axis=1)
    if (is_mine.any(axis=1) != rows).any():
        data, model = mesh.devices.shape
        raise MeshError(
            f"--mesh data={data},model={model} lets a group of {model} devices reach over hosts; the devices of a host "
            f"({jax.local_device_count()}) must be a multiple of model."
        )
    return mesh if rows.all() else Mesh(mesh.devices[rows], MESH_AXES)


def _assembled(array: Any, shape: tuple[int, ...], sharding: Sharding) -> Any:
    """An array of the pieces that this host has of another."""
    return jax.make_array_from_single_device_arrays(shape, sharding, [shard.data for shard in array.addressable_shards])
