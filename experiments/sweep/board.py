"""What a person sees of a sweep: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dreamer.training.progress import duration
from experiments.sweep.queue import Entry, Queue

PLAIN_SECONDS = 30.0  # between plain lines
LOOK_SECONDS = 2.0  # between looks at the logs of what runs
URGENCY = ("running", "failed", "stopped", "waiting", "done")  # where not all trials fit on the screen
STYLES = {"running": "cyan", "done": "green", "failed": "red", "waiting": "dim", "stopped": "yellow"}
AROUND = 7  # lines of the screen for headings, summary and the shell


class Board:
    """A context manager; `refresh` draws when it is time to.

    Args:
        title: of the sweep.
        stream: where to; standard error by default, so that standard output stays free for results.
    """

    def __init__(self, title: str, *, stream: TextIO | None = None) -> None:
        self._title = title
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._live: Live | None = None
        self._looked, self._printed = 0.0, time.monotonic()

    def tell(self, text: str) -> None:
        """A line of its own, above the live table."""
        with contextlib.suppress(OSError):  # a full disk or a reader that has gone must not end a sweep
            when = "" if self._live else f"{time.strftime('%H:%M:%S')} "
            self._console.print(f"{when}{text}", markup=False, soft_wrap=True)

    def refresh(self, queue: Queue, *, now: bool = False) -> None:
        """Draws where the trials are, at most every few seconds."""
        clock = time.monotonic()
        if self._live is not None and (now or clock - self._looked >= LOOK_SECONDS):
            self._looked = clock
            self._live.update(self._draw(queue), refresh=True)
        elif self._live is None and clock - self._printed >= PLAIN_SECONDS:
            self._printed = clock
            running = [f"{entry.trial} {_percent(entry)}" for entry in queue.entries if entry.status == "running"]
            self.tell(" | ".join([summary(queue), *running]))

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()

    def _draw(self, queue: Queue) -> Group:
        entries = queue.entries
        room = max(1, self._console.height - AROUND)
        if len(entries) > room:
            ranked = sorted(range(len(entries)), key=lambda index: URGENCY.index(entries[index].status))
            shown = [entries[index] for index in sorted(ranked[:room])]
        else:
            shown = entries
        table = Table(box=None, pad_edge=False, title=self._title, title_justify="left", title_style="bold")
        table.add_column("task", no_wrap=True)
        table.add_column("seed", justify="right")
        table.add_column("state", no_wrap=True)
        table.add_column("trained", justify="right")
        table.add_column("left", justify="right")
        table.add_column("score", justify="right")
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        for entry in shown:
            table.add_row(*_cells(entry), style=STYLES[entry.status])
        left_out = [Text(f"... and {len(entries) - len(shown)} more", style="dim")] if len(shown) < len(entries) else []
        return Group(table, *left_out, Text(summary(queue)))


def summary(queue: Queue) -> str:
    """The sweep in a line: how many trials are where, and how long it may take."""
    counts = {status: sum(entry.status == status for entry in queue.entries) for status in URGENCY}
    parts = [f"{counts.pop('done')} of {len(queue.entries)} done"]
    parts += [f"{count} {status}" for status, count in counts.items() if count]
    running = [entry for entry in queue.entries if entry.status == "running"]
    looks = [entry.trial.progress() for entry in running]
    rate = sum(look.rate for look in looks)
    if rate > 0 and all(look.rate for look in looks):
        left = sum(entry.trial.total_steps for entry in queue.entries if entry.status in ("running", "waiting"))
        left -= sum(look.agent_steps for look in looks)
        parts.append(f"about {duration(left / rate)} left")
    return ", ".join(parts)


def _cells(entry: Entry) -> list[str]:
    trial, status = entry.trial, entry.status
    progress = trial.progress()
    if status in ("waiting", "stopped") and not progress.agent_steps:
        return [trial.task, str(trial.seed), status, "", "", "", entry.note]
    left = trial.total_steps - progress.agent_steps
    remaining = duration(left / progress.rate) if status == "running" and progress.rate > 0 else ""
    score = "" if progress.score is None else f"{progress.score:,.1f}"
    note = entry.note or (entry.place or "waits for a machine" if status == "running" else "")
    return [trial.task, str(trial.seed), status, _percent(entry), remaining, score, note]


def _percent(entry: Entry) -> str:
    steps = entry.trial.progress().agent_steps
    if entry.status == "running" and not steps:
        return "starting"
    return f"{100 * min(1.0, steps / entry.trial.total_steps):.1f}%"
