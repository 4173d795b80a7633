"""Scores of runs next to published ones: `python -m experiments.table RUNS... --against dreamerv3`.

Prints Markdown; `--out FOLDER` writes it as `table.md`, with `table.csv`, `seeds.csv` and `table.json`. `python -m
experiments.table dreamerv3 --suite atari100k` shows published scores alone; `--readme` renews the README's table from
`experiments/results`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.output import say
from experiments.scores import inputs, readme
from experiments.scores.comparison import Comparison, Row, compare
from experiments.scores.run import ScoresError
from experiments.scores.statistics import AGGREGATES, RESAMPLES
from experiments.scores.text import NOTHING, estimate, markdown, number, spread


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given == ["--readme"]:
            print(readme.renew())
            return 0
        parsed = _parser().parse_args(given)
        selection = inputs.select(parsed)
        first = selection.against[0] if selection.against else None
        comparison = compare(selection.runs, selection.suite, against=first, at=parsed.at)
        document = Table(comparison)
        text = document.markdown()
        if parsed.out:
            document.write(parsed.out, text)
        say(text)
    except (ScoresError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.table",
        description="Scores of runs next to published ones, with bootstrap intervals.",
        epilog="python -m experiments.table --readme renews the README's table from experiments/results.",
    )
    inputs.add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write table.md, table.csv, seeds.csv, table.json")
    return parser


class Table:
    """A comparison in the forms in which it is read.

    Args:
        comparison: the methods side by side. The intervals are computed here.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._aggregates = comparison.aggregates()
        self._improvements = comparison.improvements()

    def markdown(self) -> str:
        """Tasks, aggregates, what is missing, and how to read it."""
        comparison = self._comparison
        others = [method for method in comparison.methods if method != comparison.against]
        title = f"## {comparison.suite.name}: {', '.join(others or comparison.methods)}"
        if comparison.against and others:
            title += f" against {comparison.against}"
        parts = [title, self._tasks(), self._summary(), self._missing(), self._legend()]
        return "\n\n".join(part for part in parts if part)

    def write(self, folder: Path, text: str) -> None:
        """All four files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(f"{text}\n", encoding="utf-8")
        (folder / "table.json").write_text(f"{json.dumps(self.document(), indent=1)}\n", encoding="utf-8")
        (folder / "table.csv").write_text(_csv(self._task_rows()), encoding="utf-8")
        (folder / "seeds.csv").write_text(_csv(self._seed_rows()), encoding="utf-8")

    def document(self) -> dict[str, Any]:
        """Everything as JSON."""
        comparison = self._comparison
        return {
            "suite": comparison.suite.name,
            "methods": list(comparison.methods),
            "against": comparison.against,
            "resamples": RESAMPLES,
            "tasks": self._task_rows(),
            "aggregated_tasks": [row.task for row in comparison.common],
            "unit": comparison.suite.unit,
            "aggregates": {
                method: {name: part._asdict() for name, part in parts.items()}
                for method, parts in self._aggregates.items()
            },
            "probability_of_improvement": {method: part._asdict() for method, part in self._improvements.items()},
            "missing": comparison.missing(),
        }

    def _tasks(self) -> str:
        comparison = self._comparison
        compared = [method for method in comparison.methods if comparison.against not in (None, method)]
        headings = ["task", "env frames", *comparison.methods]
        headings += [f"{method} - {comparison.against}" for method in compared]
        unit = comparison.suite.unit
        if unit == "%":
            headings += [f"{method} %" for method in comparison.methods]
        rows = []
        for row in comparison.rows:
            cells = [row.task, self._frames(row), *(spread(row.scores.get(method)) for method in comparison.methods)]
            cells += [self._difference(row, method) for method in compared]
            if unit == "%":
                cells += [self._percent(row, method) for method in comparison.methods]
            rows.append(cells)
        return markdown(headings, rows)

    def _frames(self, row: Row) -> str:
        if row.frames is not None:
            return f"{row.frames:,} *" if self._comparison.suite.window else f"{row.frames:,}"
        return f"{self._comparison.suite.compared_at(row.frames):,}"

    def _difference(self, row: Row, method: str) -> str:
        """In standard deviations of the reference's seeds."""
        mine, theirs = row.scores.get(method), row.scores.get(str(self._comparison.against))
        if mine is None or theirs is None or theirs.std() == 0.0:
            return NOTHING
        return f"{(mine.mean() - theirs.mean()) / theirs.std():+.1f} sd"

    def _percent(self, row: Row, method: str) -> str:
        scores = row.scores.get(method)
        if scores is None or not self._comparison.suite.knows(row.task):
            return NOTHING
        return number(100.0 * float(self._comparison.suite.normalise(row.task, scores).mean()))

    def _summary(self) -> str:
        if not self._aggregates:
            return ""
        comparison = self._comparison
        unit = f", {comparison.suite.unit}" if comparison.suite.unit else ""
        headings = [f"{comparison.suite.title}{unit}", "tasks", "runs", *AGGREGATES]
        if self._improvements:
            headings.append(f"P(better than {comparison.against})")
        rows = []
        for method, parts in self._aggregates.items():
            runs = sum(len(row.scores[method]) for row in comparison.common)
            cells = [method, str(len(comparison.common)), str(runs), *(estimate(part) for part in parts.values())]
            if self._improvements:
                better = self._improvements.get(method)
                cells.append(estimate(better, decimals=2) if better else NOTHING)
            rows.append(cells)
        return markdown(headings, rows)

    def _missing(self) -> str:
        sentences = self._comparison.missing()
        return "Missing:\n\n" + "\n".join(f"- {sentence}" for sentence in sentences) if sentences else ""

    def _legend(self) -> str:
        comparison, suite = self._comparison, self._comparison.suite
        lines = []
        if any(row.frames is None for row in comparison.rows) and suite.window:
            lines.append(f"Scores: mean return of the {suite.window}.")
        if any(row.frames is not None for row in comparison.rows):
            if suite.window:
                what = f"the newest bin of {suite.bin:,} env frames with an episode, the same frames for all methods"
                lines.append(f"*: not the protocol's window, but {what}.")
            else:
                lines.append(f"Scores: mean return of {suite.protocol.window} up to these env frames.")
        lines.append("Cells: mean over seeds ± their standard deviation (seeds).")
        if suite.remark and any(row.frames is None for row in comparison.rows):
            lines.append(suite.remark)
        if comparison.against:
            lines.append(f"Differences: in standard deviations of the seeds of {comparison.against}.")
        if self._aggregates:
            lines.append(
                f"Aggregates: over the tasks that all methods here have ({len(comparison.common)}); IQM and optimality "
                f"gap over their runs; in brackets 95 % stratified bootstrap intervals ({RESAMPLES:,} resamples of the "
                "seeds of each task), none where each task has one seed."
            )
        return "\n".join(f"- {line}" for line in lines)

    def _task_rows(self) -> list[dict[str, Any]]:
        """A row for each task and method."""
        suite = self._comparison.suite
        return [
            {
                "task": row.task,
                "method": method,
                "env_frames": suite.compared_at(row.frames),
                "by_protocol": row.frames is None,
                "seeds": len(scores),
                "mean": float(scores.mean()),
                "std": float(scores.std()),
                "normalised": float(suite.normalise(row.task, scores).mean()) if suite.knows(row.task) else None,
            }
            for row in self._comparison.rows
            for method, scores in row.scores.items()
        ]

    def _seed_rows(self) -> list[dict[str, Any]]:
        """A row for each seed; the order of seeds means nothing."""
        return [
            {
                "task": row.task,
                "method": method,
                "env_frames": self._comparison.suite.compared_at(row.frames),
                "score": float(score),
            }
            for row in self._comparison.rows
            for method, scores in row.scores.items()
            for score in scores
        ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
