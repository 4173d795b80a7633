"""Arrays of a checkpoint that one of several hosts writes: a plain npz, named by their paths: `train/params/world/...`.

Orbax saves and loads with all processes of JAX at once and lets them wait for each other, even where one alone has all
there is to save; a disk that is full on one host would stop the others for minutes. So each writes by itself, in the
format that the arrays of the host have anyway. What reads a checkpoint takes either form.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.data.npz import open_npz, read_array


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `np.savez`, whose keyword arguments forbid names such as "file"."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_npz(path: Path, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What `write_npz` wrote, of these names and dtypes."""
    with open_npz(path) as archive:
        return {name: _as_dtype(read_array(archive, name), dtype) for name, dtype in dtypes.items()}


def write_tree(path: Path, tree: Any) -> None:
    """Writes arrays of this host; of a typed random key, its numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    write_npz(path, {_name(keys): np.asarray(_numbers(leaf)) for keys, leaf in leaves})


def read_tree(path: Path, wanted: Any) -> Any:
    """Reads them back, each onto the devices that its `jax.ShapeDtypeStruct` in `wanted` names; `...` stays."""
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    arrays = read_npz(path, {_name(keys): _stored_dtype(leaf) for keys, leaf in leaves if leaf is not ...})
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: leaf if leaf is ... else _placed(arrays[_name(keys)], leaf), wanted
    )


def checksum(tree: Any) -> int:
    """CRC-32 of the bytes of all arrays, in the order of the tree."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.ascontiguousarray(np.asarray(_numbers(leaf))).view(np.uint8).data, total)
    return total


def read_branch(path: Path, below: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays whose paths begin with `below`, by the rest of these; whatever the others are."""
    begin = "/".join([*below, ""])
    with open_npz(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        return {name.removeprefix(begin): read_array(archive, name) for name in names if name.startswith(begin)}


def _name(keys: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _stored_dtype(leaf: Any) -> str:
    return "uint32" if _is_key(leaf) else np.dtype(leaf.dtype).name


def _placed(array: np.ndarray, leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return array
    typed = jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(leaf) else array
    return jax.device_put(typed, leaf.sharding)


def _as_dtype(array: np.ndarray, name: str) -> np.ndarray:
    """The `.npy` format knows no bfloat16 and returns raw bytes; JAX taught NumPy the name."""
    return array.view(np.dtype(name)) if array.dtype.kind == "V" else array
