"""What the model expects to see, as GIFs in the run's folder and in TensorBoard: truth, open-loop prediction, error."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from dreamer.training.compilation import Program
from dreamer.training.counters import Counters
from dreamer.training.metrics import MetricsLogger
from dreamer.training.open_loop import make_open_loop
from dreamer.training.state import Definition, Params
from dreamer.training.video import open_loop_strip, write_gif
from dreamer.types import Batch
from envs.spaces import ImageSpec

FRAMES_PER_SECOND = 10


class OpenLoopVideos:
    """Records one video of every image at every multiple of so many updates, so that a resumed run has them too.

    Args:
        definition: the networks.
        folder: of the GIFs.
        every: updates; 0: never.
    """

    def __init__(self, definition: Definition, *, folder: Path, every: int) -> None:
        spec = definition.observation_spec
        self._images = [key for key, part in spec.items() if isinstance(part, ImageSpec)]
        self._program = Program(make_open_loop(definition))
        self._folder, self._every = folder, every
        self._next = every

    def start_at(self, updates: int) -> None:
        """The run has made so many updates already."""
        self._next = (updates // self._every + 1) * self._every if self._every else 0

    def compile_ahead(self, params: Params, batch: Batch, *, updates: int, last_update: float) -> None:
        """Compiles now what a video needs, if one comes until the run's last update."""
        if self._images and self._every and self._next <= last_update:
            self._program.compile(params, batch, np.uint32(updates))

    def due(self, updates: int) -> bool:
        """Whether one is to be recorded after so many updates."""
        return bool(self._every) and updates >= self._next

    def record(self, params: Params, batch: Batch | None, *, counters: Counters, log: MetricsLogger) -> None:
        """Records the last batch. A failure is counted, and no video is worth a run."""
        self.start_at(counters.updates)
        if self._images and batch is not None:
            with log.tolerate("videos"):  # compiling, memory, disk
                self._record(params, batch, counters, log)

    def _record(self, params: Params, batch: Batch, counters: Counters, log: MetricsLogger) -> None:
        predictions = jax.device_get(self._program(params, batch, np.uint32(counters.updates)))
        self._folder.mkdir(exist_ok=True)
        for name in self._images:
            truth = np.asarray(batch.observation[name])[: len(predictions[name])]
            frames = open_loop_strip(truth, predictions[name])
            log.video(counters, f"open_loop/{name}", frames)
            path = self._folder / f"open_loop_{name}_{counters.updates:08d}.gif"
            write_gif(path, frames, fps=FRAMES_PER_SECOND)
