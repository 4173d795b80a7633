"""What counts as the score of a run: the window of its suite, or the same number of frames for all who are compared."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.scores.run import Run

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PATIENCE = 120_000  # frames without an episode after which a curve has no value; an Atari episode has 108,000 at most
NEARLY = 0.9  # of the frames of others: runs of equal length end their last episodes at different frames
LAST_EPISODES = 20  # of a task without a published protocol


@dataclass(frozen=True)
class Suite:
    """How a suite is scored.

    Attributes:
        name: of a preset in `configs/suites` and of the reference files.
        prefix: of its environments' ids; our own vision tasks have another than the published file.
        window: env frames; the score is the mean of the training episodes that end in it. None: the last 20 episodes.
        bin: env frames of a bin of the published curves, into which our episodes are put, too.
        unit: of a normalised score in a table.
        points: a normalised score of 1 in that unit.
        unreleased: tasks of the suite that the reference does not have.
        remark: what else a reader of its figures should know.
    """

    name: str
    prefix: str
    window: tuple[int, int] | None
    bin: int
    unit: str
    points: float
    unreleased: tuple[str, ...] = ()
    remark: str = ""

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
        Suite("atari100k", "atari100k_", (390_000, 400_000), 10_000, "%", 100.0),
        Suite("atari57", "atari_", (198_000_000, 200_000_000), 4_000_000, "%", 100.0),
        Suite("dmc_vision", "dmc_vision_", (990_000, 1_000_000), 20_000, "points", 1000.0),
        Suite(
            "dmc_proprio", "dmc_", (490_000, 500_000), 10_000, "points", 1000.0,
            unreleased=("finger_spin", "reacher_easy"),
            remark="The published runs of dreamerv3 end at 490,000 env frames: theirs is the 10,000 before.",
        ),
        Suite("gymnasium", "", None, 1, "", 1.0),
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
    first, last = suite.window
    begun = run.frames > first if run.binned else run.frames >= first  # a bin holds what ends after its left edge
    inside = run.scores[begun & (run.frames <= last)]
    return float(inside.mean()) if inside.size else None


def score_at(run: Run, suite: Suite, frames: int) -> float | None:
    """What the run had reached at a number of frames: its newest bin with an episode, or its last 20 episodes.

    None where it has not come so far, or where no episode had ended for a long while.
    """
    if not run.binned and run.last_frame < (frames if suite.window else NEARLY * frames):
        return None
    until = run.frames <= frames
    if suite.window is None:
        scores = run.scores[until][-LAST_EPISODES:]
        return float(scores.mean()) if scores.size else None
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
    """Right edges and mean scores of the bins ((k - 1) width, k width] that hold an episode. Binned scores as they are."""
    if run.binned:
        return run.frames, run.scores
    number = np.maximum(1, -(-run.frames // width))  # what ended at frame 0 is in the first
    found, index = np.unique(number, return_inverse=True)
    return found * width, np.bincount(index, weights=run.scores) / np.bincount(index)
