"""Proof that a directory is complete and unchanged: the size and SHA-256 of each of its files, in `manifest.json`.

The proof travels with the files, so that it also holds on file systems and clouds whose renames are not atomic.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
MOST_JSON_BYTES = 64 * 2**20  # of a document, to begin with: a replay of a million chunks has half of it


class ManifestError(Exception):
    """A file is missing, truncated or changed; the message names it."""


def write_manifest(directory: Path) -> None:
    """Hashes every file below `directory`, writes the manifest, and forces all of it onto the disk."""
    files = {path.relative_to(directory).as_posix(): _fingerprint(path) for path in _files(directory)}
    document = {"files": files, "sha256": _digest(files)}
    (directory / MANIFEST).write_text(json.dumps(document, indent=1), encoding="utf-8")
    for path in _files(directory):
        _fsync(path)
    for folder in [path for path in directory.rglob("*") if path.is_dir()]:
        fsync_directory(folder)
    fsync_directory(directory)


def verify_manifest(directory: Path) -> None:
    """Reads every file that the manifest names; files beyond those do not matter.

    Raises:
        ManifestError: `directory` is not exactly what `write_manifest` left.
    """
    for name, expected in _read(directory).items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise ManifestError(f"{name} leads out of the checkpoint")
        if not path.is_file():
            raise ManifestError(f"{name} is missing")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ManifestError(f"{name} has {size} bytes instead of {expected['bytes']}")
        try:
            changed = _fingerprint(path) != expected
        except OSError as error:
            raise ManifestError(f"{name} cannot be read ({error.strerror})") from error
        if changed:
            raise ManifestError(f"{name} has changed since it was written")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file that a stranger may have written.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no JSON object, too large a one, or one too deep.
    """
    if (size := path.stat().st_size) > MOST_JSON_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes; more than {MOST_JSON_BYTES:,} are not read")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds a {type(document).__name__} instead of an object")
    return document


def fsync_directory(directory: Path) -> None:
    """Makes renames and new entries in `directory` survive a power cut. A no-op on Windows, which has no such call."""
    if os.name != "nt":
        _fsync(directory)


def _read(directory: Path) -> dict[str, dict]:
    try:
        document = read_json(directory / MANIFEST)
        files = document["files"]
        intact = document["sha256"] == _digest(files)
    except FileNotFoundError as error:
        raise ManifestError(f"{MANIFEST} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{MANIFEST} is unreadable") from error
    if not intact:
        raise ManifestError(f"{MANIFEST} has changed since it was written")
    if not isinstance(files, dict) or not all(map(_is_fingerprint, files.values())):
        raise ManifestError(f"{MANIFEST} does not list files with their bytes and SHA-256")
    for name in files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ManifestError(f"{MANIFEST} names {name!r}, a file outside the checkpoint")
    return files


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _is_fingerprint(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"bytes", "sha256"}
        and type(value["bytes"]) is int
        and isinstance(value["sha256"], str)
    )


def _digest(files: dict) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
