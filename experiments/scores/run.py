"""What a table or a plot knows of one seed of one method on one task."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SAME_LENGTH = 5  # episodes of one length after which all others are taken to have it, too


class ScoresError(Exception):
    """These scores cannot be read or compared; the message names the thing and what to do."""


@dataclass(frozen=True)
class Facts:
    """Where a run of our own comes from. A result file may leave any of them open.

    Attributes:
        source: the file that was read.
        env: the environment's full id, such as `atari100k_pong`.
        size: the model's size.
        config_hash: of the resolved configuration without seed and paths.
        commits: of the code, in the order in which they trained.
        devices: what it ran on.
        wall_seconds: at the last episode.
    """

    source: str = ""
    env: str = ""
    size: str = ""
    config_hash: str = ""
    commits: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    wall_seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """The returns of one seed.

    Attributes:
        method: a name in the table, such as `dreamerv3` or `ours`.
        suite: a name of `protocol.SUITES`.
        task: without the suite's prefix, such as `pong`.
        seed: its number; in the published Atari-100k runs a rank, so seeds are never paired.
        frames: `[E]` env frames at the end of each episode, ascending; of binned scores the right edge of the bin.
        scores: `[E]` undiscounted returns, or means of a bin.
        binned: whether `scores` are means of bins.
        stated: the score by the suite's protocol where the source states it; NaN where it states that there is none.
        facts: of a run of our own.
    """

    method: str
    suite: str
    task: str
    seed: int
    frames: np.ndarray
    scores: np.ndarray
    binned: bool = False
    stated: float | None = None
    facts: Facts = field(default_factory=Facts)

    @property
    def last_frame(self) -> int:
        """Env frames at the end of the last episode, 0 without one."""
        return int(self.frames[-1]) if len(self.frames) else 0

    @property
    def complete_until(self) -> int:
        """Env frames until which no further episode can end: one short of the next end where all take equally long."""
        lengths = np.unique(np.diff(self.frames, prepend=0.0))
        fixed = len(lengths) == 1 and len(self.frames) >= SAME_LENGTH
        return self.last_frame + (int(lengths[0]) - 1 if fixed else 0)
