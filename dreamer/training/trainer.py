"""The loop of a run: act, learn, report, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.config import Config
from dreamer.data.layout import portable
from dreamer.data.prefetch import ReplayStream
from dreamer.data.ratio import TrainRatio
from dreamer.data.replay import Replay
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.collect import Collecting, NonFiniteActionError
from dreamer.training.compilation import Program
from dreamer.training.counters import Counters
from dreamer.training.device_memory import device_limit, explained
from dreamer.training.hosts import Hosts, Round
from dreamer.training.hyperparameters import hyperparameters
from dreamer.training.init_from import inherit
from dreamer.training.learn import Learner, NonFiniteError
from dreamer.training.line import HostLostError
from dreamer.training.mesh import Placement
from dreamer.training.metrics import MetricsLogger, SilentLogger
from dreamer.training.open_loop_videos import OpenLoopVideos
from dreamer.training.progress import Progress
from dreamer.training.run_folder import RunFolder
from dreamer.training.saving import Saving
from dreamer.training.scheduled_report import Measure, ScheduledReports
from dreamer.training.snapshots import Parts, Snapshots
from dreamer.training.stall import StallReport
from dreamer.training.state import Definition
from dreamer.training.step import make_train_step
from dreamer.training.wandb_log import WandbLog
from dreamer.types import Batch

AHEAD_STEPS = 1000  # agent steps whose updates may be made while an environment hangs


class Schedule(NamedTuple):
    """When things happen: position (see `Counters`) at which the run ends, and action repeat for the frame counter."""

    total_steps: int
    action_repeat: int


class Trainer:
    """One run.

    Attributes:
        counters: how far the run is.
        last_score: of the newest finished episode.
    """

    def __init__(
        self,
        config: Config,
        *,
        collector: Collecting,
        definition: Definition,
        folder: RunFolder,
        schedule: Schedule,
        memory_is_short: Callable[[], bool],
        hosts: Hosts,
        measure: Measure | None = None,
    ) -> None:
        self._config, self._collector, self._definition = config, collector, definition
        self._folder, self._schedule, self._hosts = folder, schedule, hosts
        self._share = hosts.share(config.replay)
        store = Replay(
            definition.layout,
            num_envs=collector.num_envs,
            config=self._share,
            seed=hosts.seed(config.seed),
            directory=folder.replay,
            memory_is_short=memory_is_short,
        )
        self._placement = Placement(config.mesh)
        self._stream: ReplayStream[Batch] = ReplayStream(store, to_device=self._placement.put_batch)
        self._ratio = TrainRatio(config.train_ratio, batch_steps=config.replay.batch_size * config.replay.batch_length)
        abstract = definition.abstract()
        self._train_step = Program(
            make_train_step(definition, self._placement),
            compiled=lambda: self._hosts.exchange(None, at="compiled"),
        )
        self._learner = Learner(
            definition.init(config.seed, self._placement.state(abstract)),
            train_step=self._train_step,
            stream=self._stream,
            max_skipped=config.optimizer.max_skipped,
            here=self._placement.here,
        )
        self._acting = self._placement.on_one_device(self._learner.state.params)
        self._snapshots = Snapshots(
            config,
            definition=definition,
            folder=folder,
            placement=self._placement,
            parts=Parts(self._stream, collector, self._learner, self._ratio),
            hosts=hosts,
        )
        self._videos = OpenLoopVideos(definition, folder=folder.videos, every=config.log.video_every)
        self._reports = ScheduledReports(measure, history=folder.history, every=config.log.report_every)
        self._log: MetricsLogger | None = None
        self._saving = Saving(config.checkpoint)
        self._told_skipped, self._told_short = 0, False
        self._episode_ended = False  # since the last report
        self._round = Round()  # what all hosts agreed on last
        self.counters, self.last_score = Counters(), None

    @property
    def total_steps(self) -> int:
        """Position (see `Counters`) at which the run ends."""
        return self._schedule.total_steps

    def run(self, *, stop: Callable[[], bool], progress: Progress) -> None:
        """Trains until the budget is spent or `stop()`; logs, and saves on schedule and at the end.

        A run that is already at its end is left as it is.

        Raises:
            NonFiniteError: the loss was not finite in too many updates in a row; their last batch lies in the run's
                folder, and the checkpoints are as they were.
            DeviceMemoryError: the device is out of memory; what it still gave is saved.
        """
        if self.counters.position >= self._schedule.total_steps:
            self._stream.close()
            return
        resumed_at = self.counters if self.counters.position else None
        self._log = self._open_log(resumed_at)
        if self._hosts.is_first:
            with self._log.tolerate("old rows"):
                self._reports.start_at(resumed_at)
        stop_here, stop = stop, stop if self._hosts.alone else lambda: self._round.stop
        stall = StallReport()
        logged = time.monotonic()
        progress.phase("compiling")
        try:
            if resumed_at is not None:
                self._round = self._hosts.agree(Round(ready=self._stream.ready))
                self._learn(progress, stop=stop)
            while self.counters.position < self._schedule.total_steps and not stop():
                stall.alive()
                self._act(progress, stop=stop_here)
                self._learn(progress, stop=stop)
                self._measure(progress, stop=stop_here, alive=stall.alive)
                now = time.monotonic()
                if now - logged >= self._config.log.every_seconds:
                    logged = now
                    self._report()
                    self._warn_of_skipped(progress)
                    self._warn_of_memory(progress)
                if self._round.save and (error := self._try_to_save(progress)):
                    self._saving.require_hope(error)
            self._report()
            if self.counters.position >= self._schedule.total_steps:
                self._log.complete(self.counters)
            progress.phase("saving")
            self.save()
        except NonFiniteError as error:
            self._report()
            self._keep_refused(error)
            raise
        except jax.errors.JaxRuntimeError as error:
            self._hosts.require_all()
            if self._hosts.alone:  # the others cannot know that it is time to save
                self._try_to_save(progress)
            raise explained(error, needed=self._train_step.device_bytes) from error
        finally:
            stall.close()
            self._reports.close()
            self._log.close()
            self._stream.close()
            if self._log.failures:
                progress.print(f"WARNING: {self._log.failures:,} times something could not be logged")

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: it could not be written; earlier ones are intact.
        """
        if self._log is not None:
            self._log.flush()
        self._snapshots.save(self.counters, last_score=self.last_score)

    def resume(self, *, keep_environment: bool = True) -> str | None:
        """Continues from the newest checkpoint that verifies; says what was found, None in a new run.

        Args:
            keep_environment: set the environment to its saved state; False: reset it, as it is another one now.

        Raises:
            CheckpointError: every checkpoint is damaged, or does not fit the configuration, or too much of replay is
                lost.
            RunFolderError: the checkpoint is another run's.
        """
        found = self._snapshots.resume(keep_environment=keep_environment)
        if found is None:
            return None
        self._acting = self._placement.on_one_device(self._learner.state.params)
        self.counters, self.last_score = found.counters, found.last_score
        self._videos.start_at(self.counters.updates)
        return f"resumed at {self.counters} with {found.replay}"

    def inherit(self, source: str) -> str:
        """Starts a new run with the parameters of another, as far as they fit; says which (see `init_from`).

        Raises:
            CheckpointError: `source` has no sound checkpoint, or nothing of it fits.
        """
        state, told = inherit(self._placement.here(self._learner.state), source)
        self._learner.state = self._placement.spread(state)
        self._acting = self._placement.on_one_device(self._learner.state.params)
        return told

    def _act(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        try:
            episodes = self._collector.step(
                self._acting, self._stream, meanwhile=lambda: self._work_ahead(progress, stop=stop)
            )
        except (NonFiniteActionError, jax.errors.JaxRuntimeError):  # nothing to be kept; `run` explains the other
            raise
        except Exception:  # the environment's; what was learned until here is worth keeping
            self._hosts.agree(Round(failed=True))
            self._try_to_save(progress)
            raise
        self._round = self._hosts.agree(Round(episodes, self._stream.ready, self._saving.due, stop()))
        if self._round.failed:
            self._try_to_save(progress)
            raise HostLostError("the environments of another host have failed; what was learned until then is saved.")
        if self._round.stop and self._hosts.is_first and not stop():
            progress.print("stopping: another host was told to; saves when the running update is done")
        steps = self.counters.agent_steps + self._hosts.count * self._collector.num_envs
        self.counters = Counters(steps, steps * self._schedule.action_repeat, self._learner.updates)
        for episode in self._round.episodes:  # after the counters: no row looks older than a checkpoint without it
            self.last_score, self._episode_ended = episode.score, True
            assert self._log is not None
            self._log.episode(self.counters, score=episode.score, length=episode.length)
        progress.update(self.counters, score=self.last_score)
        if not self._round.ready:
            progress.phase("prefill")

    def _learn(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        if not self._round.ready:
            self._ratio.pass_over(self.counters.agent_steps)  # a replay that lost much refills without a burst after
            return
        updates = self._ratio.updates_due(self.counters.agent_steps)
        for made in range(updates):
            if stop():  # a resumed run makes the others before its first step, so that it stays exact
                self._ratio.give_back(updates - made)
                break
            self._update(progress)
        if updates:
            self._acting = self._placement.on_one_device(self._learner.state.params)
        if self._learner.metrics:
            progress.phase("training")
        if not stop():
            self._record_video()

    def _record_video(self) -> None:
        """If it is time."""
        if self._videos.due(self.counters.updates):
            assert self._log is not None
            params = self._placement.here(self._learner.state.params)
            self._videos.record(params, self._learner.batch, counters=self.counters, log=self._log)

    def _measure(self, progress: Progress, *, stop: Callable[[], bool], alive: Callable[[], None]) -> None:
        """Reports on the world model, if it is time."""
        if not self._reports.due(self.counters.updates) or stop():
            return

        def look() -> bool:
            alive()
            return stop()

        assert self._log is not None
        params = self._placement.on_one_device(self._learner.state.params)
        self._reports.make(params, counters=self.counters, log=self._log, progress=progress, look=look)

    def _update(self, progress: Progress) -> None:
        is_first = not self._learner.metrics
        if is_first:
            progress.phase("compiling")
        self._learner.update()
        if is_first:
            self._compile_ahead(progress)
        self.counters = self.counters._replace(updates=self._learner.updates)
        progress.update(self.counters)

    def _work_ahead(self, progress: Progress, *, stop: Callable[[], bool]) -> bool:
        """An environment hangs: makes an update that would be due soon after. False: do not wait for it.

        With several hosts it makes none: the others do not know, and wait for it after this step.
        """
        if self._hosts.alone and self._stream.ready and not stop() and self._ratio.make_ahead(max_steps=AHEAD_STEPS):
            self._update(progress)
            self._acting = self._placement.on_one_device(self._learner.state.params)
        progress.phase("waiting for the environment")
        return not stop()

    def _keep_refused(self, error: NonFiniteError) -> None:
        """Writes the batch that could not be learned from, as plain arrays, and completes the message."""
        path, leaves = self._folder.refused_batch, jax.tree_util.tree_leaves_with_path(error.batch)
        arrays: dict[str, Any] = {jax.tree_util.keystr(key): portable(np.asarray(leaf)) for key, leaf in leaves}
        try:
            np.savez(path, allow_pickle=False, **arrays)
            batch = f"is in {path}"
        except OSError as fault:
            batch = f"could not be written ({fault})"
        error.args = (
            f"{error}. Their last batch {batch}; the checkpoints are as they were. Look there for extreme values, "
            "or start a new run with a smaller --optimizer.learning-rate.",
        )

    def _warn_of_skipped(self, progress: Progress) -> None:
        if self._learner.skipped > self._told_skipped:
            self._told_skipped = self._learner.skipped
            progress.print(
                f"WARNING: loss, gradient or parameters not finite, {self._told_skipped:,} updates skipped so far"
            )

    def _warn_of_memory(self, progress: Progress) -> None:
        """Once, where replay had to give up steps."""
        if self._stream.capacity < self._share.capacity and not self._told_short:
            self._told_short = True
            progress.print(
                f"WARNING: memory is nearly used up: replay drops its oldest steps beyond {self._stream.capacity:,} "
                f"(--replay.capacity {self._share.capacity:,}); training goes on"
            )

    def _report(self) -> None:
        assert self._log is not None
        metrics = {name: float(value) for name, value in jax.device_get(self._learner.metrics).items()}
        metrics |= {"replay/steps": self._stream.num_steps, "replay/capacity": self._stream.capacity}
        metrics |= {"memory/resident_gb": resident_bytes() / 1e9, "skipped_in_total": self._learner.skipped}
        metrics |= self._acting_scalars()
        metrics |= self._saving.scalars() | {"log/failures": self._log.failures}
        self._log.scalars(self.counters, metrics)

    def _acting_scalars(self) -> dict[str, float]:
        metrics: dict[str, float] = {f"environment/{name}": n for name, n in self._collector.incidents.items()}
        if not self._episode_ended:  # perhaps none ever does
            score, length = self._collector.open_episode
            metrics |= {"episode/open_score": score, "episode/open_length": length}
        self._episode_ended = False
        return metrics

    def _open_log(self, resumed_at: Counters | None) -> MetricsLogger:
        if not self._hosts.is_first:
            return SilentLogger()
        return MetricsLogger(
            self._folder.path,
            env=self._config.env,
            seed=self._config.seed,
            resume_at=resumed_at,
            hyperparameters=hyperparameters(self._config),
            open_mirror=self._open_wandb if self._config.log.wandb else None,
        )

    def _open_wandb(self) -> WandbLog:
        return WandbLog(self._folder.path, run_id=self._folder.run_id, config=self._config)

    def _compile_ahead(self, progress: Progress) -> None:
        """With the first update: nothing is compiled, and no memory is found missing, in the middle of the run."""
        limit, needed = device_limit(), self._train_step.device_bytes
        if limit and needed:
            progress.print(f"device memory: an update needs {needed / 1e9:.1f} GB of the {limit / 1e9:.1f} GB for JAX")
        left = self._schedule.total_steps - self.counters.position
        updates, batch = self._learner.updates, self._learner.batch
        assert batch is not None
        self._videos.compile_ahead(
            self._placement.here(self._learner.state.params),
            batch,
            updates=updates,
            last_update=updates + left / self._ratio.agent_steps_per_update,
        )

    def _try_to_save(self, progress: Progress) -> CheckpointError | None:
        """A failed save alone does not end the run."""
        progress.phase("saving")
        error = self._saving.attempt(self.save)
        if error:
            progress.print(f"WARNING: save failed ({self._saving.failures} so far): {error}")
        progress.phase("training")
        return error


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0
