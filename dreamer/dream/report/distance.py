"""How far a prediction is from what happened: state error where there is a state, else structural similarity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from envs.spaces import DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec

WINDOW = 7  # side of the square in which images are compared
PSNR_CAP = 60.0  # dB, so that exact predictions stay finite
CONSTANT = 1e-6  # a component that varies less than this is not compared

Observation = dict[str, np.ndarray]


class Scale:
    """Distances between observations of one environment, in units of their own spread.

    Vectors are divided by their standard deviation among true observations, discrete values count as right or wrong.
    Images are compared only where an environment shows nothing else.

    Args:
        spec: of the observations.
        examples: true observations `[N, ...]`, which say how far each component of a vector spreads.
    """

    def __init__(self, spec: ObservationSpec, examples: Sequence[Observation]) -> None:
        kinds = {key: type(part) for key, part in spec.items()}
        self._vectors = sorted(key for key, kind in kinds.items() if kind is VectorSpec)
        self._discrete = sorted(key for key, kind in kinds.items() if kind is DiscreteSpec)
        self._images = sorted(key for key, kind in kinds.items() if kind is ImageSpec)
        self._spread: dict[str, np.ndarray] = {}
        for key in self._vectors:
            values = np.concatenate([example[key].reshape(-1, example[key].shape[-1]) for example in examples])
            spread = values.std(axis=0, dtype=np.float64)
            self._spread[key] = np.where(spread > CONSTANT, spread, np.inf)

    @property
    def has_state(self) -> bool:
        """Whether there is something else than images."""
        return bool(self._vectors or self._discrete)

    def distance(self, one: Observation, other: Observation) -> Float[np.ndarray, "*N"]:
        """Squared error in units of the spread, or 1 - SSIM; over any leading axes."""
        if self.has_state:
            return self.squared_error(one, other)
        return np.mean([1.0 - ssim(one[key], other[key]) for key in self._images], axis=0)

    def squared_error(self, one: Observation, other: Observation) -> Float[np.ndarray, "*N"]:
        """Mean over components; of images in units of their range."""
        errors = []
        for key in self._vectors:
            difference = (one[key].astype(np.float64) - other[key]) / self._spread[key]
            errors.append(np.square(difference))
        errors += [(one[key] != other[key]).astype(np.float64) for key in self._discrete]
        if not errors:
            errors = [_flat(np.square((one[key].astype(np.float32) - other[key]) / 255.0)) for key in self._images]
        return np.concatenate(errors, axis=-1).mean(axis=-1, dtype=np.float64)

    def psnr(self, one: Observation, other: Observation) -> Float[np.ndarray, "*N"]:
        """Peak signal-to-noise ratio in dB, at most `PSNR_CAP`; of vectors the peak is their spread."""
        return np.minimum(-10.0 * np.log10(np.maximum(self.squared_error(one, other), 1e-30)), PSNR_CAP)


def ssim(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "*N"]:
    """Structural similarity of uint8 images `[..., H, W, C]` in grey, mean over square windows.

    Source: Wang et al., 2004; uniform windows of `WINDOW` pixels, or the whole image where it is smaller.
    """
    x, y = (image.mean(axis=-1, dtype=np.float32).astype(np.float64) for image in (one, other))
    mean_x, mean_y = _box(x), _box(y)
    variance_x, variance_y = _box(x * x) - mean_x**2, _box(y * y) - mean_y**2
    covariance = _box(x * y) - mean_x * mean_y
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + light) * (2 * covariance + contrast)
    bottom = (mean_x**2 + mean_y**2 + light) * (variance_x + variance_y + contrast)
    return (top / bottom).mean(axis=(-2, -1))


def _box(image: Float[np.ndarray, "*N H W"]) -> np.ndarray:
    """Means over all windows that lie inside, by summed areas."""
    for axis in (-2, -1):
        side = min(WINDOW, image.shape[axis])
        total = np.cumsum(image, axis=axis)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis=axis)), total], axis=axis)
        length = total.shape[axis]
        upper = np.take(total, range(side, length), axis=axis)
        image = (upper - np.take(total, range(length - side), axis=axis)) / side
    return image


def _flat(image: np.ndarray) -> np.ndarray:
    return image.reshape(*image.shape[:-3], -1)
