"""What a checkpoint of a run holds, and how the run continues from it: everything that the next step depends on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dreamer.config import Config
from dreamer.data.prefetch import ReplayStream
from dreamer.data.ratio import TrainRatio
from dreamer.data.storage import ReplayState, RestoreReport
from dreamer.training.checkpoint import MALFORMED, CheckpointError, Restored
from dreamer.training.collect import ENVIRONMENT, Collecting
from dreamer.training.counters import Counters
from dreamer.training.hosts import Hosts
from dreamer.training.learn import Learner
from dreamer.training.mesh import Placement
from dreamer.training.run_folder import RunFolder
from dreamer.training.shared_checkpoints import SharedCheckpoints
from dreamer.training.state import Definition
from dreamer.types import Batch

REPLAY = "replay/"  # prefix of its arrays


class Parts(NamedTuple):
    """The parts of a run that have a state."""

    stream: ReplayStream[Batch]
    collector: Collecting
    learner: Learner
    ratio: TrainRatio


class Resumed(NamedTuple):
    """Where a run goes on.

    Attributes:
        replay: what of it was found, in words.
    """

    counters: Counters
    last_score: float | None
    replay: str


class Snapshots:
    """Saves the parts of a run together, and sets them back together. All hosts of a run make the same calls."""

    def __init__(
        self,
        config: Config,
        *,
        definition: Definition,
        folder: RunFolder,
        placement: Placement,
        parts: Parts,
        hosts: Hosts,
    ) -> None:
        self._config, self._definition, self._folder = config, definition, folder
        self._placement, self._parts, self._hosts = placement, parts, hosts
        self._checkpoints = SharedCheckpoints(folder.checkpoints, keep=config.checkpoint.keep, hosts=hosts)
        self._manifests: dict[str, dict[str, Any]] = {}  # replay manifests of the kept checkpoints, by directory

    def save(self, counters: Counters, *, last_score: float | None) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: it could not be written; earlier ones are intact.
        """
        stream, collector, learner, ratio = self._parts
        with self._hosts.all_or_none(CheckpointError):
            replay = self._replay_state()
        host = {REPLAY + name: array for name, array in replay.arrays.items()}
        host |= collector.state() | learner.saved_arrays()
        meta = {
            "run_id": self._folder.run_id,
            "counters": counters._asdict(),
            "ratio": ratio.state(),
            "replay": replay.manifest,
            "last_score": last_score,
        }
        arrays = {"train": self._placement.here(learner.state), "carry": collector.carry}
        path = self._checkpoints.save(counters.position, arrays=arrays, host=host, meta=meta)
        self._manifests[str(path)] = replay.manifest
        self._manifests = {name: manifest for name, manifest in self._manifests.items() if Path(name).exists()}
        with contextlib.suppress(OSError):  # what cannot be removed now is removed after the next save
            stream.remove_unlisted(list(self._manifests.values()))

    def resume(self, *, keep_environment: bool) -> Resumed | None:
        """Sets all parts to the newest checkpoint that verifies; None where there is none.

        Args:
            keep_environment: also the environment; False leaves it as it is.

        Raises:
            CheckpointError: every checkpoint is damaged, or does not fit the configuration, or too much of replay is
                lost.
            RunFolderError: the checkpoint is another run's.
        """
        path = self._checkpoints.latest()
        if path is None:
            return None
        try:
            return self._resume_from(path, keep_environment=keep_environment)
        except MALFORMED as error:
            raise CheckpointError(f"Checkpoint {path} cannot be continued: {type(error).__name__}: {error}.") from error

    def _resume_from(self, path: Path, *, keep_environment: bool) -> Resumed:
        metas = self._checkpoints.metas()
        if path in metas:  # where this host has no share, `restore` says so
            self._folder.require_owner(metas[path]["run_id"], source=str(path))
        current = self._parts.collector.carry
        carry = current if keep_environment else jax.tree.map(lambda _: ..., current)
        abstract = {"train": self._placement.abstract(self._definition.abstract()), "carry": carry}
        restored = self._checkpoints.restore(path, abstract_arrays=abstract)
        if not keep_environment:
            host = {name: array for name, array in restored.host.items() if not name.startswith(ENVIRONMENT)}
            restored = restored._replace(host=host)
        # Chunk files stay as long as any checkpoint that lists them.
        self._manifests = {str(name): meta["replay"] for name, meta in metas.items()}
        return self._continue_from(restored)

    def _continue_from(self, restored: Restored) -> Resumed:
        stream, collector, learner, ratio = self._parts
        meta, host = restored.meta, restored.host
        arrays = {name.removeprefix(REPLAY): array for name, array in host.items() if name.startswith(REPLAY)}
        try:
            report = stream.restore(ReplayState(arrays, meta["replay"]))
        except ValueError as error:  # other fields, environments or chunks
            raise CheckpointError(str(error)) from error
        self._require_enough(report)
        learner.restore(self._placement.spread(restored.arrays["train"]), host)
        collector.restore(host, restored.arrays["carry"])
        ratio.restore(meta["ratio"])
        return Resumed(Counters(**meta["counters"]), meta["last_score"], report.describe())

    def _replay_state(self) -> ReplayState:
        try:
            return self._parts.stream.state()
        except OSError as error:
            raise CheckpointError(
                f"Replay not written to {self._folder.replay}: {error}. "
                "Earlier checkpoints are untouched; check the free disk space."
            ) from error

    def _require_enough(self, report: RestoreReport) -> None:
        """Stops before training goes on with a replay of which too much is gone."""
        most = self._config.replay.max_lost
        if report.lost_steps > most * report.saved_steps:
            raise CheckpointError(
                f"{report.lost_steps:,} of {report.saved_steps:,} steps of replay are lost, more than the share of "
                f"{most:g} that --replay.max-lost allows:\n{report.list_lost()}\n"
                f"Bring the files back into {self._folder.replay}, or go on with what is left: --replay.max-lost 1"
            )
