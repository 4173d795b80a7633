"""All stored steps of a run: memory, files, and what of them goes into a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.data.chunk import Chunk, ChunkFiles, DamagedChunkError
from dreamer.data.layout import StepLayout, native, portable
from dreamer.data.timeline import Timeline

FORMAT = 1  # of the manifest
LATENT = ("deter", "stoch")
SHOWN = 5  # damaged files that are listed by name


class ReplayState(NamedTuple):
    """What a checkpoint keeps of a replay, beside its chunk files.

    Attributes:
        arrays: by name, of dtypes that every file format knows.
        manifest: JSON.
    """

    arrays: dict[str, np.ndarray]
    manifest: dict[str, Any]


class RestoreReport(NamedTuple):
    """How a replay came back.

    Attributes:
        steps: steps that it holds now.
        saved_steps: steps that the checkpoint lists.
        lost_steps: steps of chunks that could not be read.
        lost: one sentence for each of those, naming the file.
        removed: chunk files written after the checkpoint, removed unread.
        latents_kept: whether refreshed latents were in the checkpoint; otherwise full chunks hold those of their files.
    """

    steps: int
    saved_steps: int
    lost_steps: int
    lost: tuple[str, ...]
    removed: int
    latents_kept: bool

    def describe(self) -> str:
        """Steps held, what was lost and what was removed, in one line and a few more for the damaged files."""
        parts = [f"{self.steps:,} steps of replay"]
        if self.lost:
            parts.append(f"{self.lost_steps:,} of {self.saved_steps:,} saved ones are lost")
        if self.removed:
            parts.append(f"{self.removed:,} chunk files written after the checkpoint were removed")
        return "\n".join(["; ".join(parts), *([self.list_lost()] if self.lost else [])])

    def list_lost(self) -> str:
        """What was wrong with the first few damaged files, a line each."""
        more = [f"  ... and {len(self.lost) - SHOWN:,} more"] * (len(self.lost) > SHOWN)
        return "\n".join([*(f"  {line}" for line in self.lost[:SHOWN]), *more])


class Storage:
    """Steps of `N` environments in chunks, allocated as they come in and dropped, oldest first, beyond the capacity.

    Where memory is short when a chunk is to be allocated, the capacity falls to one chunk less than there is, and stays
    there for the life of this object: a smaller replay trains on, a process that the system kills does not.

    Args:
        layout: the fields of a step.
        num_envs: environments N that step together.
        length: steps of a chunk.
        capacity: steps over all environments.
        least: steps below which no shortage of memory takes the capacity.
        directory: where full chunks are written; None keeps them in memory only.
        memory_is_short: asked before every chunk.

    Attributes:
        capacity: as it is now.
    """

    def __init__(
        self,
        layout: StepLayout,
        *,
        num_envs: int,
        length: int,
        capacity: int,
        least: int,
        directory: Path | None,
        memory_is_short: Callable[[], bool],
    ) -> None:
        self._layout = layout
        self._length = length
        self.capacity = capacity
        self._least = least
        self._memory_is_short = memory_is_short
        self._files = None if directory is None else ChunkFiles(directory, layout=layout, length=length)
        self.timelines = [Timeline(layout, env=env, length=length) for env in range(num_envs)]

    @property
    def num_steps(self) -> int:
        """Steps held, over all environments."""
        return sum(timeline.num_steps for timeline in self.timelines)

    def append(self, values: dict[str, np.ndarray]) -> None:
        """Copies one step of every environment, by field `[N, ...]`; full chunks go to the disk in the background."""
        for timeline in self.timelines:
            if timeline.begins_chunk:
                self._heed_memory()
            full = timeline.append(values)
            if full is not None and self._files is not None:
                self._files.write_soon(full)
        self._drop_excess()

    def read(self, env: int, begin: int, out: dict[str, np.ndarray]) -> None:
        """Copies steps from `begin` on into arrays `[count, ...]`, by field.

        Raises:
            LookupError: some of them are not there.
        """
        count = len(next(iter(out.values())))
        if not self.timelines[env].holds(begin, begin + count):
            raise LookupError(f"Steps {begin} to {begin + count - 1} of environment {env} are not in the replay.")
        for chunk, place, window in self.timelines[env].spans(begin, count):
            for name, array in out.items():
                array[window] = chunk.arrays[name][place]

    def refresh(self, env: int, begin: int, latents: dict[str, np.ndarray]) -> None:
        """Replaces the latents, by field `[count, ...]`, of those steps from `begin` on that are there."""
        count = len(next(iter(latents.values())))
        for chunk, place, window in self.timelines[env].spans(begin, count):
            chunk.refreshed = True
            for name, array in latents.items():
                chunk.arrays[name][place] = array[window]

    def state(self, *, latents_limit: float) -> ReplayState:
        """Copies what is not in a chunk file, and lists those files; waits until they are written.

        Args:
            latents_limit: bytes that refreshed latents of full chunks may take; if they need more, none is kept.

        Raises:
            OSError: a chunk file cannot be written; nothing is lost, and the next call tries again.
            ValueError: there is no directory.
        """
        files = self._require_files()
        chunks = [chunk for timeline in self.timelines for chunk in timeline.full_chunks]
        listed = [[chunk.env, chunk.index, files.ensure_written(chunk)] for chunk in chunks]
        refreshed = [chunk for chunk in chunks if chunk.refreshed]
        latents_kept = len(refreshed) * self._length * self._layout.latent_bytes <= latents_limit
        refreshed = refreshed if latents_kept else []
        latents = {f"latents/{name}": self._stack(refreshed, name) for name in LATENT}
        manifest = self._identity() | {
            "ends": [timeline.end for timeline in self.timelines],
            "chunks": listed,
            "refreshed": [[chunk.env, chunk.index] for chunk in refreshed],
            "latents_kept": latents_kept,
        }
        return ReplayState(latents | self._heads(), manifest)

    def restore(self, state: ReplayState) -> RestoreReport:
        """Fills an empty storage from a checkpoint and the chunk files of the directory.

        Every file is verified. One that is damaged or missing leaves a hole; those written after the checkpoint are
        removed, so that the future of an abandoned run is never trained on.

        Raises:
            ValueError: the checkpoint holds other fields, environments or chunk lengths, or there is no directory.
        """
        files = self._require_files()
        self._check_identity(state.manifest)
        ends = state.manifest["ends"]
        lost = self._read_chunks(files, state)
        self._restore_heads(state.arrays, ends)
        self._drop_excess()
        return RestoreReport(
            steps=self.num_steps,
            saved_steps=len(state.manifest["chunks"]) * self._length + sum(end % self._length for end in ends),
            lost_steps=len(lost) * self._length,
            lost=tuple(lost),
            removed=files.remove_from([end // self._length for end in ends]),
            latents_kept=state.manifest["latents_kept"],
        )

    def remove_unlisted(self, kept: Iterable[dict[str, Any]]) -> int:
        """Removes chunk files that neither a kept checkpoint nor the replay itself holds.

        Args:
            kept: manifests of all checkpoints that may still be restored.

        Returns:
            The number of files removed.
        """
        places = {(env, index) for manifest in kept for env, index, _ in manifest["chunks"]}
        places |= {(chunk.env, chunk.index) for timeline in self.timelines for chunk in timeline.full_chunks}
        return self._require_files().remove_except(places)

    def close(self) -> None:
        """Waits for the files under way."""
        if self._files is not None:
            self._files.close()

    def _drop_excess(self) -> None:
        while self.num_steps > self.capacity:
            min((timeline for timeline in self.timelines if timeline.segments), key=_oldest).drop_oldest()

    def _heed_memory(self) -> None:
        """Makes room for a chunk before it is allocated."""
        if self._memory_is_short():
            self.capacity = min(self.capacity, max(self._least, self.num_steps - self._length))
            self._drop_excess()

    def _read_chunks(self, files: ChunkFiles, state: ReplayState) -> list[str]:
        """Installs every chunk that can be read, with its refreshed latents; returns what was wrong with the others."""
        refreshed = {tuple(place): row for row, place in enumerate(state.manifest["refreshed"])}
        lost: list[str] = []
        oldest_first = sorted(state.manifest["chunks"], key=lambda listed: listed[1])  # dropped in that order, too
        for env, index, fingerprint in oldest_first:
            self._heed_memory()
            try:
                chunk = files.read(env, index, fingerprint=fingerprint)
            except DamagedChunkError as error:
                lost.append(str(error))
                continue
            if (row := refreshed.get((env, index))) is not None:
                self._refresh_chunk(chunk, {name: state.arrays[f"latents/{name}"][row] for name in LATENT})
            self.timelines[env].install(chunk)
        return lost

    def _refresh_chunk(self, chunk: Chunk, latents: dict[str, np.ndarray]) -> None:
        chunk.refreshed = True
        for name, array in latents.items():
            chunk.arrays[name][:] = native(array, self._layout.fields[name].dtype)

    def _stack(self, chunks: list[Chunk], name: str) -> np.ndarray:
        field = self._layout.fields[name]
        out = np.empty((len(chunks), self._length, *field.shape), field.dtype)
        for row, chunk in enumerate(chunks):
            out[row] = chunk.arrays[name]
        return portable(out)

    def _heads(self) -> dict[str, np.ndarray]:
        """The steps that are not in a full chunk, by field, one environment behind the other."""
        heads = {}
        for name in self._layout.fields:
            parts = [timeline.head(name) for timeline in self.timelines]
            heads[f"heads/{name}"] = portable(np.concatenate(parts))
        return heads

    def _restore_heads(self, arrays: dict[str, np.ndarray], ends: list[int]) -> None:
        place = 0
        for timeline, end in zip(self.timelines, ends, strict=True):
            count = end % self._length
            steps = {name: arrays[f"heads/{name}"][place : place + count] for name in self._layout.fields}
            steps = {name: native(array, self._layout.fields[name].dtype) for name, array in steps.items()}
            timeline.install_head(steps, end=end)
            place += count

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint and a replay must have in common."""
        layout = {name: [list(field.shape), field.dtype.name] for name, field in self._layout.fields.items()}
        return {"format": FORMAT, "fields": layout, "num_envs": len(self.timelines), "chunk": self._length}

    def _check_identity(self, manifest: dict[str, Any]) -> None:
        for key, value in self._identity().items():
            if manifest[key] != value:
                raise ValueError(
                    f"The saved replay has {key} = {manifest[key]}, but this run has {value}; "
                    "use the saved run's settings, or another logdir."
                )

    def _require_files(self) -> ChunkFiles:
        if self._files is None:
            raise ValueError("This replay has no directory for its chunks, hence it cannot be saved or restored.")
        return self._files


def _oldest(timeline: Timeline) -> int:
    return timeline.oldest
