"""What counts as the score of a run: the window of its suite, or the same number of frames for all who are compared."""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamer.protocols import FrameWindow, Protocol, find_protocol
from experiments.scores.run import Run

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PATIENCE = 120_000  # frames without an episode after which a curve has no value; an Atari episode has 108,000 at most
NEARLY = 0.9  # of the frames of others: runs of equal length end their last episodes at different frames


@dataclass(frozen=True)
class Suite:
    """How a suite is shown and compared; which episodes are its score is said by `dreamer.protocols`.

    Attributes:
        name: of the reference files.
        prefix: of its environments' ids; our own vision tasks have another than the published file.
        protocol: its training window.
        bin: env frames of a bin of the published curves, into which our episodes are put, too.
        unit: of a normalised score in a table.
        points: a normalised score of 1 in that unit.
        unreleased: tasks of the suite that the reference does not have.
        remark: what else a reader of its figures should know.
    """

    name: str
    prefix: str
    protocol: Protocol
    bin: int
    unit: str
    points: float
    unreleased: tuple[str, ...] = ()
    remark: str = ""

    @property
    def window(self) -> FrameWindow | None:
        """The part of a run whose episodes are its score; None: any run has a score, by its last episodes."""
        return self.protocol.window if isinstance(self.protocol.window, FrameWindow) else None

    @property
    def title(self) -> str:
        """What a normalised score is, in words."""
        return "human-normalised score" if self.unit == "%" else "score"

    @functools.cached_property
    def tasks(self) -> tuple[str, ...]:
        """All tasks of the suite, without prefix; none where the suite is open."""
        if self.window is None:
            return ()
        path = REFERENCE / f"{self.name}_final.csv"
        with path.open(encoding="utf-8") as file:
            found = {strip_prefix(row["task"]) for row in csv.DictReader(file)}
        return tuple(sorted(found | set(self.unreleased)))

    def compared_at(self, frames: int | None) -> int:
        """Env frames of a comparison; of None, by the protocol, the end of its window."""
        if frames is None:
            assert self.window is not None, "a suite without a window is compared at frames"
            return self.window.high
        return frames

    def knows(self, task: str) -> bool:
        """Whether a score of this task can be normalised."""
        return self.window is not None and (self.unit != "%" or task in baselines())

    def normalise(self, task: str, scores: np.ndarray) -> np.ndarray:
        """Scores as a part of the human's above the random player's, or of the 1,000 points of a DMC episode."""
        if self.unit != "%":
            return scores / self.points
        random, human = baselines()[task]
        return (scores - random) / (human - random)


SUITES = {
    suite.name: suite
    for suite in (
        Suite("atari100k", "atari100k_", find_protocol("atari100k"), 10_000, "%", 100.0),
        Suite("atari57", "atari_", find_protocol("atari57"), 4_000_000, "%", 100.0),
        Suite("dmc_vision", "dmc_vision_", find_protocol("dmc_vision"), 20_000, "points", 1000.0),
        Suite(
            "dmc_proprio", "dmc_", find_protocol("dmc_proprio"), 10_000, "points", 1000.0,
            unreleased=("finger_spin", "reacher_easy"),
            remark="The published runs of dreamerv3 end at 490,000 env frames: theirs is the 10,000 before.",
        ),
        Suite("gymnasium", "", find_protocol("classic"), 1, "", 1.0),
    )
}  # fmt: skip


@functools.cache
def baselines() -> dict[str, tuple[float, float]]:
    """Random and human score of an Atari game."""
    with (REFERENCE / "baselines.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {strip_prefix(row["task"]): (float(row["random"]), float(row["human"])) for row in rows}


def strip_prefix(env: str) -> str:
    """`pong` of `atari100k_pong`, and so for every suite; the id of any other environment as it is."""
    return env.removeprefix(suite_of(env).prefix)


def suite_of(env: str) -> Suite:
    """The suite of an environment's id."""
    return next(suite for suite in SUITES.values() if env.startswith(suite.prefix))


def training_score(run: Run, suite: Suite) -> float | None:
    """The score by the suite's protocol, or None: no episode ended in the window, or the suite has none."""
    if run.stated is not None:
        return None if np.isnan(run.stated) else run.stated
    if suite.window is None:
        return None
    if run.binned:  # a bin holds what ended after its left edge, which is the label of the one before
        inside = run.scores[(run.frames > suite.window.low) & (run.frames <= suite.window.high)]
        return float(inside.mean()) if inside.size else None
    return suite.protocol.training_score(_episodes(run)).score


def score_at(run: Run, suite: Suite, frames: int) -> float | None:
    """What the run had reached at a number of frames: its newest bin with an episode, or its last episodes.

    None where it has not come so far, or where no episode had ended for a long while.
    """
    if not run.binned and run.complete_until < (frames if suite.window else NEARLY * frames):
        return None
    if suite.window is None:
        return suite.protocol.training_score(_episodes(run, until=frames)).score
    edges, means = bins(run, suite.bin)
    known = np.flatnonzero(edges <= frames)
    if not known.size or frames - edges[known[-1]] >= max(PATIENCE, 2 * suite.bin):
        return None
    return float(means[known[-1]])


def curve(run: Run, width: int, grid: np.ndarray) -> np.ndarray:
    """`[len(grid)]`: the newest bin at or before each number of frames.

    NaN before the first and after the last, and where no episode had ended for a long while.
    """
    edges, means = bins(run, width)
    if not edges.size:
        return np.full(len(grid), np.nan)
    newest = np.searchsorted(edges, grid, side="right") - 1
    age = grid - edges[newest]
    known = (newest >= 0) & (age < max(PATIENCE, 2 * width)) & (grid <= edges[-1])
    return np.where(known, means[newest], np.nan)


def bins(run: Run, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Right edges and means of the bins ((k - 1) width, k width] that hold an episode; of binned scores their own."""
    if run.binned:
        return run.frames, run.scores
    number = np.maximum(1, -(-run.frames // width))  # what ended at frame 0 is in the first
    found, index = np.unique(number, return_inverse=True)
    return found * width, np.bincount(index, weights=run.scores) / np.bincount(index)


def _episodes(run: Run, *, until: float = math.inf) -> list[tuple[int, float]]:
    return [
        (int(frames), float(score)) for frames, score in zip(run.frames, run.scores, strict=True) if frames <= until
    ]
