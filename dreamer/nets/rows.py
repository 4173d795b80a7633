"""Rows of a batch that lie on several devices: each device computes its own, and here they meet.

The update runs once on every device along the mesh axis `data`, over the rows there (`training/step.py`). Nearly all of
Dreamer treats rows alone; what looks at all of them asks this module, and need not know whether there is a mesh.
"""

from __future__ import annotations

from typing import TypeVar

import jax
from jaxtyping import Array, Float

AXIS = "data"

Tree = TypeVar("Tree")


def gather_rows(x: Float[Array, "T N"]) -> Float[Array, "T all_N"]:
    """The columns of all devices side by side; `x` itself where there is one device."""
    return jax.lax.all_gather(x, AXIS, axis=1, tiled=True) if _are_split() else x


def mean_over_devices(tree: Tree) -> Tree:
    """The mean of what every device has: of means over equally many rows, the mean over all rows."""
    return jax.lax.pmean(tree, AXIS) if _are_split() else tree


def _are_split() -> bool:
    return AXIS in jax.sharding.get_abstract_mesh().manual_axes
