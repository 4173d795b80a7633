"""Area resampling that gives the very bytes of OpenCV's `INTER_AREA`, by which ale-py resizes its frames.

Every output pixel is the mean of the input rectangle under it. Weights and sums are float32 and summed in OpenCV's
order (along a row, then down the rows), since another order rounds some pixels differently.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class _Taps(NamedTuple):
    """The inputs of every output along one axis, `[taps, outputs]`; missing ones repeat an input with weight 0."""

    index: np.ndarray
    weight: np.ndarray


class AreaResize:
    """Resizes uint8 images `[height, width, channels]` to a smaller or equal size."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        """Prepare for images of `source` (height, width) pixels to become `target`.

        Raises:
            ValueError: if the target is larger on a side.
        """
        if target[0] > source[0] or target[1] > source[1]:
            raise ValueError(f"image size {target} is larger than the screen {source}; choose one that fits into it")
        self._source, self._target = source, target
        self._factors = source[0] // target[0], source[1] // target[1]
        self._is_integer = source[0] % target[0] == 0 and source[1] % target[1] == 0
        self._rows = _taps(source[0], target[0])
        self._columns = _taps(source[1], target[1])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize one image; the result is a new array."""
        if self._source == self._target:
            return image.copy()
        return self._blocks(image) if self._is_integer else self._weighted(image)

    def _weighted(self, image: np.ndarray) -> np.ndarray:
        pixels = image.astype(np.float32)
        along = _weighted_sum(pixels.transpose(1, 0, 2), self._columns)  # [width, source height, channels]
        both = _weighted_sum(along.transpose(1, 0, 2), self._rows)
        return np.clip(np.rint(both), 0, 255).astype(np.uint8)

    def _blocks(self, image: np.ndarray) -> np.ndarray:
        """Both factors are whole: OpenCV sums integers and scales once."""
        rows, columns = self._factors
        blocks = image.reshape(self._target[0], rows, self._target[1], columns, -1)
        total = blocks.sum(axis=(1, 3), dtype=np.int32)
        if (rows, columns) == (2, 2):
            return ((total + 2) >> 2).astype(np.uint8)
        return np.rint(total.astype(np.float32) * np.float32(1.0 / (rows * columns))).astype(np.uint8)


def _weighted_sum(pixels: np.ndarray, taps: _Taps) -> np.ndarray:
    """Sum over the taps of the first axis, one after the other."""
    total = pixels[taps.index[0]] * taps.weight[0][:, None, None]
    for index, weight in zip(taps.index[1:], taps.weight[1:], strict=True):
        total += pixels[index] * weight[:, None, None]
    return total


def _taps(source: int, target: int) -> _Taps:
    scale = source / target
    lists = [_output_taps(i, source, scale) for i in range(target)]
    count = max(len(taps) for taps in lists)
    index = np.zeros((count, target), np.intp)
    weight = np.zeros((count, target), np.float32)
    for i, taps in enumerate(lists):
        index[:, i] = taps[0][0]
        for k, (position, share) in enumerate(taps):
            index[k, i], weight[k, i] = position, share
    return _Taps(index, weight)


def _output_taps(output: int, source: int, scale: float) -> list[tuple[int, float]]:
    """Inputs and shares of one output pixel: a part of the first, whole ones, a part of the last."""
    start, stop = output * scale, (output + 1) * scale
    width = min(scale, source - start)
    first = math.ceil(start)
    last = min(math.floor(stop), source - 1)
    first = min(first, last)
    taps = []
    if first - start > 1e-3:
        taps.append((first - 1, (first - start) / width))
    taps += [(position, 1.0 / width) for position in range(first, last)]
    if stop - last > 1e-3:
        taps.append((last, min(min(stop - last, 1.0), width) / width))
    return taps
