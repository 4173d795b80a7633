"""When nothing has happened for minutes: where every thread of the process stands, on standard error."""

from __future__ import annotations

import faulthandler
import sys
import time

SILENT_SECONDS = 900.0  # longer than any compilation seen
EVERY_SECONDS = 10.0  # between two notes that the run is alive; each costs the start of a thread


class StallReport:
    """A watch that `alive` starts, and starts anew.

    The report is written by a thread in C, so that it also comes when a simulator holds Python's lock in native code.
    It ends nothing: a slow machine is no fault. It comes again after as many silent minutes.

    Args:
        seconds: of silence.
    """

    def __init__(self, seconds: float = SILENT_SECONDS) -> None:
        self._seconds, self._noted = seconds, -EVERY_SECONDS

    def alive(self) -> None:
        """Starts the silence anew."""
        now = time.monotonic()
        if now - self._noted >= min(EVERY_SECONDS, self._seconds) and sys.__stderr__ is not None:
            self._noted = now
            faulthandler.dump_traceback_later(self._seconds, repeat=True, file=sys.__stderr__)

    def close(self) -> None:
        """Ends the watch."""
        faulthandler.cancel_dump_traceback_later()
