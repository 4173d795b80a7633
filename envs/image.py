"""Images: what counts as one, conversion to uint8 height-width-channels, and resizing.

A `Box` with two or three dimensions is an image when
* its dtype is uint8 and its bounds are 0 and 255 everywhere (any size), or
* its dtype is floating, its bounds are 0 and 1 or 0 and 255 everywhere, and both sides have at least 16 pixels.
Two dimensions are a grey image. Of three, channels are the last unless the first is strictly smaller than the last;
`EnvSettings.image_layout` decides where that guess is wrong.
A floating `Box` shaped like an image (16 pixels a side, at most 4 channels) with other bounds is an error, because
nobody wants it as a vector of thousands of numbers. Any other `Box` is a vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from envs.environment import EnvironmentFault, NonFinite
from envs.spaces import ImageSpec

MIN_FLOAT_SIDE = 16  # pixels; a smaller floating Box is taken for a vector


class ImageLayout(NamedTuple):
    """How a `Box` holds an image.

    Attributes:
        height: pixels.
        width: pixels.
        channels: 1 for grey.
        channel_first: the array is `[channels, height, width]`.
        high: what white is, 1 or 255.
    """

    height: int
    width: int
    channels: int
    channel_first: bool
    high: float

    def __str__(self) -> str:
        order = "channels first" if self.channel_first else "channels last"
        return f"{order}, 0..{self.high:g}"


def image_layout(box: spaces.Box, *, key: str, order: str = "auto") -> ImageLayout | None:
    """The layout of an image `Box`, None for a vector.

    Args:
        box: of the observation.
        key: its name, for the message.
        order: `auto`, or `channels_first` or `channels_last` for images of three dimensions.

    Raises:
        EnvironmentFault: if it is shaped like an image but its bounds are neither 0..1 nor 0..255.
    """
    if len(box.shape) not in (2, 3) or min(box.shape) == 0:
        return None
    is_guess, guess = order == "auto", box.shape[0] < box.shape[-1]
    channel_first = len(box.shape) == 3 and (guess if is_guess else order == "channels_first")
    height, width, channels = _height_width_channels(box.shape, channel_first=channel_first)
    high = next((high for high in (1.0, 255.0) if np.all(box.low == 0) and np.all(box.high == high)), None)
    if box.dtype == np.uint8:
        return ImageLayout(height, width, channels, channel_first, 255.0) if high == 255.0 else None
    if not np.issubdtype(box.dtype, np.floating) or min(height, width) < MIN_FLOAT_SIDE:
        return None
    if high is not None:
        return ImageLayout(height, width, channels, channel_first, high)
    if len(box.shape) == 3 and channels <= 4:
        raise EnvironmentFault(
            f"observation {key!r} is shaped like an image {box.shape} but its bounds are neither 0..1 nor 0..255; "
            "declare one of them in its Box, or flatten it if it is no image"
        )
    return None


def _height_width_channels(shape: tuple[int, ...], *, channel_first: bool) -> tuple[int, int, int]:
    if len(shape) == 2:
        return shape[0], shape[1], 1
    return (shape[1], shape[2], shape[0]) if channel_first else (shape[0], shape[1], shape[2])


def to_uint8(array: np.ndarray, layout: ImageLayout, *, lead: tuple[int, ...], key: str) -> np.ndarray:
    """Copy of images `[*lead, *box.shape]` as uint8 `[*lead, height, width, channels]`.

    Raises:
        NonFinite: for a pixel that is NaN or infinite.
        EnvironmentFault: for values outside the declared bounds, which a cast to uint8 would wrap around.
    """
    if array.dtype != np.uint8 or layout.high != 255.0:
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0]
            raise NonFinite(f"image {key!r} is {array[tuple(place)]} at index {', '.join(map(str, place))}")
        if not (array.min() >= 0 and array.max() <= layout.high):
            raise EnvironmentFault(
                f"image {key!r} has values {array.min()} to {array.max()}, outside its bounds 0..{layout.high:g}"
            )
        array = np.rint(array * (255.0 / layout.high))
    if layout.channel_first:
        array = np.moveaxis(array, -3, -1)
    return np.array(array, np.uint8, order="C").reshape(*lead, layout.height, layout.width, layout.channels)


def resize_bilinear(image: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Resize uint8 `[..., h, w, c]` to the size of `spec`: Pillow's bilinear, which averages when it shrinks."""
    from PIL import Image

    if image.shape[-3:-1] == (spec.height, spec.width):
        return image
    flat = image.reshape(-1, *image.shape[-3:])
    resized = np.empty((len(flat), *spec), np.uint8)
    for i, single in enumerate(flat):
        for channel in range(spec.channels):
            pillow = Image.fromarray(np.ascontiguousarray(single[..., channel]))
            resized[i, ..., channel] = np.asarray(pillow.resize((spec.width, spec.height), Image.Resampling.BILINEAR))
    return resized.reshape(*image.shape[:-3], *spec)
