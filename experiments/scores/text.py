"""Numbers and tables for people: Markdown that is aligned, so that a terminal shows it well, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.scores.statistics import Estimate

NOTHING = "-"


def number(value: float) -> str:
    """One decimal, thousands separated; none beyond 10,000, where seeds differ by far more."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}"


def spread(scores: np.ndarray | None) -> str:
    """`mean ± standard deviation (seeds)`."""
    if scores is None:
        return NOTHING
    deviation = f" ± {number(float(scores.std()))}" if len(scores) > 1 else ""
    return f"{number(float(scores.mean()))}{deviation} ({len(scores)})"


def estimate(value: Estimate, *, decimals: int = 1) -> str:
    """`value [low, high]`; the value alone where one seed a task says nothing about the spread."""
    if value.low == value.high:
        return f"{value.value:,.{decimals}f}"
    return f"{value.value:,.{decimals}f} [{value.low:,.{decimals}f}, {value.high:,.{decimals}f}]"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table whose columns are as wide as their widest cell; the first `left` columns are flush left, others right."""
    table = [list(headings), *map(list, rows)]
    widths = [max(3, *(len(row[column]) for row in table)) for column in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(table[0]), f"| {' | '.join(rule)} |", *map(line, table[1:])])
