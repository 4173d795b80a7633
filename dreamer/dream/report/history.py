"""What the scheduled reports of a run have measured, as curves over its training (`training.scheduled_report`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from dreamer.dream.report.estimate import Estimate, Quantity
from dreamer.training.scheduled_report import QUANTITIES

LEADING = ("useful/optimism_gap", "useful/ranking")  # shown first
HOW = (
    "This run made no reports while it was trained: with --log.report-every 1000 (updates) the optimism gap, the "
    "ranking of policies and more become curves here and in TensorBoard."
)


class History(NamedTuple):
    """Curves by name, `useful/optimism_gap`; one place on the axis for every report."""

    curves: dict[str, Quantity]

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        if not self.curves:
            return {"note": HOW, QUANTITIES: {}}
        return {QUANTITIES: {name: _without_verdict(curve.document()) for name, curve in self.curves.items()}}


def read_history(path: Path) -> History:
    """The rows of a file; none where there is no such file. A line that cannot be read does not count."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    rows = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
            rows[row["agent_steps"] or row["updates"]] = {name: _read(one) for name, one in row[QUANTITIES].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        axis = "agent steps" if row["agent_steps"] else "updates"
    if not rows:
        return History({})
    names = dict.fromkeys([*LEADING, *(name for row in rows.values() for name in row)])
    places = sorted(rows)
    curves = {name: _curve(name, places, [rows[place].get(name) for place in places], axis=axis) for name in names}
    return History({name: curve for name, curve in curves.items() if curve})


def _read(one: dict[str, Any]) -> Quantity:
    """A quantity of one report."""
    values = {name: [None if it is None else Estimate(**it)] for name, it in one["values"].items()}
    return Quantity(
        "",
        str(one["title"]),
        str(one["unit"]),
        values,
        higher_is_better=bool(one["higher_is_better"]),
        ideal=None if one["ideal"] is None else float(one["ideal"]),
        note=str(one["at"]),
    )


def _curve(name: str, places: list[int], found: list[Quantity | None], *, axis: str) -> Quantity | None:
    """A quantity over all reports; None where none has it."""
    known = [one for one in found if one is not None]
    if not known:
        return None
    last = known[-1]
    contestants = dict.fromkeys(contestant for one in known for contestant in one.values)
    return last._replace(
        key=name,
        values={one: [None if it is None else it.at(one) for it in found] for one in contestants},
        axis=axis,
        x=tuple(places),
        headline=len(places) - 1,
        needs_controls=False,
        note=f"At {last.note}." if last.note else "",
    )


def _without_verdict(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "verdict"}
