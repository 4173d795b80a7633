"""Checkpoints as transactions: a checkpoint is whole and verified, or it does not exist. The only importer of orbax.

Layout of `checkpoints/000000012000/`, named by the step:

    arrays/         the train state, written by orbax; arrays.npz where several hosts train
    host.npz        arrays of the host: replay index, environment state, the prefetched batch
    hosts/1/ ...    shares of further hosts, of the same form but for the train state
    meta.json       counters, hashes, spaces, and the shape and dtype of every array above
    manifest.json   size and SHA-256 of every other file, and of itself

Orbax notices no flipped byte and casts dtypes silently on restore. The manifest and `meta.json` guard against both.
Nothing is ever pickled, so that loading a stranger's checkpoint runs no code.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from dreamer.training.manifest import ManifestError, fsync_directory, read_json, verify_manifest, write_manifest
from dreamer.training.plain_arrays import read_branch, read_npz, read_tree, write_npz, write_tree

FORMAT = 1
ORBAX, PLAIN = "arrays", "arrays.npz"
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)  # what odd contents raise
_NAME = re.compile(r"(\d{12})(?:-(\d+))?")  # step, and a revision where the step was saved before
_PARTIAL = "partial-"  # prefix of what is being written


class CheckpointError(Exception):
    """A checkpoint cannot be written, is damaged, or does not fit; the message says which file or array."""


class Restored(NamedTuple):
    """What `restore` returns.

    Attributes:
        arrays: the train state, in the structure of `abstract_arrays`.
        host: arrays of the host by name.
        meta: the JSON object given to `save`.
    """

    arrays: Any
    host: dict[str, np.ndarray]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, oldest to newest. One process writes at a time (see `run_lock`).

    Args:
        directory: where they lie; made by the first save.
        keep: how many verified checkpoints stay; at least 1, and 2 survive damage to the newest.
    """

    def __init__(self, directory: str | Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"checkpoint.keep is {keep}; at least one checkpoint must be kept.")
        self.directory = Path(directory).absolute()  # orbax refuses relative paths
        self.keep = keep
        self._verified: set[Path] = set()  # by this process: pruning need not hash gigabytes again
        self._warned: set[Path] = set()

    def save(
        self,
        step: int,
        *,
        arrays: Any,
        host: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        shares: Mapping[str, Path] | None = None,
    ) -> Path:
        """Writes a checkpoint, verifies it, then removes those that are no longer needed.

        Args:
            step: agent steps; orders the checkpoints.
            arrays: pytree of JAX or NumPy arrays, typed PRNG keys included.
            host: NumPy arrays by name, of any numeric dtype.
            meta: whatever JSON can hold.
            shares: folders on the same file system that move into the checkpoint, by their paths in it.

        Returns:
            The directory of the checkpoint.

        Raises:
            CheckpointError: it could not be written (disk full, say). Earlier checkpoints are as they were.
            TypeError: something given is not an array, or not JSON.
        """
        text = _describe(arrays, host, meta)  # before the disk is touched: a TypeError is the caller's mistake
        try:
            path = self._write(step, arrays, host, text, shares or {})
        except Exception as error:  # orbax and tensorstore raise many kinds
            self.discard_partial()
            raise CheckpointError(
                f"Checkpoint of step {step} not written to {self.directory}: {_first_line(error)}. "
                "Earlier checkpoints are untouched; check the free disk space."
            ) from error
        self._prune(path)
        return path

    def latest(self) -> Path | None:
        """The newest checkpoint that verifies; one warning names each that does not. None in a new run.

        Raises:
            CheckpointError: there are checkpoints and all are damaged; starting anew would bury them.
        """
        candidates = self._newest_first()
        for path in candidates:
            problem = self._problem(path)
            if problem is None:
                return path
            self._warn_once(path, f"Checkpoint {path.name} is ignored: {problem}.")
        damaged = [path.name for path in candidates if any(path.iterdir())]
        if damaged:
            raise CheckpointError(
                f"All checkpoints in {self.directory} are damaged ({', '.join(damaged)}). "
                "Restore one from a backup, or choose another --logdir to start anew."
            )
        return None

    def metas(self, *, share: str = "") -> dict[Path, dict[str, Any]]:
        """What was given to `save` as `meta`, by directory, of every checkpoint; one whose words are lost is left out.

        Nothing is verified: this is for what must be kept as long as a checkpoint might still be restored.

        Args:
            share: path of a share in the checkpoint, whose `meta` is wanted instead.
        """
        found = {}
        for path in self._newest_first():
            with suppress(OSError, ValueError, KeyError):
                found[path] = json.loads((path / share / "meta.json").read_text(encoding="utf-8"))["meta"]
        return found

    def discard_partial(self) -> None:
        """Removes what killed saves left behind. Only the process that holds the run's lock may call it."""
        for path in self.directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _write(
        self, step: int, arrays: Any, host: Mapping[str, np.ndarray], text: str, shares: Mapping[str, Path]
    ) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.discard_partial()
        partial = self.directory / f"{_PARTIAL}{step:012d}"
        partial.mkdir()
        _write_parts(partial, arrays, host, text)
        for name, share in shares.items():
            (partial / name).parent.mkdir(exist_ok=True)
            share.rename(partial / name)
        write_manifest(partial)
        path = self._free_name(step)
        partial.rename(path)
        fsync_directory(self.directory)
        verify_manifest(path)
        self._verified.add(path)
        return path

    def _free_name(self, step: int) -> Path:
        """A step may be saved twice, or lie there damaged; an existing directory is never written over."""
        path, revision = self.directory / f"{step:012d}", 0
        while path.exists():
            revision += 1
            path = self.directory / f"{step:012d}-{revision}"
        return path

    def _prune(self, newest: Path) -> None:
        """Removes all checkpoints older than the oldest of the `keep` that verify."""
        good = 0
        for path in self._newest_first():
            if good >= self.keep and path != newest:
                shutil.rmtree(path, ignore_errors=True)
                self._verified.discard(path)
            elif path in self._verified or self._problem(path) is None:
                good += 1

    def _newest_first(self) -> list[Path]:
        found: list[tuple[int, int, Path]] = []
        for path in self.directory.iterdir() if self.directory.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir():
                found.append((int(match[1]), int(match[2] or 0), path))
            elif not path.name.startswith(_PARTIAL):
                self._warn_once(path, f"{path} is not a checkpoint and is ignored.")
        return [path for _, _, path in sorted(found, reverse=True)]

    def _problem(self, path: Path) -> str | None:
        try:
            verify_manifest(path)
        except ManifestError as error:
            return str(error)
        self._verified.add(path)
        return None

    def _warn_once(self, path: Path, message: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            warnings.warn(message, stacklevel=4)


def read_meta(path: str | Path) -> dict[str, Any]:
    """The JSON object given to `save`, before anything large is read: to compare hashes, spaces and run ids.

    Raises:
        CheckpointError: the checkpoint is damaged, missing or of a newer format.
    """
    return _read_document(Path(path))["meta"]


def write_share(path: Path, *, arrays: Any, host: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes, in the place of an older one, a folder that `restore` reads, as it will once it is part of a checkpoint.

    Raises:
        CheckpointError: it could not be written.
    """
    text = _describe(arrays, host, meta)
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
        _write_parts(path, arrays, host, text)
        write_manifest(path)
    except Exception as error:
        raise CheckpointError(f"{path} not written: {_first_line(error)}; check the free disk space.") from error


def restore(path: str | Path, *, abstract_arrays: Any, with_host: bool = True) -> Restored:
    """Reads a checkpoint after verifying every byte of it.

    Args:
        path: a directory that `Checkpoints.save` or `Checkpoints.latest` returned.
        abstract_arrays: pytree of the saved structure. A leaf is an array or a `jax.ShapeDtypeStruct`, whose sharding
            (by default the first device) the result gets; a NumPy array, which comes back as one; or `...`, which is
            not read and comes back as it is.
        with_host: also read the arrays of the host, which may be gigabytes.

    Raises:
        CheckpointError: the checkpoint is damaged, or its arrays differ from `abstract_arrays`; a short list says how.
    """
    path = Path(path).absolute()
    document = _read_document(path)
    _check_specs(document["arrays"], abstract_arrays, path)
    try:
        arrays = _load(path, jax.tree.map(_target, abstract_arrays))
        host = read_npz(path / "host.npz", document["host"]) if with_host else {}
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {_first_line(error)}.") from error
    _check_specs(document["arrays"], arrays, path)  # JAX makes int64 int32 without a word
    return Restored(arrays, host, document["meta"])


def read_host(path: str | Path) -> Restored:
    """Reads a checkpoint without its train state (`arrays` is None), after verifying every byte.

    Raises:
        CheckpointError: the checkpoint is damaged, missing or of a newer format.
    """
    path = Path(path).absolute()
    document = _read_document(path)
    try:
        host = read_npz(path / "host.npz", document["host"])
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {_first_line(error)}.") from error
    return Restored(None, host, document["meta"])


def read_part(path: str | Path, *, below: Sequence[str]) -> dict[str, jax.Array]:
    """Reads the arrays of one branch, whatever the others look like, onto the first device, after verifying every byte.

    Args:
        path: a checkpoint.
        below: the keys (or names of a NamedTuple's fields) that lead to a branch of nested dicts.

    Returns:
        The arrays by the rest of their path: `world/rssm/prior_out/bias`.

    Raises:
        CheckpointError: the checkpoint is damaged, missing, or has no such branch.
    """
    path = Path(path).absolute()
    _read_document(path)
    try:
        found = _load_part(path, list(below))
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {_first_line(error)}.") from error
    if not found:
        raise CheckpointError(f"Checkpoint {path} holds nothing below {'/'.join(below)}; is it a run's?")
    return found


def _keys(path: tuple[Any, ...]) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _read_document(path: Path) -> dict[str, Any]:
    try:
        verify_manifest(path)
        document = read_json(path / "meta.json")
    except (ManifestError, OSError, ValueError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {error}.") from error
    if document.get("format") != FORMAT:
        raise CheckpointError(
            f"Checkpoint {path} has format {document.get('format')}, this version reads format {FORMAT}; "
            "install the version of dreamer-jax that wrote it."
        )
    if not _is_document(document):
        raise CheckpointError(f"Checkpoint {path} is damaged: meta.json does not describe a checkpoint.")
    return document


def _is_document(document: dict[str, Any]) -> bool:
    """Whether it has the parts that `save` writes; a stranger's need not."""
    if not all(isinstance(document.get(name), dict) for name in ("meta", "arrays", "host")):
        return False
    specs = (isinstance(spec, list) and len(spec) == 2 for spec in document["arrays"].values())
    return all(specs) and all(isinstance(dtype, str) for dtype in document["host"].values())


def _specs(tree: Any) -> dict[str, list]:
    """Shape and dtype of every leaf by its path; a leaf `...` stands for one that is not wanted."""
    specs = {}
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(key_path)
        if leaf is ...:
            specs[name] = ...
        elif not hasattr(leaf, "dtype") or isinstance(leaf, np.generic):
            raise TypeError(f"{name} is a {type(leaf).__name__}; a checkpoint holds arrays, numbers belong into meta.")
        elif 0 in leaf.shape:
            raise TypeError(f"{name} has shape {leaf.shape}; an array without elements cannot be saved.")
        else:
            specs[name] = [list(leaf.shape), str(leaf.dtype)]
    return specs


def _check_specs(saved: dict[str, list], abstract_arrays: Any, path: Path) -> None:
    wanted = _specs(abstract_arrays)
    lines = [f"{name}: only in the checkpoint" for name in saved if name not in wanted]
    lines += [f"{name}: only in this run" for name in wanted if name not in saved]
    lines += [
        f"{name}: {_spell(saved[name])} in the checkpoint, {_spell(spec)} in this run"
        for name, spec in wanted.items()
        if spec is not ... and name in saved and spec != saved[name]
    ]
    if lines:
        shown = "\n  ".join(lines[:8] + [f"... and {len(lines) - 8} more"] * (len(lines) > 8))
        raise CheckpointError(
            f"Checkpoint {path} does not fit this run ({len(lines)} arrays differ):\n  {shown}\n"
            "It was written with another size, environment or configuration; a new run takes over what fits with "
            "--init-from, and another --logdir."
        )


def _spell(spec: list) -> str:
    return f"{spec[1]}{spec[0]}"


def _target(leaf: Any) -> Any:
    """Orbax asks for shardings; without one it would trust those of the machine that wrote the checkpoint."""
    if leaf is ... or isinstance(leaf, np.ndarray):
        return leaf
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _describe(arrays: Any, host: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> str:
    document = {"format": FORMAT, "meta": dict(meta), "arrays": _specs(arrays), "host": _host_dtypes(host)}
    return json.dumps(document, indent=1)


def _write_parts(folder: Path, arrays: Any, host: Mapping[str, np.ndarray], text: str) -> None:
    if jax.process_count() == 1:
        with _orbax():
            ocp.save(str(folder / ORBAX), arrays)
    else:
        write_tree(folder / PLAIN, arrays)
    write_npz(folder / "host.npz", host)
    (folder / "meta.json").write_text(text, encoding="utf-8")


def _load(path: Path, wanted: Any) -> Any:
    if (path / PLAIN).is_file():
        return read_tree(path / PLAIN, wanted)
    with _orbax():
        return ocp.load(str(path / ORBAX), wanted)


def _load_part(path: Path, below: list[str]) -> dict[str, jax.Array]:
    if (path / PLAIN).is_file():
        arrays = read_branch(path / PLAIN, below)
        return {name: jax.device_put(array, jax.local_devices()[0]) for name, array in arrays.items()}
    with _orbax():
        stored = ocp.metadata(str(path / ORBAX)).metadata
        wanted = jax.tree_util.tree_map_with_path(
            lambda keys, leaf: _target(leaf) if _keys(keys)[: len(below)] == below else ..., stored
        )
        leaves = jax.tree_util.tree_leaves_with_path(ocp.load(str(path / ORBAX), wanted))
    return {"/".join(_keys(keys)[len(below) :]): leaf for keys, leaf in leaves if leaf is not ...}


@contextmanager
def _orbax() -> Iterator[None]:
    context = ocp.Context()
    context.array.saving.use_compression = False  # weights compress by a tenth and saving takes thrice as long
    if jax.process_count() > 1:  # this one reads by itself
        context.multiprocessing.primary_host = jax.process_index()
        context.multiprocessing.active_processes = {jax.process_index()}
    with context, _silent_log():
        yield


@contextmanager
def _silent_log() -> Iterator[None]:
    """Orbax logs a failure as pages of tracebacks; `CheckpointError` says it in a sentence and keeps its cause."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _host_dtypes(host: Mapping[str, np.ndarray]) -> dict[str, str]:
    for name, array in host.items():
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise TypeError(f"host[{name!r}] must be a NumPy array of numbers, not {type(array).__name__} of objects.")
    return {name: array.dtype.name for name, array in host.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
