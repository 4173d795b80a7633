"""How far two worlds are apart, as one number: 0 where they look the same, about 1 where they have nothing in common."""

from __future__ import annotations

import numpy as np

from envs.spaces import DiscreteSpec, ImageSpec, ObservationSpec

VISIBLE = 24  # steps of 255 from which on a pixel looks different
LEAST_SPREAD = 1e-3  # of a component that hardly moves


class Divergence:
    """Compares observations `[1, ...]` by key.

    Images: the share of pixels of which a channel differs visibly, among those that show something: the background,
    which is most of a screen, says nothing. Vectors: the root mean square of the differences of all components, each
    in units of the spread that it has shown since the session began. Discrete values: the share that differs.
    The largest over all keys counts.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._low: dict[str, np.ndarray] = {}
        self._high: dict[str, np.ndarray] = {}

    def between(self, left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
        """The distance; `right` teaches the spread of its components."""
        return max((self._compare(key, left[key], right[key]) for key in self._spec), default=0.0)

    def _compare(self, key: str, left: np.ndarray, right: np.ndarray) -> float:
        part = self._spec[key]
        if isinstance(part, ImageSpec):
            return _pixels(left[0], right[0])
        if isinstance(part, DiscreteSpec):
            return float(np.mean(left != right))
        low = self._low[key] = np.minimum(self._low.get(key, right), right)
        high = self._high[key] = np.maximum(self._high.get(key, right), right)
        spread = np.maximum(high - low, LEAST_SPREAD)
        return float(np.sqrt(np.mean(np.square((left - right) / spread))))


def _pixels(left: np.ndarray, right: np.ndarray) -> float:
    """Visibly different pixels over those that stand out from the most frequent colour in either image."""
    differs = (np.abs(left.astype(np.int16) - right) > VISIBLE).any(-1)
    background = np.median(right.reshape(-1, right.shape[-1]), axis=0)
    stands_out = (np.abs(np.stack([left, right]) - background) > VISIBLE).any(-1).any(0)
    return float(differs.sum() / max(1, (stands_out | differs).sum()))
