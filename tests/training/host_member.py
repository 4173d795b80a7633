"""One of two hosts without a training: `python -m tests.training.host_member INDEX FOLDER [COORDINATOR]`.

Without a coordinator JAX has to find the other, as under Slurm. It joins, spreads a state over the devices of both,
saves it together, loads it again, and then host 1 fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.config import HostsConfig
from dreamer.training.checkpoint import CheckpointError, restore
from dreamer.training.hosts import Hosts, Round, join
from dreamer.training.line import FAULT, HostLostError
from dreamer.training.mesh import Placement
from dreamer.training.shared_checkpoints import SharedCheckpoints

SHAPES = {"large": (128, 64), "small": (3,)}


def main(index: int, folder: Path, coordinator: str = "") -> int:
    found = HostsConfig(count=2, index=index, coordinator=coordinator) if coordinator else HostsConfig(count=0)
    with join(found) as hosts:
        assert (hosts.count, hosts.index) == (2, index)
        agrees(hosts)
        try:
            saves(hosts, folder)
        except CheckpointError as error:
            print(f"refused: {error}")
        hosts.exchange(None, at="before the end")
        if index == 1:
            raise ValueError("the simulator has no licence")
        try:
            hosts.exchange(None, at="never")
        except HostLostError as error:
            print(f"lost: {error}")
            raise
    return 0


def agrees(hosts: Hosts) -> None:
    """Each host says something else, and both get the same."""
    first = hosts.is_first
    agreed = hosts.agree(Round(episodes=[(float(hosts.index), 7)], ready=first, save=not first, stop=not first))
    assert agreed == Round([(0.0, 7), (1.0, 7)], ready=False, save=False, stop=True, failed=False)


def saves(hosts: Hosts, folder: Path) -> None:
    """A state over four devices of two hosts, written in two shares and read again; then one that differs."""
    placement = Placement("data=2,model=2")
    abstract = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
    make = jax.jit(
        lambda key: {name: jax.random.normal(key, shape) for name, shape in SHAPES.items()},
        out_shardings=placement.state(abstract),
    )
    state = make(jax.random.key(0))
    assert not state["large"].is_fully_addressable
    whole = placement.on_one_device(state)
    batch = placement.put_batch(np.full((2, 3), hosts.index, np.float32))
    assert batch.shape == (4, 3)
    np.testing.assert_array_equal(placement.here(batch), np.full((2, 3), hosts.index))

    checkpoints = SharedCheckpoints(folder / "checkpoints", keep=2, hosts=hosts)
    own = np.full(5, hosts.index)
    arrays = {"train": placement.here(state), "carry": jnp.full(2, hosts.index)}
    path = checkpoints.save(12, arrays=arrays, host={"own": own}, meta={"of": hosts.index})
    assert checkpoints.latest() == path
    wanted = {"train": placement.abstract(abstract), "carry": jnp.zeros(2, int)}
    restored = checkpoints.restore(path, abstract_arrays=wanted)
    assert restored.meta["of"] == hosts.index
    np.testing.assert_array_equal(restored.host["own"], own)
    np.testing.assert_array_equal(restored.arrays["carry"], np.full(2, hosts.index))
    again = placement.spread(restored.arrays["train"])
    for name in SHAPES:
        assert again[name].sharding == state[name].sharding
        np.testing.assert_array_equal(placement.on_one_device(again)[name], whole[name])
    alone = restore(path, abstract_arrays={"train": abstract, "carry": ...})  # as one process would, on one device
    np.testing.assert_array_equal(alone.arrays["train"]["large"], whole["large"])

    arrays["train"] = jax.tree.map(lambda leaf: leaf + hosts.index, arrays["train"])
    checkpoints.save(13, arrays=arrays, host={}, meta={})


if __name__ == "__main__":
    try:
        code = main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    except (HostLostError, ValueError):
        code = FAULT
    sys.exit(code)
