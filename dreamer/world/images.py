"""How images of any size meet a CNN that halves them a few times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from envs.spaces import ImageSpec, ObservationSpec

SMALLEST_MAP, LARGEST_MAP = 3, 16  # side of the last feature map


class ImageGroup(NamedTuple):
    """Images of one size, which share a CNN and are joined on their channels, in key order.

    Attributes:
        keys: observation keys.
        channels: channels of each key.
        size: height and width as the environment gives them.
        map_size: height and width of the last feature map.
        stages: output channels of each halving stage of the encoder.
    """

    keys: tuple[str, ...]
    channels: tuple[int, ...]
    size: tuple[int, int]
    map_size: tuple[int, int]
    stages: tuple[int, ...]

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width after padding to whole halvings."""
        factor = 2 ** len(self.stages)
        return self.map_size[0] * factor, self.map_size[1] * factor


def group_images(spec: ObservationSpec, *, depth: int, multipliers: Sequence[int]) -> dict[str, ImageGroup]:
    """Groups the image keys of a spec by size; the name of a group is its size, such as `64x64`.

    64x64 and 96x96 images pass the published stages. Smaller ones use fewer stages, larger ones repeat the last, so
    that the last map has 3 to 16 pixels a side where that is possible.
    """
    by_size: dict[tuple[int, int], list[str]] = {}
    for key in sorted(spec):
        part = spec[key]
        if isinstance(part, ImageSpec):
            by_size.setdefault((part.height, part.width), []).append(key)
    groups = {}
    for (height, width), keys in by_size.items():
        num_stages = _num_stages(height, width, preferred=len(multipliers))
        factor = 2**num_stages
        stages = [*multipliers, *[multipliers[-1]] * num_stages][:num_stages]
        groups[f"{height}x{width}"] = ImageGroup(
            keys=tuple(keys),
            channels=tuple(spec[key].channels for key in keys),  # pyright: ignore[reportAttributeAccessIssue]
            size=(height, width),
            map_size=(-(-height // factor), -(-width // factor)),
            stages=tuple(depth * multiplier for multiplier in stages),
        )
    return groups


def _num_stages(height: int, width: int, *, preferred: int) -> int:
    num_stages = preferred
    while num_stages > 1 and -(-min(height, width) // 2**num_stages) < SMALLEST_MAP:
        num_stages -= 1
    while -(-max(height, width) // 2**num_stages) > LARGEST_MAP and (
        -(-min(height, width) // 2 ** (num_stages + 1)) >= SMALLEST_MAP
    ):
        num_stages += 1
    return num_stages
