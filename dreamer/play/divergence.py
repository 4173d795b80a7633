"""How far two worlds are apart, as one number: 0 where they look the same, about 1 where nothing agrees."""

from __future__ import annotations

import numpy as np

from envs.spaces import DiscreteSpec, ImageSpec, ObservationSpec

VISIBLE = 24  # steps of 255 from which on a pixel looks different
ADAPTATION = 2  # steps of 255 by which the background follows reality at each step
LEAST_SPREAD = 1e-3  # of a component that hardly moves


class Divergence:
    """Compares observations `[1, ...]` by key.

    Images: the share of pixels that differ visibly, among those that stand out in either image from the background;
    that is learned from reality, as what hardly changes, since most of a screen says nothing. Vectors: the root mean
    square of the differences of all components, each in units of the range that reality has shown, and at most 1.
    Discrete values: the share that differs. The largest over all keys counts.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        self.spec = spec
        self._background: dict[str, np.ndarray] = {}
        self._low: dict[str, np.ndarray] = {}
        self._high: dict[str, np.ndarray] = {}

    def learn(self, real: dict[str, np.ndarray]) -> None:
        """Takes in what reality looks like."""
        for key, part in self.spec.items():
            if isinstance(part, ImageSpec):
                image = real[key][0].astype(np.int16)
                background = self._background.setdefault(key, image.copy())
                background += np.clip(image - background, -ADAPTATION, ADAPTATION)
            elif not isinstance(part, DiscreteSpec):
                self._low[key] = np.minimum(self._low.get(key, real[key]), real[key])
                self._high[key] = np.maximum(self._high.get(key, real[key]), real[key])

    def between(self, left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
        """The distance, once something was learned."""
        return max((self._compare(key, left[key], right[key]) for key in self.spec), default=0.0)

    def _compare(self, key: str, left: np.ndarray, right: np.ndarray) -> float:
        part = self.spec[key]
        if isinstance(part, ImageSpec):
            images = np.stack([left[0], right[0]]).astype(np.int16)
            stands_out = (np.abs(images - self._background[key]) > VISIBLE).any((0, -1))
            differs = (np.abs(images[0] - images[1]) > VISIBLE).any(-1)
            return float(differs.sum() / max(1, (stands_out | differs).sum()))
        if isinstance(part, DiscreteSpec):
            return float(np.mean(left != right))
        spread = np.maximum(self._high[key] - self._low[key], LEAST_SPREAD)
        return float(np.sqrt(np.mean(np.minimum(1.0, np.square((left - right) / spread)))))
