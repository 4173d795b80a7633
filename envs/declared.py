"""Observations against what their space declares: warns once of each kind of difference that does no harm."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.environment import EnvironmentFault


class Declaration:
    """What one leaf of an observation space says.

    Args:
        space: a `Box`, `Discrete`, `MultiDiscrete` or `MultiBinary`.
        key: of the observation, for the messages.
    """

    def __init__(self, space: Any, *, key: str) -> None:
        self._space, self._key = space, key
        self._is_box = isinstance(space, spaces.Box)
        self._low, self._high = (space.low, space.high) if isinstance(space, spaces.Box) else _symbols(space)
        self._watches_range = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        self._watches_dtype = True

    def compare(self, array: np.ndarray) -> None:
        """Looks at an observation with any leading dimensions.

        Raises:
            EnvironmentFault: a symbol that the space does not have, or a number in its place.
        """
        if self._watches_dtype and array.dtype != self._space.dtype:
            self._watches_dtype = False
            if not self._is_box and not np.issubdtype(array.dtype, np.integer) and array.dtype != bool:
                raise EnvironmentFault(f"observation {self._key!r} is {array.dtype}, its space holds whole numbers")
            if self._is_box:
                _warn(f"observation {self._key!r} is {array.dtype}, its space declares {self._space.dtype}; it is cast")
        if not self._watches_range:
            return
        outside = (array < self._low) | (array > self._high)
        if outside.any() and (outside & np.isfinite(array)).any():  # what is not finite is the gate's business
            seen = f"observation {self._key!r} has values {array.min():g} to {array.max():g}"
            if not self._is_box:
                raise EnvironmentFault(f"{seen}, which its space does not have: {self._space}")
            self._watches_range = False
            low, high = float(self._low.min()), float(self._high.max())
            _warn(f"{seen}, outside the bounds that its space declares ({low:g} to {high:g}); it is used as it is")


def _symbols(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each component."""
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape), np.ones(space.shape)
    assert isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return np.asarray(space.start), np.asarray(space.start + count - 1)


def _warn(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr, flush=True)
