"""Methods side by side, task by task: at which frames, with which seeds, and what is missing.

A task is compared by the protocol of its suite once every method of our own has a score by it. Before that, all
methods, the published ones too, are compared at the same number of frames: what half of our seeds or more have reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.scores import statistics
from experiments.scores.protocol import Suite, score_at, training_score
from experiments.scores.run import Run, ScoresError


@dataclass(frozen=True)
class Row:
    """A task.

    Attributes:
        task: without the suite's prefix.
        frames: env frames at which the methods are compared; None: in the window of the protocol.
        scores: of each method that has any, one for each of its seeds.
        absent: of each method, the seeds without a score here, and why.
    """

    task: str
    frames: int | None
    scores: dict[str, np.ndarray]
    absent: dict[str, dict[int, str]]


@dataclass(frozen=True)
class Comparison:
    """Methods on a suite.

    Attributes:
        suite: its rules.
        methods: in the order of the columns.
        own: those of them that are no reference.
        against: the method that the others are compared with, or None.
        rows: the tasks.
    """

    suite: Suite
    methods: Sequence[str]
    own: Sequence[str]
    against: str | None
    rows: Sequence[Row]

    @property
    def common(self) -> list[Row]:
        """Tasks on which every method has a normalised score: aggregates are over these."""
        present = [method for method in self.methods if any(method in row.scores for row in self.rows)]
        return [row for row in self.rows if self.suite.knows(row.task) and all(m in row.scores for m in present)]

    def normalised(self, method: str, rows: Iterable[Row]) -> list[np.ndarray]:
        """Scores of a method on tasks that it has, as parts of 1."""
        return [self.suite.normalise(row.task, row.scores[method]) for row in rows]

    def aggregates(self) -> dict[str, dict[str, statistics.Estimate]]:
        """By method and name: mean, median, IQM and optimality gap over the common tasks, in the suite's unit."""
        rows, unit = self.common, self.suite.points
        found = {}
        for method in self.methods:
            if rows and method in rows[0].scores:
                parts = statistics.aggregates(self.normalised(method, rows))
                found[method] = {
                    name: statistics.Estimate(*(unit * figure for figure in part)) for name, part in parts.items()
                }
        return found

    def improvements(self) -> dict[str, statistics.Estimate]:
        """By method: the probability that its run scores more than one of `against`, over the common tasks."""
        rows = self.common
        if self.against is None or not rows or self.against not in rows[0].scores:
            return {}
        others = self.normalised(self.against, rows)
        return {
            method: statistics.improvement(self.normalised(method, rows), others)
            for method in self.methods
            if method != self.against and method in rows[0].scores
        }

    def missing(self) -> list[str]:
        """Tasks and seeds without a score, a sentence for each method and kind."""
        return [sentence for method in self.methods for sentence in self._missing(method)]

    def _missing(self, method: str) -> list[str]:
        here = [row.task for row in self.rows if method in row.scores]
        whole = () if self.own and method not in self.own else self.suite.tasks  # of a reference: what it is asked for
        expected = sorted({*whole, *(row.task for row in self.rows)})
        sentences = []
        if lacking := [task for task in expected if task not in here]:
            sentences.append(f"{method}: no score for {len(lacking)} of {len(expected)} tasks: {', '.join(lacking)}.")
        absent = {row.task: row.absent[method] for row in self.rows if row.absent.get(method)}
        if method in self.own:
            for task, seeds in absent.items():
                reasons = "; ".join(f"seed {seed} {why}" for seed, why in seeds.items())
                sentences.append(f"{method}, {task}: {reasons}.")
        elif absent:
            runs = sum(len(row.scores.get(method, ())) + len(row.absent.get(method, ())) for row in self.rows)
            games = ", ".join(f"{task} {len(seeds)}" for task, seeds in absent.items())
            sentences.append(f"{method}: no score of {sum(map(len, absent.values()))} of {runs} runs: {games}.")
        counts = {row.task: len(row.scores[method]) for row in self.rows if method in row.scores}
        single = [task for task, count in counts.items() if count == 1]
        if single and max(counts.values()) > 1:
            sentences.append(f"{method}: one seed only, which an interval takes for certain: {', '.join(single)}.")
        return sentences


def compare(runs: Sequence[Run], suite: Suite, *, against: str | None = None, at: int | None = None) -> Comparison:
    """Puts the runs of one suite side by side.

    Args:
        runs: of all methods, those of `against` included; their order gives the methods'.
        suite: of all of them.
        against: the method to compare with.
        at: env frames at which everything is compared, rather than by the protocol.

    Raises:
        ScoresError: the same seed is there twice, or no method has a score.
    """
    methods = list(dict.fromkeys(run.method for run in runs))
    own = [method for method in methods if any(run.method == method and not run.binned for run in runs)]
    _refuse_twice(runs)
    table: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        table.setdefault(run.task, {}).setdefault(run.method, []).append(run)
    shown = {task for task, cells in table.items() if not own or set(own) & set(cells)}
    seeds = {method: {run.seed for run in runs if run.method == method} for method in own}
    rows = [_row(task, table[task], suite, own, seeds, at) for task in sorted(shown)]
    if not any(row.scores for row in rows):
        where = f" at {at:,} env frames" if at else ""
        raise ScoresError(f"no score of {suite.name}{where} yet: {_first_reason(rows)}")
    return Comparison(suite, methods, own, against, rows)


def _row(
    task: str, cells: dict[str, list[Run]], suite: Suite, own: Sequence[str], seeds: dict[str, set[int]], at: int | None
) -> Row:
    present = [cells[method] for method in own if method in cells]
    frames = at or _frames(present, suite)
    row = Row(task, frames, {}, {})
    for method, runs in cells.items():
        found, absent = {}, dict.fromkeys(sorted(seeds.get(method, set()) - {r.seed for r in runs}), "was not run")
        for run in runs:
            score = training_score(run, suite) if frames is None else score_at(run, suite, frames)
            if score is None:
                absent[run.seed] = _reason(run, suite, frames)
            else:
                found[run.seed] = score
        if found:
            row.scores[method] = np.array(list(found.values()))
        row.absent[method] = absent
    return row


def _frames(own: Sequence[Sequence[Run]], suite: Suite) -> int | None:
    """None where the protocol has a score for each method of ours; else what half of its seeds or more have reached."""
    scored = [any(training_score(run, suite) is not None for run in runs) for runs in own]
    if suite.window and all(scored):
        return None
    reached = (sorted((run.complete_until for run in runs), reverse=True)[(len(runs) - 1) // 2] for runs in own)
    return min(reached) // suite.bin * suite.bin


def _reason(run: Run, suite: Suite, frames: int | None) -> str:
    if not len(run.frames):
        return "has finished no episode"
    if frames is None and suite.window and run.last_frame >= suite.window.low:
        return "has no episode in the window"
    if frames is not None and frames < suite.bin:
        return f"ended its last episode at {run.last_frame:,} frames, before the first bin of {suite.bin:,}"
    return f"ended its last episode at {run.last_frame:,} frames"


def _first_reason(rows: Sequence[Row]) -> str:
    for row in rows:
        for method, seeds in row.absent.items():
            for seed, why in seeds.items():
                return f"{method}, {row.task}, seed {seed} {why}"
    return "there are no runs"


def _refuse_twice(runs: Sequence[Run]) -> None:
    seen: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        other = seen.setdefault((run.method, run.task, run.seed), run)
        if other is not run:
            raise ScoresError(
                f"seed {run.seed} of {run.task} is there twice, in {_origin(other)} and in {_origin(run)}: "
                "give each kind of run a name (NAME=PATH), or choose with --size"
            )


def _origin(run: Run) -> str:
    details = ", ".join(text for text in (run.facts.size, run.facts.config_hash) if text)
    return f"{run.facts.source} ({details})" if details else run.facts.source
