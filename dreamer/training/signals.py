"""Stopping on request: the first signal asks for a clean end, a second Ctrl-C ends the process at once.

SIGTERM comes from schedulers and `kill`, SIGUSR1 from Slurm's `--signal=USR1@120` and submitit, SIGINT from Ctrl-C.
After a clean save the process exits with 128 + the signal's number, as shells and schedulers report a death by it:

    0    the run is complete
    130  stopped by Ctrl-C (SIGINT)
    138  stopped by SIGUSR1 (158 on macOS)
    143  stopped by SIGTERM

The same command resumes after each of them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
_SHOW_CURSOR = "\x1b[?25h"


class Stop:
    """What the training loop polls between updates."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.announce: Callable[[], None] = lambda: None  # called when the first signal comes

    @property
    def requested(self) -> bool:
        """Whether the loop should save and return."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The code to exit with after a clean end: 0, or 128 plus the number of the signal."""
        return 0 if self.signal is None else 128 + self.signal

    def notice(self, number: int) -> None:
        """Records the first signal; a SIGINT after it ends the process, nothing saved."""
        if self.signal is None:
            self.signal = signal.Signals(number)
            self.announce()
        elif number == signal.SIGINT:
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR.encode())  # the progress line hides it
            os.write(sys.stderr.fileno(), b"\nended at once: nothing was saved since the last checkpoint\n")
            os._exit(128 + signal.SIGINT)


@contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """Turns SIGINT, SIGTERM and SIGUSR1 into `Stop.requested` for the length of the block.

    Python runs its handlers between bytecodes of the main thread, and a compilation can hold that thread for minutes.
    So a helper thread takes the signals from a wakeup socket, as they come. Outside the main thread nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    receiver, sender = socket.socketpair()
    sender.settimeout(0)  # non-blocking, as a signal handler needs it
    previous_handlers = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    previous_wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(receiver, stop), name="stop-signals", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(previous_wakeup)
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        sender.close()  # ends the thread
        thread.join()
        receiver.close()


def _watch(receiver: socket.socket, stop: Stop) -> None:
    while numbers := receiver.recv(16):
        for number in numbers:
            if number in _SIGNALS:
                stop.notice(number)


def _ignore(number: int, frame: object) -> None:
    """A Python handler must be present for the wakeup socket to be written."""
