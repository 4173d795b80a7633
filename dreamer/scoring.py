"""Both numbers of a run under a named protocol: training window and separate evaluation, with all that defines them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer.protocols import EVALUATION, TRAINING, Protocol, ProtocolError, TrainingEpisode, WindowScore

if TYPE_CHECKING:
    from dreamer.training.counters import Counters

EPISODES = "episodes.csv"  # of a run's folder
CONDITIONS = (  # None where the environment knows no such thing
    *("sticky", "life_loss", "max_episode_frames", "time_limit_steps", "action_repeat", "noops", "full_actions"),
)


@dataclass(frozen=True)
class Training:
    """What a protocol finds in the training of a run.

    Attributes:
        protocol: the rule.
        window: its number.
        is_complete: whether the run was trained beyond the end of the window.
    """

    protocol: Protocol
    window: WindowScore
    is_complete: bool

    def document(self, scores: list[float], environment: Mapping[str, Any]) -> dict[str, Any]:
        """For JSON: both numbers and their conditions.

        Args:
            scores: of the separate evaluation.
            environment: `Environment.protocol` of that in which they were played.
        """
        protocol = self.protocol
        evaluated = WindowScore(float(np.mean(scores)), float(np.std(scores)), len(scores))
        return {
            "protocol": {
                "name": protocol.name,
                "source": protocol.source,
                "headline": protocol.headline,
                **{name: environment.get(name) for name in CONDITIONS},
            },
            TRAINING: {
                **self.window._asdict(),
                "rule": str(protocol.window),
                "complete": self.is_complete,
                "actions": "sample",
            },
            EVALUATION: {**evaluated._asdict(), "actions": protocol.actions},
        }

    def summary(self, scores: list[float]) -> list[str]:
        """For a person: a line for each number, the protocol's own marked."""
        window = self.window
        found = "none ended there" if window.score is None else f"{window.score:,.1f} over {window.episodes}"
        unfinished = "" if self.is_complete else " (the run has not trained to its end)"
        actions = "sampled" if self.protocol.actions == "sample" else "deterministic"
        numbers = {
            TRAINING: f"{found}: {self.protocol.window}{unfinished}",
            EVALUATION: f"{np.mean(scores):,.1f} over {len(scores)}: played now, with {actions} actions",
        }
        lines = [f"protocol {self.protocol.name} ({self.protocol.source})"]
        for name, text in numbers.items():
            mark = "*" if name == self.protocol.headline else " "
            lines.append(f"{mark} {name.replace('_', ' '):15}   {text}")
        return lines


def score_training(run: Path, protocol: Protocol, *, counters: Counters) -> Training:
    """The training-window number of a run, as far as its checkpoint goes.

    Rows beyond the checkpoint come from work that a crash undid. A saved agent has no training episodes: none counts.

    Raises:
        ProtocolError: the table of episodes is damaged.
    """
    rows = [row for row in read_episodes(run / EPISODES) if row.env_frames <= counters.env_frames]
    return Training(protocol, protocol.training_score(rows), protocol.window.reached_by(counters.env_frames))


def read_episodes(path: Path) -> list[TrainingEpisode]:
    """The finished training episodes of a run, none where there is no table yet.

    Raises:
        ProtocolError: the table is damaged; the message names it.
    """
    if not path.exists():
        return []
    whole, _, _cut_short = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    try:
        return [
            TrainingEpisode(int(row["env_frames"]), float(row["score"])) for row in csv.DictReader(whole.splitlines())
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"{path} is damaged: a row lacks its env_frames or score ({error}).") from error
