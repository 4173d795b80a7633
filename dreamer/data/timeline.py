"""The steps of one environment in order: chunks, the segments that are whole, and the head that grows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer.data.chunk import Chunk
from dreamer.data.layout import StepLayout


class Timeline:
    """One environment's steps, numbered from 0 for the life of a run.

    Chunks are dropped at the old end; a damaged chunk file leaves a hole. The steps between are whole segments
    `[begin, end)`, and nothing is ever read across two of them.

    Args:
        layout: the fields of a step.
        env: number of the environment.
        length: steps of a chunk.
    """

    def __init__(self, layout: StepLayout, *, env: int, length: int) -> None:
        self._layout = layout
        self._env = env
        self._length = length
        self._chunks: dict[int, Chunk] = {}  # by index, oldest first
        self.segments: list[tuple[int, int]] = []
        self.end = 0  # number of the next step

    @property
    def num_steps(self) -> int:
        """Steps held."""
        return sum(end - begin for begin, end in self.segments)

    @property
    def full_chunks(self) -> list[Chunk]:
        """All chunks but the one that fills up, oldest first."""
        return [chunk for chunk in self._chunks.values() if chunk.index < self.end // self._length]

    @property
    def oldest(self) -> int:
        """Index of the oldest chunk."""
        return next(iter(self._chunks), self.end // self._length)

    @property
    def begins_chunk(self) -> bool:
        """Whether the next step needs a new chunk."""
        return self.end % self._length == 0

    def append(self, values: dict[str, np.ndarray]) -> Chunk | None:
        """Copies row `env` of arrays `[N, ...]` behind the last step; returns the chunk if that filled it."""
        index, place = divmod(self.end, self._length)
        if place == 0:
            self._chunks[index] = Chunk(self._env, index, self._layout.allocate(self._length))
        chunk = self._chunks[index]
        for name, array in chunk.arrays.items():
            array[place] = values[name][self._env]
        if values["is_first"][self._env]:
            self._close_episode(self.end)
        self._extend(self.end, self.end + 1)
        return chunk if place + 1 == self._length else None

    def install(self, chunk: Chunk) -> None:
        """Puts a full chunk read from disk behind those that are there, after a hole if there is one."""
        self._chunks[chunk.index] = chunk
        begin = chunk.index * self._length
        if chunk.arrays["is_first"][0]:
            self._close_episode(begin)  # the step before was written to its file before this one was known
        self._extend(begin, begin + self._length)

    def install_head(self, arrays: dict[str, np.ndarray], *, end: int) -> None:
        """Sets the number of the next step and the steps `[n, ...]` of the chunk that fills up, n = end % length."""
        begin = end - end % self._length
        if begin < end:
            index = begin // self._length
            head = self._chunks[index] = Chunk(self._env, index, self._layout.allocate(self._length))
            for name, array in arrays.items():
                head.arrays[name][: end - begin] = array
            if arrays["is_first"][0]:
                self._close_episode(begin)
            self._extend(begin, end)
        self.end = end

    def head(self, name: str) -> np.ndarray:
        """One field of the steps that are not in a full chunk, `[n, ...]`."""
        index, count = divmod(self.end, self._length)
        arrays = self._chunks[index].arrays if count else self._layout.allocate(0)
        return arrays[name][:count]

    def drop_oldest(self) -> Chunk:
        """Forgets the oldest chunk and returns it."""
        chunk = self._chunks.pop(self.oldest)
        _, end = self.segments.pop(0)
        begin = (chunk.index + 1) * self._length
        if begin < end:
            self.segments.insert(0, (begin, end))
        return chunk

    def holds(self, begin: int, end: int) -> bool:
        """Whether the steps `[begin, end)` are all there."""
        return any(first <= begin and end <= last for first, last in self.segments)

    def spans(self, begin: int, count: int) -> Iterator[tuple[Chunk, slice, slice]]:
        """Finds steps `begin .. begin + count - 1`: pieces `(chunk, place in the chunk, place in the window)`.

        Steps that are gone are left out.
        """
        done = 0
        while done < count:
            index, place = divmod(begin + done, self._length)
            piece = min(self._length - place, count - done)
            chunk = self._chunks.get(index)
            if chunk is not None:
                yield chunk, slice(place, place + piece), slice(done, done + piece)
            done += piece

    def _close_episode(self, first: int) -> None:
        """Marks the step before a reset as last: an episode that was cut (by a restart, say) has no end of its own."""
        for chunk, place, _ in self.spans(first - 1, 1):
            chunk.arrays["is_last"][place] = True

    def _extend(self, begin: int, end: int) -> None:
        if self.segments and self.segments[-1][1] == begin:
            begin = self.segments.pop()[0]
        self.segments.append((begin, end))
        self.end = end
