"""Log files that survive a kill: whole lines only, and a way to cut off what a crash undid."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_LENGTH = struct.Struct("<Q")
_CHECKSUM_BYTES = 4


class AppendOnlyFile:
    """A text file of lines. Each line is one write, so that readers and crashes never see a part of one.

    Args:
        path: the file, made by the first line.
        header: first line of a new file.
    """

    def __init__(self, path: Path, *, header: str | None = None) -> None:
        self._path = path
        self._header = header
        self._descriptor: int | None = None
        self._needs_newline = False

    def append(self, line: str) -> None:
        """Writes one line, given without its end.

        Raises:
            OSError: the disk is full, say. The next line starts on a line of its own.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if self._header is not None and os.fstat(self._descriptor).st_size == 0:
                line = f"{self._header}\n{line}"
        text = ("\n" if self._needs_newline else "") + line + "\n"
        data = text.encode()
        self._needs_newline = True  # until all of it is known to be there
        if os.write(self._descriptor, data) < len(data):
            raise OSError(f"{self._path} took only a part of a line")
        self._needs_newline = False

    def close(self) -> None:
        """Releases the file; the next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def purge_lines(path: Path, *, keep: Callable[[str], bool]) -> None:
    """Removes the lines for which `keep` is false, raises ValueError or KeyError, or which were cut short."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _accepts(keep, line.rstrip("\n"))]
    if len(kept) < len(lines):
        _replace(path, "".join(kept).encode())


def purge_records(path: Path, *, keep: Callable[[bytes], bool]) -> None:
    """The same for a TFRecord file, TensorBoard's format: length, its checksum, data, its checksum."""
    content = path.read_bytes()
    records = list(_records(content))
    kept = [content[start:end] for start, end, data in records if keep(data)]
    if sum(map(len, kept)) < len(content):
        _replace(path, b"".join(kept))


def _records(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Start, end and data of every whole record."""
    start = 0
    while start + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, start)
        begin = start + _LENGTH.size + _CHECKSUM_BYTES
        end = begin + length + _CHECKSUM_BYTES
        if end > len(content):
            return
        yield start, end, content[begin : begin + length]
        start = end


def _accepts(keep: Callable[[str], bool], line: str) -> bool:
    try:
        return keep(line)
    except (ValueError, KeyError):
        return False


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
