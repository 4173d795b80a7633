"""The world model measured while it is trained: numbers that become curves.

    report/history.jsonl   one row per report: the counters, and every quantity of the model and of its controls

What is measured, and how, this room does not know: the composition root hands over a `Measure`, which has environments
of its own. No report is worth a run: one that fails costs a line, and training draws the same random numbers with
reports as without.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dreamer.training.counters import Counters
from dreamer.training.log_files import AppendOnlyFile, purge_lines
from dreamer.training.metrics import MetricsLogger
from dreamer.training.progress import TRAINING, Progress
from dreamer.training.state import Params

OWN = "model"  # the contestant whose curves have the plain tags; the others' are below them
QUANTITIES = "quantities"  # in a row of the history
LONGEST = 200  # letters of an error in the line that tells it


class Measure(Protocol):
    """Measures a world model."""

    def __call__(
        self, params: Params, *, counters: Counters, show: Callable[[str], None], look: Callable[[], None]
    ) -> dict[str, Any]:
        """One report, as a row of the history holds it.

        Args:
            params: of world model and behaviour.
            counters: where the run is.
            show: told the property that is being measured.
            look: called at least once in every step of a model or of the agent; what it raises comes out.

        Returns:
            `QUANTITIES` by name (`useful/ranking`), each with the estimates of its contestants in `values`, and
            whatever else there is to say.

        Raises:
            UnmeasurableError: this run's world can never be measured.
        """
        ...


class UnmeasurableError(RuntimeError):
    """A world that can never be measured; the message says why."""


class _StoppedError(Exception):
    """The run is to end."""


class ScheduledReports:
    """Reports at the first step after every multiple of so many updates.

    Args:
        measure: makes them; None: nobody does, here or at all.
        history: file of the rows.
        every: updates; 0: never.
    """

    def __init__(self, measure: Measure | None, *, history: Path, every: int) -> None:
        self._measure = measure if every else None
        self._path, self._history, self._every = history, AppendOnlyFile(history), every
        self._next = every

    def start_at(self, resume_at: Counters | None) -> None:
        """Cuts off the rows of work that a crash undid; None: of all work.

        A report that was due when the run ended is due again.

        Raises:
            OSError: the file cannot be changed.
        """
        if resume_at is None:
            self._path.unlink(missing_ok=True)
            return
        purge_lines(self._path, keep=lambda line: _updates(line) <= resume_at.updates)
        rows = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        self._schedule(after=_updates(rows[-1]) if rows else 0)

    def due(self, updates: int) -> bool:
        """Whether one is to be made after so many updates."""
        return self._measure is not None and updates >= self._next

    def make(
        self,
        params: Params,
        *,
        counters: Counters,
        log: MetricsLogger,
        progress: Progress,
        look: Callable[[], bool],
    ) -> None:
        """Makes one, writes it down and logs it.

        Args:
            params: of world model and behaviour.
            counters: where the run is.
            log: gets the curves, `report/<property>/<quantity>`.
            progress: shows what is being measured, and says what went wrong.
            look: asked again and again; the report ends when it says that the run is to.
        """
        assert self._measure is not None

        def look_up() -> None:
            if look():
                raise _StoppedError

        def show(name: str) -> None:
            progress.phase(f"report: {name}")

        try:
            with _same_random_numbers():
                row = self._measure(params, counters=counters, show=show, look=look_up)
        except _StoppedError:
            return
        except UnmeasurableError as error:
            self._measure = None
            progress.print(f"WARNING: this run gets no reports: {_in_a_line(error)}")
        except Exception as error:  # whatever it is: memory, the environment, a user's code
            progress.print(f"WARNING: the report at {counters} failed: {_in_a_line(error)}; training goes on")
        else:
            self._keep(row, counters, log)
        finally:
            progress.phase(TRAINING)
        self._schedule(after=counters.updates)

    def close(self) -> None:
        """Releases the file."""
        self._history.close()

    def _keep(self, row: dict[str, Any], counters: Counters, log: MetricsLogger) -> None:
        with log.tolerate(str(self._path.name)):
            self._path.parent.mkdir(exist_ok=True)
            self._history.append(json.dumps(counters._asdict() | row, allow_nan=False))
        log.scalars(counters, dict(_scalars(row[QUANTITIES])))

    def _schedule(self, *, after: int) -> None:
        self._next = (after // self._every + 1) * self._every if self._every else 0


def _scalars(quantities: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, quantity in quantities.items():
        for contestant, estimate in quantity["values"].items():
            if estimate is not None:
                below = "" if contestant == OWN else "/" + re.sub(r"\W+", "_", contestant)
                yield f"report/{name}{below}", estimate["mean"]


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Python's and NumPy's own generators go on after the block as if it had not been: environments may use them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _in_a_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _updates(line: str) -> int:
    return int(json.loads(line)["updates"])
