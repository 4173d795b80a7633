"""A time limit for environments of this process, which nobody else could stop."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from envs.environment import SimulatorCrash


class Alarm:
    """`with alarm:` raises `SimulatorCrash` inside the block once its time is over.

    It reaches whatever Python can interrupt: loops, sleeps, waiting for a socket or another process. A simulator that
    hangs in native code needs a process of its own (`--environment.workers spawn`). Signals are the main thread's and
    the timer is Unix's: anywhere else there is no limit. A timer that somebody else has set goes on after the block.

    Args:
        seconds: of each block.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_armed = False
        self._previous: Any = None
        self._others, self._began = 0.0, 0.0  # seconds left of somebody else's timer, and when

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM"):
            self._previous = signal.signal(signal.SIGALRM, self._ring)
            self._is_armed = True
            self._others, _ = signal.setitimer(signal.ITIMER_REAL, self._seconds)
            self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_armed:
            self._is_armed = False  # first: a signal may already be on its way
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, self._previous)
            if self._others:
                left = self._others - (time.monotonic() - self._began)
                signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._is_armed:
            raise SimulatorCrash(f"gave no answer within {self._seconds:g} s (--environment.step-timeout)")
