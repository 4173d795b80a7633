"""A new run that starts with another run's parameters, as far as they fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from dreamer.training.checkpoint import CheckpointError, Checkpoints, read_part
from dreamer.training.manifest import MANIFEST
from dreamer.training.state import Params, TrainState

PARAMS = ("train", "params")  # where a run's checkpoint holds them
SHOWN = 6  # names


def inherit(state: TrainState, source: str | Path) -> tuple[TrainState, str]:
    """A fresh train state with every parameter of `source` whose name and shape fit; the rest stays as it is.

    Optimizer, counters, random key and return range are those of a new run, and the slow critic is a copy of the
    critic, as in every new run.

    Args:
        state: of the new run.
        source: the folder of a run, whose newest sound checkpoint counts, or of one of its checkpoints.

    Returns:
        The state, and what was taken over, in words.

    Raises:
        CheckpointError: there is no sound checkpoint, or nothing of it fits.
    """
    path = find_checkpoint(Path(source))
    saved = read_part(path, below=PARAMS)
    taken, left = [], []

    def choose(key_path: Any, fresh: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(key_path, simple=True, separator="/")
        found = saved.get(name)
        if found is not None and (found.shape, found.dtype) == (fresh.shape, fresh.dtype):
            taken.append(name)
            return jax.device_put(found, fresh.sharding)
        left.append(f"{name} ({'not there' if found is None else f'{_spell(found)} there, {_spell(fresh)} here'})")
        return fresh

    params: Params = jax.tree_util.tree_map_with_path(choose, state.params)
    if not taken:
        raise CheckpointError(f"No parameter of {path} fits this run: {_list(left)}. Leave --init-from out.")
    slow_critic = jax.tree.map(
        lambda leaf, fresh: jax.device_put(leaf.copy(), fresh.sharding), params["behavior"]["critic"], state.slow_critic
    )
    rest = f"; new are {_list(left)}" if left else ""
    unused = len(saved) - len(taken)
    told = f"{len(taken)} of {len(taken) + len(left)} parameter arrays come from {path} ({unused} there unused){rest}"
    return state._replace(params=params, slow_critic=slow_critic), told


def find_checkpoint(source: Path) -> Path:
    """The checkpoint that a folder is, or the newest sound one of the run that it is.

    Raises:
        CheckpointError: it is neither.
    """
    if (source / MANIFEST).is_file():
        return source
    path = Checkpoints(source / "checkpoints").latest()
    if path is None:
        raise CheckpointError(f"{source} is neither a checkpoint nor a run with one; --init-from needs either.")
    return path


def _spell(array: Any) -> str:
    return "x".join(map(str, array.shape)) or "a number"


def _list(names: list[str]) -> str:
    more = [f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN)
    return ", ".join(names[:SHOWN] + more)
