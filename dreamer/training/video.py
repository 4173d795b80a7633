"""Pictures and videos from uint8 arrays: open-loop predictions, contact sheets, GIF, MP4, PNG."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image


def open_loop_strip(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Truth above prediction above error, the sequences of a batch side by side.

    Args:
        truth: uint8 `[B, T, H, W, C]`, any number of channels.
        prediction: the same shape.

    Returns:
        uint8 `[T, 3 H, B W, 3]`; in the error row grey means equal, bright means predicted too bright.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """
    if truth.shape != prediction.shape or truth.ndim != 5:
        raise ValueError(f"Need two equal shapes [B, T, H, W, C], got {truth.shape} and {prediction.shape}.")
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(f"Need uint8 images, got {truth.dtype} and {prediction.dtype}.")
    truth, prediction = _as_rgb(truth), _as_rgb(prediction)
    error = ((prediction.astype(np.int16) - truth + 255) // 2).astype(np.uint8)
    rows = np.stack([truth, prediction, error])  # [3, B, T, H, W, C]
    _, B, T, H, W, C = rows.shape  # noqa: N806
    return rows.transpose(2, 0, 3, 1, 4, 5).reshape(T, 3 * H, B * W, C)


def contact_sheet(frames: np.ndarray, *, columns: int) -> np.ndarray:
    """Frames as one picture, row by row; what is missing in the last row is black.

    Args:
        frames: uint8 `[T, H, W, C]`.
        columns: frames of a row.

    Returns:
        uint8 `[rows H, columns W, 3]`.
    """
    frames = _as_rgb(frames)
    T, H, W, C = frames.shape  # noqa: N806
    rows = -(-T // columns)
    sheet = np.zeros((rows * columns, H, W, C), np.uint8)
    sheet[:T] = frames
    return sheet.reshape(rows, columns, H, W, C).transpose(0, 2, 1, 3, 4).reshape(rows * H, columns * W, C)


def encode_gif(frames: np.ndarray, *, fps: int) -> bytes:
    """An endless GIF of `frames`, uint8 `[T, H, W, C]`. Equal neighbours are merged, with their time."""
    first, *rest = [Image.fromarray(frame) for frame in _as_rgb(frames)]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def write_gif(path: str | Path, frames: np.ndarray, *, fps: int) -> None:
    """Writes `frames`, uint8 `[T, H, W, C]`, as an endless GIF."""
    Path(path).write_bytes(encode_gif(frames, fps=fps))


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Writes one picture, uint8 `[H, W, C]`."""
    Image.fromarray(_as_rgb(image)).save(path, format="PNG")


def write_mp4(path: str | Path, frames: np.ndarray, *, fps: int) -> None:
    """Writes `frames`, uint8 `[T, H, W, C]`, as an H.264 video; odd sizes are padded by one pixel.

    Raises:
        RuntimeError: the `video` extra, which brings ffmpeg, is not installed; or ffmpeg fails, and its words.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise RuntimeError("MP4 needs ffmpeg: pip install 'dreamer-jax[video]', or write a .gif.") from error
    frames = _as_rgb(frames)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)))
    _, height, width, _ = frames.shape
    # Not imageio's own writer: it forks with a hook, which JAX's threads may turn into a deadlock.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", str(path)]
    result = subprocess.run(command, input=frames.tobytes(), capture_output=True)
    if result.returncode:
        raise RuntimeError(f"ffmpeg could not write {path}: {result.stderr.decode(errors='replace').strip()}")


def _as_rgb(images: np.ndarray) -> np.ndarray:
    """`[..., C]` to `[..., 3]`: grey is repeated, two channels become red and green, of more the first three count."""
    channels = images.shape[-1]
    if channels == 1:
        return np.repeat(images, 3, axis=-1)
    if channels == 2:
        return np.concatenate([images, np.zeros_like(images[..., :1])], axis=-1)
    return images[..., :3]
