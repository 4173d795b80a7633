"""The loop of a run that learns from a dataset: it fills replay once, and then makes one update after the other.

All else is as in every run: what a checkpoint holds, how it resumes, what is logged. The position of the run (see
`Counters`) is its number of updates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from typing_extensions import override

from dreamer.config import Config
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.collect import Collecting
from dreamer.training.hosts import Round
from dreamer.training.progress import Progress
from dreamer.training.trainer import Trainer


class Filling(Collecting, Protocol):
    """A collector that brings what was collected long ago.

    Attributes:
        is_complete: whether replay has everything.
    """

    @property
    def is_complete(self) -> bool:
        """Whether replay has everything."""
        ...


class OfflineTrainer(Trainer):
    """One run from a dataset.

    Args:
        config: of the run; its train ratio does not count.
        collector: brings the dataset.
        **parts: as of `Trainer`.
    """

    def __init__(self, config: Config, *, collector: Filling, **parts: Any) -> None:
        # One update for each step of the position; and nothing in a dataset is fresher than the rest.
        replay = dataclasses.replace(config.replay, online=False)
        one_each = float(replay.batch_size * replay.batch_length)
        super().__init__(dataclasses.replace(config, replay=replay, train_ratio=one_each), collector=collector, **parts)
        self._dataset = collector

    @override
    def _act(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        if not self._dataset.is_complete:
            progress.phase("reading the dataset")
            self._dataset.step(self._acting, self._stream, meanwhile=lambda: not stop())
        if self._dataset.is_complete and not self._stream.ready:
            raise CheckpointError(
                f"Too much of the replay in {self._folder.replay} is lost; start anew in another --logdir."
            )
        self._round = Round((), self._dataset.is_complete, self._saving.due, stop())

    @override
    def _learn(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        if not self._dataset.is_complete or stop():
            return
        self._update(progress)
        progress.phase("training")
        self._record_video()

    @override
    def _acting_scalars(self) -> dict[str, float]:
        return {}
