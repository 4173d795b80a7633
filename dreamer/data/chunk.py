"""Chunks of consecutive steps of one environment, and their files.

A chunk file is an uncompressed npz (readable with `np.load(path, allow_pickle=False)`), written once, when the chunk is
full: under a temporary name, flushed to the disk, then renamed. Its zip directory holds a CRC-32 of every array.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamer.data.layout import StepLayout, native, portable
from dreamer.data.npz import open_npz, read_array

MUTABLE = ("deter", "stoch", "is_last")  # fields that may change after a chunk is full
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


@dataclass(eq=False)
class Chunk:
    """Steps `index * length .. (index + 1) * length - 1` of one environment.

    Attributes:
        env: number of the environment.
        index: number of the chunk among those of its environment.
        arrays: by field, `[length, ...]`.
        refreshed: its latents differ from those in its file.
        file: fingerprint of its file once that is written; None while the chunk fills up, or without a directory.
    """

    env: int
    index: int
    arrays: dict[str, np.ndarray]
    refreshed: bool = False
    file: Future[int] | None = None


class DamagedChunkError(Exception):
    """A chunk file is missing, truncated, altered, or another one than the checkpoint lists."""


class ChunkFiles:
    """The chunk files of one run, written in order by one background thread.

    Args:
        directory: created if needed; it holds nothing but chunk files.
        layout: the fields of a step.
        length: steps of a chunk.
    """

    def __init__(self, directory: Path, *, layout: StepLayout, length: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._layout = layout
        self._length = length
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay-writer")

    def write_soon(self, chunk: Chunk) -> None:
        """Writes a full chunk as it is now, in the background; a failure is met by `ensure_written`."""
        arrays = {name: array.copy() if name in MUTABLE else array for name, array in chunk.arrays.items()}
        chunk.refreshed = False
        chunk.file = self._writer.submit(_write, self._path(chunk.env, chunk.index), arrays)

    def ensure_written(self, chunk: Chunk) -> int:
        """Waits for the file of a full chunk, writing it again if that failed, and returns its fingerprint.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        if chunk.file is None or chunk.file.exception() is not None:
            self.write_soon(chunk)
        assert chunk.file is not None
        return chunk.file.result()

    def read(self, env: int, index: int, *, fingerprint: int) -> Chunk:
        """Reads a chunk and verifies its CRCs, shapes and dtypes.

        Raises:
            DamagedChunkError: it is not what was written; the message names the file and the reason.
        """
        path = self._path(env, index)
        try:
            arrays = self._read(path, fingerprint)
        except DAMAGE as error:
            raise DamagedChunkError(f"{path.name}: {error or type(error).__name__}") from error
        file: Future[int] = Future()
        file.set_result(fingerprint)
        return Chunk(env, index, arrays, file=file)

    def remove_from(self, first: list[int]) -> int:
        """Removes what a run wrote after its checkpoint: chunks `first[env]` and later of every environment, scraps.

        Returns:
            The number of chunk files removed.
        """
        for scrap in self._directory.glob("*.tmp"):
            scrap.unlink()
        future = [place for place in self._places() if place[0] >= len(first) or place[1] >= first[place[0]]]
        return self._remove(future)

    def remove_except(self, kept: Collection[tuple[int, int]]) -> int:
        """Removes every chunk file whose (env, index) is not among `kept`, and returns their number."""
        return self._remove([place for place in self._places() if place not in kept])

    def close(self) -> None:
        """Ends the thread after the writes under way."""
        self._writer.shutdown()

    def _read(self, path: Path, fingerprint: int) -> dict[str, np.ndarray]:
        with open_npz(path) as archive:
            if fingerprint_of(archive) != fingerprint:
                raise ValueError("it is not the file that the checkpoint lists")
            arrays = {name: read_array(archive, name) for name in self._layout.fields}
        arrays = {name: native(array, self._layout.fields[name].dtype) for name, array in arrays.items()}
        self._layout.check(arrays, leading=(self._length,))
        return arrays

    def _path(self, env: int, index: int) -> Path:
        return self._directory / f"env{env:04d}-chunk{index:08d}.npz"

    def _places(self) -> list[tuple[int, int]]:
        matches = (re.fullmatch(r"env(\d+)-chunk(\d+)\.npz", path.name) for path in self._directory.iterdir())
        return [(int(match[1]), int(match[2])) for match in matches if match]

    def _remove(self, places: list[tuple[int, int]]) -> int:
        for place in places:
            self._path(*place).unlink()
        return len(places)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> int:
    """Writes an npz so that it exists whole or not at all, and returns its fingerprint."""
    scrap = path.with_suffix(".tmp")
    try:
        with scrap.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(name + ".npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, portable(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        scrap.replace(path)
    finally:
        scrap.unlink(missing_ok=True)
    return fingerprint_of(archive)


def fingerprint_of(archive: zipfile.ZipFile) -> int:
    """CRC-32 over the names and CRC-32s of all members: it identifies the contents without reading them."""
    members = sorted((member.filename, member.CRC) for member in archive.infolist())
    return zlib.crc32(repr(members).encode())
