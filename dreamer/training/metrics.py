"""Everything a run writes down: JSONL, a table of episodes, TensorBoard. The only importer of tensorboard.

    metrics.jsonl   one row per log interval: agent_steps, env_frames, updates, seconds, then the scalars
    episodes.csv    one row per episode: env, seed, agent_steps, env_frames, updates, score, length
    events.out.*    TensorBoard; the step axis of every tag is env_frames (updates in a run from a dataset)

TensorBoard's HPARAMS tab compares the runs below its folder: each tells its hyperparameters when it starts and, at its
end, `final/score`, the mean of its last 100 episodes.

Training never stops because logging fails: failures are counted, and each file warns once.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, SupportsFloat

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  made at run time
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.api_pb2 import Status  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
    SessionEndInfo,  # pyright: ignore[reportAttributeAccessIssue]
    SessionStartInfo,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from dreamer.training.counters import START, Counters
from dreamer.training.log_files import AppendOnlyFile, purge_lines, purge_records
from dreamer.training.video import encode_gif

FINAL_EPISODES = 100  # whose mean is a run's final score
MIRROR = "Weights & Biases"  # in a warning
EPISODE_COLUMNS = ("env", "seed", "agent_steps", "env_frames", "updates", "score", "length")


class Mirror(Protocol):
    """Another place for the same; what it raises is counted."""

    def scalars(self, counters: Counters, values: Mapping[str, float]) -> None:
        """One row of scalars, by tag."""
        ...

    def video(self, counters: Counters, tag: str, gif: bytes) -> None:
        """One GIF."""
        ...

    def close(self) -> None:
        """The end."""
        ...


class MetricsLogger:
    """Writes the logs of one run; safe to call at any rate, cheap to call at any rate.

    Args:
        directory: the run folder.
        env: name of the environment, for `episodes.csv`.
        seed: the run's seed, for `episodes.csv`.
        resume_at: the restored counters; rows beyond them come from work that a crash undid, and are removed. None
            for a run that starts anew, which keeps no rows.
        hyperparameters: of the run, by name, for TensorBoard.
        open_mirror: makes what gets the same scalars and videos, such as a `WandbLog`; None: nothing does.

    Attributes:
        failures: how many writes failed.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        env: str,
        seed: int,
        resume_at: Counters | None,
        hyperparameters: Mapping[str, bool | float | str] | None = None,
        open_mirror: Callable[[], Mirror] | None = None,
    ) -> None:
        directory = Path(directory)
        self.failures = 0
        self._warned: set[str] = set()
        self._identity = [env, str(seed)]
        metrics, episodes = directory / "metrics.jsonl", directory / "episodes.csv"
        with self.tolerate("old rows"):
            _purge(metrics, episodes, list(directory.glob("events.out.tfevents.*")), resume_at=resume_at)
        self._episodes_path = episodes
        self._start = time.monotonic() - self._elapsed_before(metrics)
        self._metrics = AppendOnlyFile(metrics)
        self._episodes = AppendOnlyFile(episodes, header=",".join(EPISODE_COLUMNS))
        self._tensorboard: EventFileWriter | None = None
        with self.tolerate("tensorboard"):
            self._tensorboard = EventFileWriter(str(directory), max_queue_size=1000, flush_secs=10)
        if hyperparameters:
            self._tell_start(resume_at or START, hyperparameters)
        self._mirror: Mirror | None = None
        with self.tolerate(MIRROR):
            self._mirror = open_mirror() if open_mirror else None

    def scalars(self, counters: Counters, values: Mapping[str, SupportsFloat]) -> None:
        """One row of metrics.

        Args:
            counters: where the run is.
            values: scalars by tag, such as `loss/reward`. JSON has no NaN: values that are not finite become null.
        """
        floats = {tag: float(value) for tag, value in values.items()}
        row = counters._asdict() | {"seconds": round(time.monotonic() - self._start, 3)}
        row |= {tag: value if math.isfinite(value) else None for tag, value in floats.items()}
        with self.tolerate("metrics.jsonl"):
            self._metrics.append(json.dumps(row))
        self._with_mirror(lambda mirror: mirror.scalars(counters, floats))
        progress = {"counters/agent_steps": counters.agent_steps, "counters/updates": counters.updates}
        self._summarize(counters, [Summary.Value(tag=tag, simple_value=v) for tag, v in (floats | progress).items()])

    def episode(self, counters: Counters, *, score: float, length: int) -> None:
        """One finished episode: undiscounted return, and length in agent steps."""
        row = [*self._identity, *map(str, counters), repr(float(score)), str(length)]
        with self.tolerate("episodes.csv"):
            self._episodes.append(_csv_line(row))
        # The alias is what cleanrl and the tools around it filter for.
        tags = {"episode/score": score, "episode/length": length, "charts/episodic_return": score}
        self._with_mirror(lambda mirror: mirror.scalars(counters, tags))
        self._summarize(counters, [Summary.Value(tag=tag, simple_value=value) for tag, value in tags.items()])

    def video(self, counters: Counters, tag: str, frames: np.ndarray, *, fps: int = 10) -> None:
        """A GIF among TensorBoard's images.

        Args:
            counters: where the run is.
            tag: such as `open_loop/image`.
            frames: uint8 `[T, H, W, C]`.
            fps: frames per second.
        """
        with self.tolerate("videos"):
            gif = encode_gif(frames, fps=fps)
            _, height, width, _ = frames.shape
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
            self._summarize(counters, [Summary.Value(tag=tag, image=image)])
            self._with_mirror(lambda mirror: mirror.video(counters, tag, gif))

    def complete(self, counters: Counters) -> None:
        """The run has reached its end: its final score, and for TensorBoard the end of the session."""
        with self.tolerate("final score"):
            scores = self._recent_scores()
            values = [Summary.Value(tag="final/score", simple_value=float(np.mean(scores)))] if scores else []
            end = SessionEndInfo(status=Status.Value("STATUS_SUCCESS"), end_time_secs=time.time())
            values.append(_session(hparams.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)))
            self._summarize(counters, values)

    def flush(self) -> None:
        """Hands what is buffered to the operating system; call it before a checkpoint."""
        self._with_tensorboard(EventFileWriter.flush)

    def close(self) -> None:
        """Flushes and ends TensorBoard's thread and the mirror. Nothing may be logged after it."""
        self._with_mirror(lambda mirror: mirror.close())
        self._with_tensorboard(EventFileWriter.close)
        for file in (self._metrics, self._episodes):
            with self.tolerate("closing"):
                file.close()

    def _tell_start(self, counters: Counters, values: Mapping[str, bool | float | str]) -> None:
        with self.tolerate("hyperparameters"):
            start = SessionStartInfo(start_time_secs=time.time())
            for name, value in values.items():
                kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
                setattr(start.hparams[name], f"{kind}_value", value)
            told = _session(hparams.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
            self._summarize(counters, [told])

    def _recent_scores(self) -> list[float]:
        if not self._episodes_path.exists():
            return []
        with self._episodes_path.open(encoding="utf-8", newline="") as file:
            return [float(row["score"]) for row in csv.DictReader(file)][-FINAL_EPISODES:]

    def _summarize(self, counters: Counters, values: list[Summary.Value]) -> None:
        event = Event(wall_time=time.time(), step=counters.axis, summary=Summary(value=values))
        self._with_tensorboard(lambda writer: writer.add_event(event))

    def _with_tensorboard(self, use: Callable[[EventFileWriter], None]) -> None:
        if self._tensorboard is not None:
            with self.tolerate("tensorboard"):
                use(self._tensorboard)

    def _with_mirror(self, use: Callable[[Mirror], None]) -> None:
        if self._mirror is not None:
            with self.tolerate(MIRROR):
                use(self._mirror)

    @contextmanager
    def tolerate(self, what: str) -> Iterator[None]:
        """Counts what fails inside, whatever it is, and warns once for each `what`; nothing of it comes out."""
        try:
            yield
        except Exception as error:  # whatever it is: a log is not worth a run
            self.failures += 1
            if what not in self._warned:
                self._warned.add(what)
                warnings.warn(f"Logging to {what} fails ({error}); training goes on without it.", stacklevel=4)

    def _elapsed_before(self, metrics: Path) -> float:
        with self.tolerate("old rows"):
            lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
            return json.loads(lines[-1])["seconds"] if lines else 0.0
        return 0.0


class SilentLogger(MetricsLogger):
    """Of a host that writes nothing down, since the first one does. What it is given, however, may still fail."""

    def __init__(self) -> None:
        self.failures = 0
        self._warned: set[str] = set()

    def scalars(self, counters: Counters, values: Mapping[str, SupportsFloat]) -> None:
        """Nothing."""

    def episode(self, counters: Counters, *, score: float, length: int) -> None:
        """Nothing."""

    def video(self, counters: Counters, tag: str, frames: np.ndarray, *, fps: int = 10) -> None:
        """Nothing."""

    def complete(self, counters: Counters) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _purge(metrics: Path, episodes: Path, events: list[Path], *, resume_at: Counters | None) -> None:
    if resume_at is None:
        for path in [metrics, episodes, *events]:
            path.unlink(missing_ok=True)
        return
    purge_lines(metrics, keep=lambda line: _row_counters(json.loads(line)) <= resume_at)
    purge_lines(episodes, keep=lambda line: _episode_counters(line) <= resume_at)
    for path in events:
        purge_records(path, keep=lambda record: Event.FromString(record).step <= resume_at.axis)


def _row_counters(row: Mapping[str, int]) -> Counters:
    return Counters(row["agent_steps"], row["env_frames"], row["updates"])


def _episode_counters(line: str) -> Counters:
    row = next(csv.reader([line]))
    if tuple(row) == EPISODE_COLUMNS:
        return START  # the header always stays
    fields = dict(zip(EPISODE_COLUMNS, row, strict=True))
    return Counters(int(fields["agent_steps"]), int(fields["env_frames"]), int(fields["updates"]))


def _session(tag: str, content: HParamsPluginData) -> Summary.Value:
    """What TensorBoard's plugin reads: its content is in the metadata."""
    return Summary.Value(tag=tag, metadata=hparams.create_summary_metadata(content), tensor=hparams.NULL_TENSOR)


def _csv_line(row: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(row)
    return buffer.getvalue()
