"""The queue of a sweep: what runs next, what is tried again, and what is left when somebody stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamer.training.run_lock import is_locked
from experiments.sweep.processes import Handle, Outcome, Runner
from experiments.sweep.trials import Trial

BAD_USAGE = 2  # exit code of a command line that cannot be right at the next try either
RETRY_SECONDS = 5.0  # until a trial that died is started again


@dataclass
class Entry:
    """A trial and what became of it.

    Attributes:
        trial: what.
        status: `stopped` is saved, and goes on with the next sweep.
        died: how often, in this sweep.
        note: the last that is to be said of it.
    """

    trial: Trial
    status: Literal["waiting", "running", "done", "failed", "stopped"] = "waiting"
    died: int = 0
    note: str = ""
    handle: Handle | None = None
    not_before: float = 0.0

    @property
    def place(self) -> str:
        """Where it runs; empty where it does not."""
        return self.handle.place if self.handle else ""


class Queue:
    """Starts trials as there is room, in their order, until none is left.

    Args:
        trials: those that are finished are done without being started.
        runner: where they run.
        retries: how often a trial that died is started again.
        complete: called for each trial that is done, once.
        tell: called with a sentence for a person at every event.
        retry_seconds: until a trial that died is started again.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        *,
        runner: Runner,
        retries: int,
        complete: Callable[[Trial], object],
        tell: Callable[[str], None],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._runner, self._retries, self._retry_seconds = runner, retries, retry_seconds
        self._complete, self._tell = complete, tell
        self.entries = [Entry(trial) for trial in trials]
        for entry in self.entries:
            if entry.trial.is_finished:
                entry.status = "done"
                complete(entry.trial)

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing will."""
        return not any(entry.status in ("waiting", "running") for entry in self.entries)

    def step(self) -> None:
        """Notes what has ended and starts what may start; returns at once."""
        for entry in self.entries:
            if entry.handle is not None and (outcome := entry.handle.poll()) is not None:
                entry.handle = None
                self._note_end(entry, outcome)
        for entry in self.entries:
            if entry.status == "waiting" and entry.not_before <= time.monotonic():
                if not self._runner.has_room():
                    return
                self._start(entry)

    def stop(self, number: int) -> None:
        """Starts nothing more, and passes a signal on to what runs: each trial saves and ends."""
        for entry in self.entries:
            if entry.status == "waiting":
                entry.status = "stopped"
            if entry.handle is not None:
                entry.handle.signal(number)
        self._retries = -1  # what dies from now on is not started again

    def _start(self, entry: Entry) -> None:
        if is_locked(entry.trial.folder / "run.lock"):  # of a process that is still saving, or of somebody else
            if not entry.note:
                entry.note = "another process trains it; waiting for its end"
                self._tell(f"{entry.trial}: {entry.note}")
            entry.not_before = time.monotonic() + self._retry_seconds
            return
        entry.handle = self._runner.start(entry.trial)
        entry.status, entry.note = "running", ""
        self._tell(f"{entry.trial}: started{f' on {entry.place}' if entry.place else ''}")

    def _note_end(self, entry: Entry, outcome: Outcome) -> None:
        trial = entry.trial
        if outcome.exit_code == 0 and trial.is_finished:
            entry.status = "done"
            self._complete(trial)
            self._tell(f"{trial}: done")
            return
        if self._retries < 0:
            entry.status = "stopped"
            saved = outcome.exit_code is not None and outcome.exit_code > 128
            self._tell(f"{trial}: {'stopped and saved' if saved else outcome.reason or trial.last_words()}")
            return
        entry.died += 1
        said = trial.last_words() if outcome.exit_code is not None else ""
        entry.note = " after ".join(part for part in (outcome.reason, said) if part) or "lost"
        if entry.died > self._retries or outcome.exit_code == BAD_USAGE:
            entry.status = "failed"
            self._tell(f"{trial}: FAILED, {entry.note} (all of it: {trial.log})")
            return
        entry.status, entry.not_before = "waiting", time.monotonic() + self._retry_seconds
        self._tell(f"{trial}: died, {entry.note}; trying again ({entry.died} of {self._retries})")
