"""The shared vocabulary of observations and actions, free of JAX and of simulators.

Every environment is adapted to these few kinds before a learner sees it. Axes: `N` environments, `A` action width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ImageSpec(NamedTuple):
    """A uint8 image `[height, width, channels]` with values 0..255."""

    height: int
    width: int
    channels: int


class VectorSpec(NamedTuple):
    """A float32 vector `[size]`; as an action every component lies in [-1, 1]."""

    size: int


class DiscreteSpec(NamedTuple):
    """Integer components, int32 `[len(num_classes)]`, component i in `0 .. num_classes[i] - 1`."""

    num_classes: tuple[int, ...]


ObservationSpec = dict[str, ImageSpec | VectorSpec | DiscreteSpec]
ActionSpec = dict[str, VectorSpec | DiscreteSpec]


def action_width(spec: ActionSpec) -> int:
    """Width `A` of the flat action vector: one-hot blocks and continuous components, keys in sorted order."""
    return sum(vector_width(part) for part in spec.values())


def vector_width(part: VectorSpec | DiscreteSpec) -> int:
    """Width of one part as a vector: its components, or one-hot blocks side by side."""
    return part.size if isinstance(part, VectorSpec) else sum(part.num_classes)


class Timestep(NamedTuple):
    """What `N` environments return together; every array is owned by the receiver (never an environment's buffer).

    Attributes:
        observation: flat dict of arrays `[N, ...]`, dtypes as the specs say.
        reward: float32 `[N]`, received on arriving at this observation; 0 where `is_first`.
        is_first: bool `[N]`, the observation comes from a reset.
        is_last: bool `[N]`, the episode ends here, by termination or truncation.
        is_terminal: bool `[N]`, it ends here because the task is over (no future reward); implies `is_last`.
    """

    observation: dict[str, np.ndarray]
    reward: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    is_terminal: np.ndarray
