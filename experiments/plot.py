"""Figures of runs next to published ones: `python -m experiments.plot RUNS... --against dreamerv3,ppo --out FOLDER`.

Writes PNG and SVG: `curves` (a panel for each task), and where the suite's scores can be normalised `aggregates` and
`profiles`; `--figures curves` writes that alone. Needs the `plot` extra.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.output import say
from experiments.scores import inputs
from experiments.scores.comparison import Comparison, compare
from experiments.scores.run import ScoresError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FIGURES = ("curves", "aggregates", "profiles")
LEAST_TASKS = 2  # of aggregates and profiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the figures; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plot", description="Learning curves, aggregates and performance profiles."
    )
    inputs.add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="where the figures go")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=FIGURES, help="which (default: all)")
    parsed = parser.parse_args(arguments)
    try:
        from experiments.scores import figures
    except ModuleNotFoundError:
        print("error: drawing needs matplotlib: pip install -e '.[plot]'", file=sys.stderr)
        return 1
    try:
        selection = inputs.select(parsed)
        parsed.out.mkdir(parents=True, exist_ok=True)
        for name, figure, what in _figures(selection, parsed.at, wanted=parsed.figures):
            figures.save(figure, parsed.out, name)
            say(f"{parsed.out / name}.png, .svg: {what}")
    except (ScoresError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was named above is written", file=sys.stderr)
        return 130
    return 0


def _figures(
    selection: inputs.Selection, at: int | None, *, wanted: Sequence[str]
) -> Iterator[tuple[str, Figure, str]]:
    """Name, figure and a sentence for each that is wanted."""
    from experiments.scores import figures

    runs, suite = selection.runs, selection.suite
    own = list(dict.fromkeys(run.method for run in runs if not run.binned))
    look = figures.Look(list(dict.fromkeys(run.method for run in runs)), own)
    tasks = sorted({run.task for run in runs if len(run.frames) and (not own or not run.binned)})
    if not tasks:
        raise ScoresError("no run has finished an episode yet")
    if "curves" in wanted:
        shown = [run for run in runs if run.task in tasks]
        curves = figures.learning_curves(shown, suite, look, tasks, until=at)
        yield "curves", curves, f"learning curves, tasks: {len(tasks)}"
    comparison = compare(runs, suite, against=selection.against[0] if selection.against else None, at=at)
    common = comparison.common
    aggregated = [name for name in FIGURES[1:] if name in wanted]
    if len(common) >= LEAST_TASKS:
        early = sum(row.frames is not None for row in common)
        what = f"over the {len(common)} tasks that all methods have"
        what += f", {early} of them at the same frames rather than in the protocol's window" if early else ""
        draw = {"aggregates": figures.aggregate_intervals, "profiles": figures.performance_profiles}
        for name in aggregated:
            yield name, draw[name](comparison, look), what
    elif suite.window and aggregated:
        say(f"no aggregates and profiles: {len(common)} tasks that all methods have, of at least {LEAST_TASKS}")
    _tell_missing(comparison)


def _tell_missing(comparison: Comparison) -> None:
    for sentence in comparison.missing():
        say(f"missing: {sentence}")


if __name__ == "__main__":
    sys.exit(main())
