"""What a world looks like: its image, its body drawn by the simulator, or nothing, where only numbers can be shown."""

from __future__ import annotations

import contextlib

import numpy as np
from PIL import Image

from dreamer.play.session import REALITY, Lived
from envs.environment import Environment, EnvironmentFault, observation_frame
from envs.pose import pose_of
from envs.spaces import ImageSpec

LONGEST = 320  # pixels of a drawing's longer side


class Painter:
    """Draws worlds of one environment.

    Observations with an image show that. Others are put into a simulator that draws them (`envs.pose`), dream and
    reality alike, so that what differs differs in the prediction.

    Args:
        canvas: a single environment of the same kind, of which nothing else is asked; the caller closes it.

    Attributes:
        kind: `image`, `drawing`, or `none` where there is nothing to see.
    """

    def __init__(self, canvas: Environment) -> None:
        self._spec, self._canvas, self._name = canvas.observation_spec, canvas, canvas.protocol["env"]
        self.kind = "image" if any(isinstance(part, ImageSpec) for part in self._spec.values()) else "none"
        self._pose = pose_of(canvas)
        if self._pose is not None:
            with contextlib.suppress(EnvironmentFault, RuntimeError, AttributeError):  # nothing draws on this machine
                canvas.reset()
                canvas.render()
                self._blank = canvas.get_state()
                self.kind = "drawing"

    def frame(self, lived: Lived) -> np.ndarray | None:
        """What is seen, uint8 `[height, width, 3]`; None where there is nothing to see."""
        observation = {key: array[0] for key, array in lived.outcome.observation.items()}
        if self.kind == "image":
            return np.ascontiguousarray(observation_frame(observation, self._spec, name=self._name))
        if self.kind == "none" or self._pose is None:
            return None
        self._canvas.set_state(self._pose(self._blank, observation))
        return _shrink(self._canvas.render()[0])


def caption(frames: dict[str, np.ndarray], *, side: int) -> np.ndarray:
    """Frames of several worlds side by side, enlarged in whole pixels, each with its name above: one frame of a GIF."""
    from PIL import ImageDraw

    tiles = []
    for name, frame in frames.items():
        factor = max(1, side // max(frame.shape[:2]))
        large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width, _ = large.shape
        tile = Image.new("RGB", (width + 8, height + 28), (17, 19, 24))
        tile.paste(Image.fromarray(large), (4, 24))
        ImageDraw.Draw(tile).text((6, 6), name, fill=(120, 200, 255) if name == REALITY else (255, 184, 108))
        tiles.append(np.asarray(tile))
    return np.concatenate(tiles, axis=1)


def _shrink(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    if max(height, width) <= LONGEST:
        return frame
    factor = LONGEST / max(height, width)
    size = round(width * factor), round(height * factor)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
