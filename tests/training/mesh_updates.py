"""Updates on meshes against the same updates on one device: `python -m tests.training.mesh_updates MODE FOLDER`.

A process of its own, since devices are simulated, and hosts joined, before JAX starts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

from dreamer.training.checkpoint import Checkpoints, restore
from dreamer.training.mesh import Placement
from dreamer.training.state import Definition, TrainState
from dreamer.training.step import make_train_step
from dreamer.types import Batch
from tests.model.tiny import random_batch, tiny_definition

# The large epsilon lets steps follow gradients; the default makes a full step of what is only a rounding error.
OPTIMIZER = {"optimizer.warmup": 0, "optimizer.learning_rate": 1e-2, "optimizer.epsilon": 1e-2}
SETTINGS = {"world.rssm.deter": 256, "replay.batch_size": 8, "behavior.horizon": 3, **OPTIMIZER}
UPDATES = 3


def define() -> Definition:
    return tiny_definition(**SETTINGS)


def host_batch(definition: Definition, seed: int) -> Batch:
    return jax.device_get(random_batch(definition, seed=seed, batch=8))


def train(
    placement: Placement, definition: Definition, state: TrainState, *, seeds: range, part: slice = slice(0, 8)
) -> tuple[TrainState, list[float]]:
    """One update for each seed; returns the state and the losses."""
    step, losses = make_train_step(definition, placement), []
    for seed in seeds:
        batch = jax.tree.map(lambda array: array[part], host_batch(definition, seed))
        state, _, metrics = step(state, placement.put_batch(batch))
        losses.append(float(metrics["loss/total"]))
    return state, losses


def fresh(placement: Placement, definition: Definition) -> TrainState:
    """A first state whose two-hot heads already know the order of magnitude of what they predict.

    A uniform head, with its bins up to 5e8, makes a mean of 0.5 of one rounding error: no two machines would agree.
    """
    doubt = -0.5 * np.abs(np.arange(-127, 128, dtype=np.float32))
    narrow = partial(jax.tree.map, lambda leaf: leaf + doubt if leaf.shape == doubt.shape else leaf)
    state = definition.init(0, placement.state(definition.abstract()))
    return state._replace(params=narrow(state.params), slow_critic=narrow(state.slow_critic))


def alone(definition: Definition) -> tuple[dict, dict, list[float]]:
    """Parameters before and after, and losses, on the first device."""
    placement = Placement(devices=jax.local_devices())
    state = fresh(placement, definition)
    before = jax.device_get(state.params)
    state, losses = train(placement, definition, state, seeds=range(UPDATES))
    return before, jax.device_get(state.params), losses


def require_equal(params: dict, losses: list[float], expected: tuple[dict, dict, list[float]]) -> None:
    """Losses agree to a ten-thousandth, and parameters to a hundredth of the way that they have moved."""
    before, after, expected_losses = expected
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    way = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True))
    assert way > 1e-3, f"the parameters have hardly moved: {way}"
    for (path, mine), theirs in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.01 * way, rtol=0, err_msg=jax.tree_util.keystr(path))


def compare(folder: Path) -> None:
    """Eight devices: a first update on one mesh, saved there, and the others on another mesh."""
    definition = define()
    first, second = Placement("data=4,model=2"), Placement("data=8")
    state, losses = train(first, definition, fresh(first, definition), seeds=range(1))
    split = [leaf for leaf in jax.tree.leaves(state.params) if not leaf.sharding.is_fully_replicated]
    assert len(split) > 5, f"only {len(split)} arrays are split"
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(first.on_one_device(state.params)))

    path = Checkpoints(folder).save(1, arrays={"train": state}, host={}, meta={})
    abstract = second.abstract(definition.abstract())
    state = restore(path, abstract_arrays={"train": abstract}).arrays["train"]
    state, more = train(second, definition, state, seeds=range(1, UPDATES))
    require_equal(jax.device_get(state.params), losses + more, alone(definition))


def two_processes(folder: Path) -> None:
    """Two processes with two devices each; every one brings half of the batch."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    variables = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "tests.training.mesh_updates", "member", str(folder), address]
    members = [subprocess.Popen([*command, str(index)], env=variables) for index in range(2)]
    try:
        assert [member.wait(timeout=400) for member in members] == [0, 0]
    finally:
        for member in members:
            member.kill()


def member(address: str, index: int) -> None:
    """One of the two processes."""
    jax.distributed.initialize(address, num_processes=2, process_id=index)
    assert jax.device_count() == 4
    assert len(jax.local_devices()) == 2
    definition = define()
    placement = Placement("data=2,model=2")
    mine = slice(4 * index, 4 * index + 4)
    state, losses = train(placement, definition, fresh(placement, definition), seeds=range(UPDATES), part=mine)
    params = jax.device_get(placement.on_one_device(state.params))
    if index == 0:
        require_equal(params, losses, alone(definition))


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    if mode == "compare":
        compare(Path(folder))
    elif mode == "two-processes":
        two_processes(Path(folder))
    else:
        member(rest[0], int(rest[1]))
