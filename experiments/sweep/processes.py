"""Trials on this machine: each a process of its own, one for each device or share of the cores."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from experiments.sweep.trials import Trial

# A trial outlives no sweep: when that is gone, even by kill -9, Linux sends SIGTERM, and the trial saves and ends. It
# starts as this program, as code between fork and exec could hang in a process with threads.
_LAUNCHER = """
import ctypes, os, signal, sys
with __import__("contextlib").suppress(OSError, AttributeError):
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Outcome(NamedTuple):
    """How a trial's process ended.

    Attributes:
        exit_code: None where there was no exit, because the process or its machine was lost.
        reason: in words; empty where it ended by itself.
    """

    exit_code: int | None
    reason: str


class Handle(Protocol):
    """A trial that was started."""

    @property
    def place(self) -> str:
        """Where it runs; empty while it waits for a machine."""
        ...

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs."""
        ...

    def signal(self, number: int) -> None:
        """Passes a signal on to it."""
        ...


class Runner(Protocol):
    """Where trials run."""

    def has_room(self) -> bool:
        """Whether one more can start."""
        ...

    def start(self, trial: Trial) -> Handle:
        """Starts one."""
        ...

    def close(self) -> None:
        """Gives everything back."""
        ...


def launch(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, cores: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, so that a terminal's Ctrl-C reaches it once, and from the sweep alone.

    Args:
        command: the program, by its path, and its arguments.
        log: gets, at its end, everything that it prints.
        environment: variables to add.
        cores: on which it may compute; empty: all.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"\n# {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _LAUNCHER, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # it has ended already
            os.sched_setaffinity(process.pid, cores)
    return process


def outcome_of(exit_code: int) -> Outcome:
    """A code of `subprocess`, negative for a signal, in words."""
    if exit_code >= 0:
        return Outcome(exit_code, "")
    try:
        return Outcome(None, f"killed by {signal.Signals(-exit_code).name}")
    except ValueError:
        return Outcome(None, f"killed by signal {-exit_code}")


@dataclass
class Slot:
    """A place for one trial.

    Attributes:
        place: in words.
        environment: variables that send a trial there.
        cores: on which it may compute; empty: all.
    """

    place: str
    environment: dict[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()


class _Local:
    """A process in a slot."""

    def __init__(self, process: subprocess.Popen[bytes], slot: Slot) -> None:
        self.slot, self._process = slot, process

    @property
    def place(self) -> str:
        return self.slot.place

    def poll(self) -> Outcome | None:
        code = self._process.poll()
        return None if code is None else outcome_of(code)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


class LocalRunner:
    """Trials in the slots of this machine."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = list(slots)
        self._running: list[_Local] = []

    def has_room(self) -> bool:
        """Whether a slot is free."""
        self._running = [handle for handle in self._running if handle.poll() is None]
        return len(self._running) < len(self._slots)

    def start(self, trial: Trial) -> Handle:
        """Starts a trial in the first free slot."""
        taken = [handle.slot for handle in self._running]
        slot = next(slot for slot in self._slots if not any(slot is other for other in taken))
        process = launch(trial.command, trial.log, environment=slot.environment, cores=slot.cores)
        handle = _Local(process, slot)
        self._running.append(handle)
        return handle

    def close(self) -> None:
        """Processes end by themselves."""


class JobsError(ValueError):
    """More trials at once than this machine can take."""


def local_slots(jobs: int | None, *, device: str) -> list[Slot]:
    """One slot for each visible GPU, or for each of `jobs` shares of the cores where there is none.

    Args:
        jobs: at most so many; None: all GPUs, or one trial on the CPU.
        device: `--device` of the trials.

    Raises:
        JobsError: there are fewer GPUs.
    """
    gpus = [] if device in ("cpu", "tpu") or os.environ.get("JAX_PLATFORMS") == "cpu" else visible_gpus()
    if gpus:
        if jobs is not None and jobs > len(gpus):
            raise JobsError(f"--jobs {jobs}, but {len(gpus)} GPUs are visible, and a trial needs one of its own")
        return [Slot(f"gpu {gpu}", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus[:jobs]]
    jobs = jobs or 1
    if jobs == 1:
        return [Slot("cpu")]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares = [tuple(cores[index::jobs]) for index in range(jobs)]  # empty, so any core, where there are more jobs
    return [Slot(f"cpu {','.join(map(str, share))}".strip(), cores=share) for share in shares]


def visible_gpus() -> list[str]:
    """Numbers or ids of the NVIDIA GPUs, as `CUDA_VISIBLE_DEVICES` takes them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip() not in ("", "-1")]
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]
