"""The loop of a run: act, learn, report, save; and how it continues after a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamer.config import Config
from dreamer.data.layout import StepLayout, portable
from dreamer.data.prefetch import ReplayStream
from dreamer.data.ratio import TrainRatio
from dreamer.data.replay import Replay
from dreamer.data.storage import ReplayState
from dreamer.training.checkpoint import MALFORMED, CheckpointError, Checkpoints, Restored, restore
from dreamer.training.collect import Collector, Environment, NonFiniteActionError
from dreamer.training.compilation import Program
from dreamer.training.counters import Counters
from dreamer.training.device_memory import device_limit, explained
from dreamer.training.learn import Learner, NonFiniteError
from dreamer.training.mesh import Placement
from dreamer.training.metrics import MetricsLogger
from dreamer.training.open_loop import make_open_loop
from dreamer.training.progress import Progress
from dreamer.training.run_folder import RunFolder
from dreamer.training.state import Definition
from dreamer.training.step import make_policy_step, make_train_step
from dreamer.training.video import open_loop_strip, write_gif
from dreamer.training.wandb_log import WandbLog
from dreamer.types import Batch
from envs.spaces import ImageSpec, action_width

REPLAY = "replay/"  # prefix in a checkpoint
AHEAD_STEPS = 1000  # agent steps whose updates may be made while an environment hangs


class Schedule(NamedTuple):
    """When things happen: agent steps of the whole run, and action repeat for the frame counter."""

    total_steps: int
    action_repeat: int


class Trainer:
    """One run. Everything that the next step depends on is in `save`'s checkpoint.

    Attributes:
        counters: how far the run is.
        last_score: of the newest finished episode.
    """

    def __init__(
        self, config: Config, *, env: Environment, definition: Definition, folder: RunFolder, schedule: Schedule
    ) -> None:
        self._config, self._env, self._definition = config, env, definition
        self._folder, self._schedule = folder, schedule
        rssm, replay = config.world.rssm, config.replay
        layout = StepLayout(
            definition.observation_spec,
            action=action_width(definition.action_spec),
            deter=rssm.deter,
            stoch=rssm.stoch,
        )
        store = Replay(layout, num_envs=env.num_envs, config=replay, seed=config.seed, directory=folder.replay)
        self._placement = Placement(config.mesh)
        self._stream: ReplayStream[Batch] = ReplayStream(store, to_device=self._placement.put_batch)
        self._ratio = TrainRatio(config.train_ratio, batch_steps=replay.batch_size * replay.batch_length)
        self._collector = Collector(
            env, definition=definition, policy_step=make_policy_step(definition), seed=config.seed
        )
        abstract = definition.abstract()
        self._train_step = Program(make_train_step(definition, self._placement.results(abstract)))
        self._learner = Learner(
            definition.init(config.seed, self._placement.state(abstract)),
            train_step=self._train_step,
            stream=self._stream,
            max_skipped=config.optimizer.max_skipped,
        )
        self._acting = self._placement.on_one_device(self._learner.state.params)
        self._checkpoints = Checkpoints(folder.checkpoints, keep=config.checkpoint.keep)
        self._open_loop = Program(make_open_loop(definition))
        self._log: MetricsLogger | None = None
        self._manifests: dict[str, dict[str, Any]] = {}  # replay manifests of the kept checkpoints, by directory
        self._failed_saves = self._told_skipped = 0
        self._next_video = config.log.video_every
        self.counters, self.last_score = Counters(), None

    def run(self, *, stop: Callable[[], bool], progress: Progress) -> None:
        """Trains until the budget is spent or `stop()`; logs, and saves on schedule and at the end.

        A run that is already at its end is left as it is.

        Raises:
            NonFiniteError: the loss was not finite in too many updates in a row; their last batch lies in the run's
                folder, and the checkpoints are as they were.
            DeviceMemoryError: the device is out of memory; what it still gave is saved.
        """
        if self.counters.agent_steps >= self._schedule.total_steps:
            self._stream.close()
            return
        resumed_at = self.counters if self.counters.agent_steps else None
        self._log = MetricsLogger(
            self._folder.path,
            env=self._config.env,
            seed=self._config.seed,
            resume_at=resumed_at,
            open_mirror=self._open_wandb if self._config.log.wandb else None,
        )
        logged = saved = time.monotonic()
        progress.phase("compiling")
        try:
            while self.counters.agent_steps < self._schedule.total_steps and not stop():
                self._act(progress, stop=stop)
                self._learn(progress, stop=stop)
                now = time.monotonic()
                if now - logged >= self._config.log.every_seconds:
                    logged = now
                    self._report()
                    self._warn_of_skipped(progress)
                if now - saved >= self._config.checkpoint.every_seconds:
                    self._try_to_save(progress)
                    saved = time.monotonic()
            self._report()
            progress.phase("saving")
            self.save()
        except NonFiniteError as error:
            self._report()
            self._keep_refused(error)
            raise
        except jax.errors.JaxRuntimeError as error:
            self._try_to_save(progress)
            raise explained(error, needed=self._train_step.device_bytes) from error
        finally:
            self._log.close()
            self._stream.close()

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            CheckpointError: it could not be written; earlier ones are intact.
        """
        if self._log is not None:
            self._log.flush()
        replay = self._stream.state()
        host = {REPLAY + name: array for name, array in replay.arrays.items()}
        host |= self._collector.state() | self._learner.saved_arrays()
        meta = {
            "run_id": self._folder.run_id,
            "counters": self.counters._asdict(),
            "ratio": self._ratio.state(),
            "replay": replay.manifest,
            "last_score": self.last_score,
        }
        arrays = {"train": self._learner.state, "carry": self._collector.carry}
        path = self._checkpoints.save(self.counters.agent_steps, arrays=arrays, host=host, meta=meta)
        self._manifests[str(path)] = replay.manifest
        kept = {str(entry) for entry in self._folder.checkpoints.iterdir()}
        self._manifests = {name: manifest for name, manifest in self._manifests.items() if name in kept}
        self._stream.remove_unlisted(list(self._manifests.values()))

    def resume(self) -> str | None:
        """Continues from the newest checkpoint that verifies; says what was found, None in a new run.

        Raises:
            CheckpointError: every checkpoint is damaged, or does not fit the configuration.
            RunFolderError: the checkpoint is another run's.
        """
        self._checkpoints.discard_partial()
        path = self._checkpoints.latest()
        if path is None:
            return None
        abstract = {"train": self._placement.abstract(self._definition.abstract()), "carry": self._collector.carry}
        restored = restore(path, abstract_arrays=abstract)
        try:
            self._folder.require_owner(restored.meta["run_id"], source=str(path))
            self._manifests[str(path)] = restored.meta["replay"]  # its chunk files stay as long as it does
            return self._continue_from(restored)
        except MALFORMED as error:
            raise CheckpointError(f"Checkpoint {path} cannot be continued: {type(error).__name__}: {error}.") from error

    def _continue_from(self, restored: Restored) -> str:
        meta, host = restored.meta, restored.host
        arrays = {name.removeprefix(REPLAY): array for name, array in host.items() if name.startswith(REPLAY)}
        report = self._stream.restore(ReplayState(arrays, meta["replay"]))
        self._learner.restore(restored.arrays["train"], host)
        self._acting = self._placement.on_one_device(self._learner.state.params)
        self._collector.restore(host, restored.arrays["carry"])
        self._ratio.restore(meta["ratio"])
        self.counters, self.last_score = Counters(**meta["counters"]), meta["last_score"]
        self._next_video = self._video_after(self.counters.updates)
        lines = [f"resumed at {self.counters.agent_steps:,} agent steps with {report.steps:,} steps of replay"]
        return "\n".join([*lines, *report.lost])

    def _act(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        try:
            episodes = self._collector.step(
                self._acting, self._stream, meanwhile=lambda: self._work_ahead(progress, stop=stop)
            )
        except NonFiniteActionError:  # nothing to be kept
            raise
        except Exception:  # the environment's; what was learned until here is worth keeping
            self._try_to_save(progress)
            raise
        for episode in episodes:
            self.last_score = episode.score
            assert self._log is not None
            self._log.episode(self.counters, score=episode.score, length=episode.length)
        steps = self.counters.agent_steps + self._env.num_envs
        self.counters = Counters(steps, steps * self._schedule.action_repeat, self._learner.updates)
        progress.update(self.counters, score=self.last_score)
        if not self._stream.ready:
            progress.phase("prefill")

    def _learn(self, progress: Progress, *, stop: Callable[[], bool]) -> None:
        if not self._stream.ready:
            return
        updates = self._ratio.updates_due(self.counters.agent_steps)
        for _ in range(updates):
            self._update(progress)
        if updates:
            self._acting = self._placement.on_one_device(self._learner.state.params)
        if self._learner.metrics:
            progress.phase("training")
        if self._config.log.video_every and self.counters.updates >= self._next_video and not stop():
            self._next_video = self._video_after(self.counters.updates)
            self._record_video()

    def _update(self, progress: Progress) -> None:
        is_first = not self._learner.metrics
        progress.phase("compiling" if is_first else "training")
        self._learner.update()
        if is_first:
            self._compile_ahead(progress)
        self.counters = self.counters._replace(updates=self._learner.updates)
        progress.update(self.counters)

    def _work_ahead(self, progress: Progress, *, stop: Callable[[], bool]) -> bool:
        """An environment hangs: makes an update that would be due soon after. False: do not wait for it."""
        if self._stream.ready and not stop() and self._ratio.make_ahead(max_steps=AHEAD_STEPS):
            self._update(progress)
            self._acting = self._placement.on_one_device(self._learner.state.params)
        progress.phase("waiting for the environment")
        return not stop()

    def _keep_refused(self, error: NonFiniteError) -> None:
        """Writes the batch that could not be learned from, as plain arrays, and completes the message."""
        path, leaves = self._folder.refused_batch, jax.tree_util.tree_leaves_with_path(error.batch)
        arrays: dict[str, Any] = {jax.tree_util.keystr(key): portable(np.asarray(leaf)) for key, leaf in leaves}
        np.savez(path, allow_pickle=False, **arrays)
        error.args = (
            f"{error}. Their last batch is in {path}; the checkpoints are as they were. Look there for extreme values, "
            "or start a new run with a smaller --optimizer.learning-rate.",
        )

    def _warn_of_skipped(self, progress: Progress) -> None:
        if self._learner.skipped > self._told_skipped:
            self._told_skipped = self._learner.skipped
            progress.print(
                f"WARNING: loss, gradient or parameters not finite, {self._told_skipped:,} updates skipped so far"
            )

    def _report(self) -> None:
        assert self._log is not None
        metrics = {name: float(value) for name, value in jax.device_get(self._learner.metrics).items()}
        metrics |= {
            "skipped_in_total": self._learner.skipped,
            "replay/steps": self._stream.num_steps,
            "memory/resident_gb": resident_bytes() / 1e9,
            "log/failures": self._log.failures,
        }
        metrics |= {f"environment/{name}": count for name, count in self._env.incidents.items()}
        self._log.scalars(self.counters, metrics)

    def _open_wandb(self) -> WandbLog:
        return WandbLog(self._folder.path, run_id=self._folder.run_id, config=self._config)

    def _compile_ahead(self, progress: Progress) -> None:
        """With the first update: nothing is compiled, and no memory is found missing, in the middle of the run."""
        limit, needed = device_limit(), self._train_step.device_bytes
        if limit and needed:
            progress.print(f"device memory: an update needs {needed / 1e9:.1f} GB of the {limit / 1e9:.1f} GB for JAX")
        left = self._schedule.total_steps - self.counters.agent_steps
        last_update = self._learner.updates + left / self._ratio.agent_steps_per_update
        if self._image_keys and self._config.log.video_every and self._next_video <= last_update:
            self._open_loop.compile(*self._open_loop_arguments())

    @property
    def _image_keys(self) -> list[str]:
        spec = self._definition.observation_spec
        return [key for key, part in spec.items() if isinstance(part, ImageSpec)]

    def _open_loop_arguments(self) -> tuple[Any, ...]:
        return self._learner.state.params, self._learner.batch, np.uint32(self._learner.updates)

    def _video_after(self, updates: int) -> int:
        """The update at which the next video is due: a multiple, so that a run that is often resumed has them too."""
        every = self._config.log.video_every
        return (updates // every + 1) * every if every else 0

    def _record_video(self) -> None:
        """Open-loop prediction of every image of the last batch: truth, prediction, error."""
        assert self._log is not None
        keys, batch = self._image_keys, self._learner.batch
        if not keys or batch is None:
            return
        predictions = jax.device_get(self._open_loop(*self._open_loop_arguments()))
        for name in keys:
            truth = np.asarray(batch.observation[name])[: len(predictions[name])]
            frames = open_loop_strip(truth, predictions[name])
            self._log.video(self.counters, f"open_loop/{name}", frames)
            self._folder.videos.mkdir(exist_ok=True)
            write_gif(self._folder.videos / f"open_loop_{name}_{self.counters.updates:08d}.gif", frames, fps=10)

    def _try_to_save(self, progress: Progress) -> None:
        """A failed save does not end the run: the old checkpoints are intact, and the next try may succeed."""
        progress.phase("saving")
        try:
            self.save()
        except (CheckpointError, OSError, RuntimeError) as error:  # the last: of a device that has lost its arrays
            self._failed_saves += 1
            progress.print(f"WARNING: save failed ({self._failed_saves} so far), training goes on: {error}")
        progress.phase("training")


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0
