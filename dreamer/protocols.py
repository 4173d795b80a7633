"""The named evaluation protocols: which episodes make a score, and under which conditions they were played.

Every protocol has two numbers, and both are always reported. The **training window** is the mean score of training
episodes that ended in a stated part of the run, which is what DreamerV3 publishes; the **separate evaluation** is the
mean of complete episodes that the finished agent plays, which is what others publish. `headline` says which of them
carries the protocol's name. Actions are samples in all of them, as in DreamerV3's own code in every mode.

| name | headline |
|---|---|
| `atari100k` | training episodes that end between 390k and 400k frames |
| `atari100k_100_episodes` | 100 episodes at the end (as DIAMOND, IRIS and TWISTER count) |
| `atari57`, also `atari200m` | training episodes of the last 2M of 200M frames |
| `dmc_proprio` | training episodes of the last 10k of 500k frames |
| `dmc_vision` | training episodes of the last 10k of 1M frames |
| `dmc_vision_40k` | the same of the last 40k frames |
| `classic` | the last 20 training episodes |

Data and pure functions only: no JAX, no files, no environments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from dreamer.presets import did_you_mean, suite_of

TRAINING, EVALUATION = "training_window", "evaluation"


class ProtocolError(ValueError):
    """There is no such protocol, or a run contradicts it; the message names the difference."""


class TrainingEpisode(NamedTuple):
    """A finished training episode: frames of the whole run when it ended, and its undiscounted return."""

    env_frames: int
    score: float


class WindowScore(NamedTuple):
    """What a window of training gives.

    Attributes:
        score: mean over its episodes; None where no episode ended in it.
        std: population standard deviation of the episodes, not of their mean; None likewise.
        episodes: how many ended in it.
    """

    score: float | None
    std: float | None
    episodes: int


@dataclass(frozen=True)
class FrameWindow:
    """Episodes that end after `low` and up to `high` frames; with `closed` those that end exactly at `low`, too."""

    low: int
    high: int
    closed: bool = False

    def select(self, episodes: Iterable[TrainingEpisode]) -> list[TrainingEpisode]:
        """The episodes that count."""
        return [
            episode
            for episode in map(TrainingEpisode._make, episodes)
            if self.low < episode.env_frames <= self.high or (self.closed and episode.env_frames == self.low)
        ]

    def reached_by(self, env_frames: int) -> bool:
        """Whether a run of so many frames has the whole window behind it."""
        return env_frames >= self.high

    def __str__(self) -> str:
        return f"training episodes that end in {'[' if self.closed else '('}{self.low:,}, {self.high:,}] frames"


@dataclass(frozen=True)
class LastEpisodes:
    """The newest episodes, for tasks whose budget is nobody's standard."""

    count: int

    def select(self, episodes: Iterable[TrainingEpisode]) -> list[TrainingEpisode]:
        """The episodes that count."""
        return sorted(map(TrainingEpisode._make, episodes), key=lambda episode: episode.env_frames)[-self.count :]

    def reached_by(self, env_frames: int) -> bool:
        """Any run has newest episodes."""
        return env_frames > 0

    def __str__(self) -> str:
        return f"the last {self.count} training episodes"


@dataclass(frozen=True)
class Protocol:
    """How a score is made.

    Attributes:
        name: in code, files and tables.
        source: who counts so.
        suites: suites whose environments it is for (`dreamer.presets.suite_of`).
        window: of training.
        episodes: of the separate evaluation.
        environment: what has to hold for the environment, by the name of `Environment.protocol`; None: not set.
        actions: of the separate evaluation; training always samples.
        headline: which of the two numbers is the score.
    """

    name: str
    source: str
    suites: tuple[str, ...]
    window: FrameWindow | LastEpisodes
    episodes: int
    environment: Mapping[str, Any]
    actions: Literal["sample", "mode"] = "sample"
    headline: Literal["training_window", "evaluation"] = "training_window"

    def training_score(self, episodes: Iterable[TrainingEpisode] | Iterable[tuple[int, float]]) -> WindowScore:
        """The training-window number of one run.

        Args:
            episodes: `(env_frames, score)` of its finished training episodes, in any order. Scores that are not finite
                are left out, as the released curves leave them out.
        """
        finite = [TrainingEpisode(frames, score) for frames, score in episodes if math.isfinite(score)]
        scores = [episode.score for episode in self.window.select(finite)]
        if not scores:
            return WindowScore(None, None, 0)
        mean = math.fsum(scores) / len(scores)
        variance = math.fsum((score - mean) ** 2 for score in scores) / len(scores)
        return WindowScore(mean, math.sqrt(variance), len(scores))

    def differences(self, env: str, environment: Mapping[str, Any]) -> list[str]:
        """Where an environment contradicts the protocol, a phrase each; empty: nowhere.

        Args:
            env: its name.
            environment: its `Environment.protocol`; a value that it lacks counts as None.
        """
        if (suite := suite_of(env)) not in self.suites:
            return [f"it is for environments of {' or '.join(self.suites)}, and {env} is one of {suite}"]
        return [
            f"{key} is {environment.get(key)} instead of {wanted}"
            for key, wanted in self.environment.items()
            if environment.get(key) != wanted
        ]


_ATARI = {"action_repeat": 4, "noops": 30, "life_loss": False, "max_episode_frames": 108_000}
_ATARI_100K = MappingProxyType(
    _ATARI | {"sticky": 0.0, "full_actions": False, "grayscale": False, "height": 64, "width": 64}
)
_ATARI_57 = MappingProxyType(
    _ATARI | {"sticky": 0.25, "full_actions": True, "grayscale": True, "height": 96, "width": 96}
)
_DMC = {"action_repeat": 2, "max_episode_frames": 1000, "max_episode_steps": None}
_DMC_PROPRIO = MappingProxyType(_DMC | {"image_size": None})
_DMC_VISION = MappingProxyType(_DMC | {"image_size": (64, 64)})

_atari100k = Protocol(
    "atari100k",
    source="DreamerV3: 400k frames, no sticky actions",
    suites=("atari100k",),
    window=FrameWindow(390_000, 400_000, closed=True),
    episodes=20,
    environment=_ATARI_100K,
)
_dmc_vision = Protocol(
    "dmc_vision",
    source="DreamerV3: 1M frames from images (released: 782.4 mean, 854.3 median)",
    suites=("dmc_vision",),
    window=FrameWindow(990_000, 1_000_000),
    episodes=10,
    environment=_DMC_VISION,
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            _atari100k,
            dataclasses.replace(
                _atari100k,
                name="atari100k_100_episodes",
                source="DIAMOND, IRIS, TWISTER: 100 evaluation episodes at the end of 400k frames",
                episodes=100,
                headline=EVALUATION,
            ),
            Protocol(
                "atari57",
                source="DreamerV3: 200M frames, sticky actions, all 18 actions (Machado et al. 2018)",
                suites=("atari",),
                window=FrameWindow(198_000_000, 200_000_000),
                episodes=10,
                environment=_ATARI_57,
            ),
            Protocol(
                "dmc_proprio",
                source="DreamerV3: last 10k-frame bin of 500k frames from vectors (the released file ends at 490k)",
                suites=("dmc",),
                window=FrameWindow(490_000, 500_000),
                episodes=10,
                environment=_DMC_PROPRIO,
            ),
            _dmc_vision,
            dataclasses.replace(
                _dmc_vision,
                name="dmc_vision_40k",
                source="DreamerV3: 1M frames from images in bins of 40k (786.1 mean, 861.2 median)",
                window=FrameWindow(960_000, 1_000_000),
            ),
            Protocol(
                "classic",
                source="this project: small gymnasium tasks with any budget",
                suites=("classic", "gym"),
                window=LastEpisodes(20),
                episodes=20,
                environment=MappingProxyType({}),
            ),
        )
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"atari200m": "atari57"})


def find_protocol(name: str) -> Protocol:
    """The protocol of a name, or of one of its aliases.

    Raises:
        ProtocolError: there is none; the message names the nearest and all.
    """
    protocol = PROTOCOLS.get(ALIASES.get(name, name))
    if protocol is None:
        near = did_you_mean(name, [*PROTOCOLS, *ALIASES])
        hint = f"; did you mean {near}?" if near else ""
        raise ProtocolError(f"no protocol is called {name!r}{hint} (there are {', '.join([*PROTOCOLS, *ALIASES])})")
    return protocol
