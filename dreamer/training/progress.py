"""One live line on a terminal, plain lines elsewhere: what the run does, how far it is, how fast, how well."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import NamedTuple, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dreamer.training.counters import START, Counters

WINDOW_SECONDS = 30.0  # over which frames per second are measured
ETA_WINDOW_SECONDS = 600.0  # an update can take half a minute
ETA_SECONDS = 5.0  # of samples; a rate over less says little about the rest of the run
STILL_SECONDS = 3.0  # without a step or an update; from then on the seconds are shown, as a sign of life
PLAIN_SECONDS = 30.0  # between plain lines
TRAINING = "training"
BEFORE_TRAINING = ("starting", "prefill", "compiling")
SAVING = "saving"  # a phase that is soon over: one plain line is enough


class _Sample(NamedTuple):
    seconds: float
    counters: Counters


class _Rates(NamedTuple):
    """Per second; position only where it was measured for long enough to tell the time that is left."""

    position: float
    env_frames: float


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Falls silent where nobody reads any more; rich would end the program."""
        self.quiet = True


class Progress:
    """A context manager; a thread of its own draws, so that a long compilation still shows its seconds.

    Args:
        total_steps: position (see `Counters`) at which the run ends, for the ETA.
        start: the counters of a resumed run.
        quiet: draw nothing.
        stream: where to; standard error by default, so that standard output stays free for results.
    """

    def __init__(
        self, total_steps: int, *, start: Counters = START, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._total_steps = total_steps
        self._counters = start
        self._phase, self._phase_start = "starting", time.monotonic()
        self._counted_at = time.monotonic()  # when the counters last moved
        self._score: float | None = None
        self._samples: deque[_Sample] = deque()
        self._samples_lock = threading.Lock()  # a phase change prints from another thread than the clock
        self._quiet = quiet
        self._console = _Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._plain: threading.Thread | None = None
        self._ended = threading.Event()

    def update(self, counters: Counters, *, score: float | None = None) -> None:
        """Notes where the run is, and the score of the last finished episode. Drawing has its own pace."""
        if counters != self._counters:
            self._counters, self._counted_at = counters, time.monotonic()
        if score is not None:
            self._score = score

    def phase(self, name: str) -> None:
        """Names what the run does now: `compiling`, `prefill`, `training`, `saving`."""
        if name == self._phase:
            return
        if name == TRAINING and self._phase in BEFORE_TRAINING:
            with self._samples_lock:
                self._samples.clear()  # what came before says nothing about the speed of training
        self._phase, self._phase_start = name, time.monotonic()
        if self._plain is not None:
            self._print_plain()

    def print(self, message: str) -> None:
        """A message of its own line, above the live line; also when quiet, since someone chose to say it."""
        self._write(message)

    def line(self) -> str:
        """The progress as one line of text, what matters most first: a narrow terminal cuts the end."""
        now, counters = time.monotonic(), self._counters
        rates = self._rates(now, counters)
        parts = [
            self._describe_phase(now),
            f"{100 * min(1.0, counters.position / max(1, self._total_steps)):.1f}%",
        ]
        if rates.position > 0:
            parts.append(f"ETA {duration((self._total_steps - counters.position) / rates.position)}")
        if self._score is not None:
            parts.append(f"score {self._score:,.1f}")
        if rates.env_frames > 0:
            parts.append(f"{rates.env_frames:,.0f} frames/s")
        parts += [f"{name} {value:,}" for name, value in counters._asdict().items()]
        return " | ".join(parts)

    def __enter__(self) -> Progress:
        if self._quiet:
            return self
        if self._console.is_terminal:
            live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)
            live.start()
            self._live = live
        else:
            self._plain = threading.Thread(target=self._print_regularly, name="progress", daemon=True)
            self._plain.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
        if self._plain is not None:
            self._ended.set()
            self._plain.join()
            self._plain = None
            self._print_again()

    def _rates(self, now: float, counters: Counters) -> _Rates:
        """Frames per second over the window, and position per second over the long one."""
        with self._samples_lock:
            self._samples.append(_Sample(now, counters))
            while len(self._samples) > 2 and now - self._samples[1].seconds > ETA_WINDOW_SECONDS:
                self._samples.popleft()
            first = self._samples[0]
            newer = (sample for sample in self._samples if now - sample.seconds <= WINDOW_SECONDS)
            recent = next(newer, first)
        frames = (counters.env_frames - recent.counters.env_frames) / max(now - recent.seconds, 1e-9)
        seconds = now - first.seconds
        if self._phase in BEFORE_TRAINING or seconds < ETA_SECONDS:
            return _Rates(0.0, frames)
        return _Rates((counters.position - first.counters.position) / seconds, frames)

    def _describe_phase(self, now: float) -> str:
        since = self._counted_at if self._phase == TRAINING else self._phase_start
        if self._phase == TRAINING and now - since < STILL_SECONDS:
            return self._phase
        return f"{self._phase}... {duration(now - since)}"

    def _render(self) -> Text:
        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def _print_plain(self) -> None:
        self._write(f"{time.strftime('%H:%M:%S')} {self.line()}")

    def _write(self, text: str) -> None:
        """A full disk behind a redirected stream, or a reader that has gone, must not end a run."""
        with contextlib.suppress(OSError):
            self._console.print(text, markup=False)

    def _print_again(self) -> None:
        if self._phase != SAVING:
            self._print_plain()

    def _print_regularly(self) -> None:
        while not self._ended.wait(PLAIN_SECONDS):
            self._print_again()


def duration(seconds: float) -> str:
    """Seconds as 42s, 3m10s, 5h02m or 2d03h."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"
