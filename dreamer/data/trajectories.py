"""Whole episodes out of a run's replay, which is only read: nothing is removed, as a trainer would that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dreamer.data.chunk import ChunkFiles, DamagedChunkError
from dreamer.data.layout import StepLayout, native
from dreamer.data.storage import ReplayState

Steps = dict[str, np.ndarray]
"""Consecutive steps by field of the layout, `[T, ...]`."""


class Piece(NamedTuple):
    """Steps of one environment that follow those of the piece before, unless something is missing between them."""

    env: int
    follows: bool
    steps: Steps


class Tally:
    """What was found in a replay.

    Attributes:
        episodes: that were given out.
        cut: of those, how many were still open at the last step or end where a chunk is lost.
        steps: actions in all of them.
        headless: steps that belong to no whole episode, as its beginning is not in replay (any more).
        lost: a sentence for every chunk file that could not be read.
    """

    def __init__(self) -> None:
        self.episodes, self.cut, self.headless = 0, 0, 0
        self.lost: list[str] = []
        self.steps = 0

    def __str__(self) -> str:
        parts = [f"{self.episodes:,} episodes, {self.steps:,} actions"]
        if self.cut:
            parts.append(f"{self.cut:,} of them cut before their end, as truncated")
        if self.headless:
            parts.append(f"{self.headless:,} steps left out as the beginning of their episode is gone")
        if self.lost:
            parts.append(f"{len(self.lost):,} damaged chunks left out ({self.lost[0]})")
        return "; ".join(parts)


def read_episodes(directory: Path, *, layout: StepLayout, state: ReplayState, tally: Tally) -> Iterator[Steps]:
    """Every episode whose beginning is there, environment by environment, in order; one chunk is in memory at a time.

    Its first step has `is_first`, its last one `is_last`: an episode that was cut counts as truncated. Those of a
    single step have no action that led anywhere, and are left out.

    Args:
        directory: of the chunk files.
        layout: the fields of a step.
        state: what the run's checkpoint keeps of its replay.
        tally: is kept up to date.
    """
    open_steps: list[Steps] = []
    for piece in _pieces(directory, layout=layout, state=state, tally=tally):
        if open_steps and not piece.follows:
            yield from _finish(open_steps, tally)
            open_steps = []
        begins = [int(place) for place in np.flatnonzero(piece.steps["is_first"])]
        head, *whole = np.split(np.arange(len(piece.steps["is_first"])), begins)
        if open_steps:
            open_steps.append(_take(piece.steps, head))
        else:
            tally.headless += len(head)
        for places in whole:
            yield from _finish(open_steps, tally)
            open_steps = [_take(piece.steps, places)]
    yield from _finish(open_steps, tally)


def _pieces(directory: Path, *, layout: StepLayout, state: ReplayState, tally: Tally) -> Iterator[Piece]:
    """Chunks, and behind those of each environment the steps that fill no chunk yet."""
    length, ends, place = state.manifest["chunk"], state.manifest["ends"], 0
    with closing(ChunkFiles(directory, layout=layout, length=length)) as files:
        for env, end in enumerate(ends):
            expected = None
            listed = sorted((index, fingerprint) for at, index, fingerprint in state.manifest["chunks"] if at == env)
            for index, fingerprint in listed:
                try:
                    chunk = files.read(env, index, fingerprint=fingerprint)
                except DamagedChunkError as error:
                    tally.lost.append(str(error))
                    continue
                yield Piece(env, index == expected, chunk.arrays)
                expected = index + 1
            head = slice(place, place + end % length)
            place = head.stop
            steps = {
                name: native(state.arrays[f"heads/{name}"][head], field.dtype) for name, field in layout.fields.items()
            }
            yield Piece(env, end // length == expected, steps)


def _take(steps: Steps, places: np.ndarray) -> Steps:
    return {name: array[places] for name, array in steps.items()}


def _finish(parts: list[Steps], tally: Tally) -> Iterator[Steps]:
    """The episode that some pieces make, if there is one."""
    if not parts:
        return
    steps = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if len(steps["is_last"]) < 2:
        tally.headless += len(steps["is_last"])
        return
    tally.episodes += 1
    tally.steps += len(steps["is_last"]) - 1
    tally.cut += not steps["is_last"][-1]
    steps["is_last"][-1] = True
    yield steps
