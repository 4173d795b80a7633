"""One process per run folder, by a lock that the operating system releases when its holder dies.

`flock` knows no stale locks on one machine: neither kill -9 nor a reused process id can fool it. Some network file
systems keep such locks to one host, however. So the holder also touches the file every few seconds, and a newcomer on
another host first watches whether the last holder's touches go on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path

HEARTBEAT_SECONDS = 5.0
WATCH_SECONDS = 15.0  # of another host's heartbeat


class RunLockedError(RuntimeError):
    """Another process trains in this folder; the message names it."""


class RunLock:
    """The lock file of a run folder. Blocks only where the last holder ran on another host and left no good-bye.

    Args:
        path: the lock file; stays after release, empty.
        flag: of the command line, by which one chooses another folder.

    Raises:
        RunLockedError: another process holds it.
    """

    def __init__(self, path: Path, *, flag: str = "--logdir") -> None:
        self._path, self._flag = path, flag
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Lets others in. Harmless when called twice."""
        if not self._released.is_set():
            self._released.set()
            self._thread.join()
            os.ftruncate(self._descriptor, 0)  # good-bye: nobody needs to watch for a heartbeat
            os.close(self._descriptor)

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._refusal() from error
        holder = self._holder()
        if holder and holder.get("host") != socket.gethostname() and self._has_heartbeat():
            raise self._refusal()
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(mine).encode(), 0)

    def _has_heartbeat(self) -> bool:
        """Compares the file's time with itself, because the clocks of two hosts differ."""
        first = self._path.stat().st_mtime_ns
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(HEARTBEAT_SECONDS / 10)
            if self._path.stat().st_mtime_ns != first:
                return True
        return False

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full or detached disk must not end the heartbeat
                os.utime(self._path)

    def _holder(self) -> dict:
        try:
            return json.loads(os.pread(self._descriptor, 4096, 0))
        except ValueError:  # empty: released, or its holder is just starting
            return {}

    def _refusal(self) -> RunLockedError:
        holder = self._holder()
        process = "process {pid} on {host} since {since}".format(**holder) if holder else "another process"
        return RunLockedError(f"{self._path.parent} is in use by {process}. Stop it, or choose another {self._flag}.")


def is_locked(path: Path) -> bool:
    """Whether a process of this machine, or of another as far as the file system tells, holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
