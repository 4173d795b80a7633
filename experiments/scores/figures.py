"""Figures of scores: learning curves, aggregates, performance profiles. Needs the `plot` extra.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; references are dashed, for grey print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.scores import statistics
from experiments.scores.comparison import Comparison
from experiments.scores.protocol import Suite, curve
from experiments.scores.run import Run

COLORS = {"dreamerv3": "#D55E00", "ppo": "#009E73", "muzero": "#CC79A7"}
OWN_COLORS = ("#0072B2", "#E69F00", "#000000", "#56B4E9", "#F0E442")  # neighbours differ, also for the colour-blind
WIDTH = 7.0  # inches, a page of two columns
POINTS_OF_A_CURVE = 40  # where no suite says how wide a bin is
FEW_POINTS = 8  # of a curve, which are then marked
EPISODES_OF_A_BIN = 2  # or more, so that a curve does not follow single episodes
DOTS_UP_TO = 4  # tasks: single episodes are shown, too
LEAST_PART_OF_AXIS = 0.25  # that our own runs fill, however long the published ones are
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "svg.hashsalt": "dreamer",  # the same scores give the same file
}


def save(figure: Figure, folder: Path, name: str) -> None:
    """PNG and SVG."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


class Look:
    """Colour and line of each method.

    Args:
        methods: in the order of the legend.
        own: those that are no reference.
    """

    def __init__(self, methods: Sequence[str], own: Sequence[str]) -> None:
        self._own = list(own)
        self.methods = list(methods)

    def color(self, method: str) -> str:
        """Of the whole session: a reference has the same in every figure."""
        return OWN_COLORS[self._own.index(method) % len(OWN_COLORS)] if method in self._own else COLORS[method]

    def line(self, method: str) -> Literal["-", "--"]:
        """Solid for our own, dashed for a reference."""
        return "-" if method in self._own else "--"

    def legend(self, figure: Figure, labels: dict[str, str]) -> None:
        """Above the panels."""
        handles = [
            Line2D([], [], color=self.color(method), linestyle=self.line(method), linewidth=1.5, label=labels[method])
            for method in self.methods
            if method in labels
        ]
        columns = min(len(handles), max(1, int(figure.get_figwidth() / 1.6)))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)


def learning_curves(
    runs: Sequence[Run], suite: Suite, look: Look, tasks: Sequence[str], *, until: int | None = None
) -> Figure:
    """A panel for each task: mean over seeds and the 95 % interval of it, against env frames, up to `until`."""
    columns = _columns(len(tasks))
    rows = math.ceil(len(tasks) / columns)
    width = 4.2 if columns == 1 else WIDTH if columns <= 6 else 10.0
    height = {1: 2.4, 2: 2.1}.get(columns, 1.9 if rows == 1 else 1.5 if columns <= 3 else 1.15)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height * rows + 0.75), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        limit = until or _limit(runs)
        for task, axes in zip(tasks, grid.flat, strict=False):
            here = [run for run in runs if run.task == task and len(run.frames)]
            _panel(axes, here, suite, look, limit, dots=len(tasks) <= DOTS_UP_TO)
            axes.set_title(task.replace("_", " "), pad=3, fontsize=7 if columns > 6 else 8)
        for axes in list(grid.flat)[len(tasks) :]:
            axes.set_visible(False)
        scale, words = _scale(limit)
        for axes in list(grid.flat)[: len(tasks)]:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda frames, _: f"{frames / scale:g}"))
        figure.supxlabel(f"env frames{words}", fontsize=8)
        dots = len(tasks) <= DOTS_UP_TO and any(not run.binned for run in runs)
        episodes = "score of episodes (dots), their mean\n" if dots else "mean score "
        figure.supylabel(f"{episodes}and its 95 % interval over seeds", fontsize=8, multialignment="center")
        look.legend(figure, _labels(runs, look.methods))
    return figure


def aggregate_intervals(comparison: Comparison, look: Look) -> Figure:
    """Mean, median, IQM, optimality gap, and the probability of improvement: points with their 95 % intervals."""
    found, improvements = comparison.aggregates(), comparison.improvements()
    methods = [method for method in look.methods if method in found][::-1]
    panels = [(name, {method: found[method][name] for method in methods}) for name in statistics.AGGREGATES]
    panels = [(f"{name}\n(lower is better)" if name == "optimality gap" else name, part) for name, part in panels]
    if improvements:
        panels.append((f"P(better than\n{comparison.against})", improvements))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.95 + 0.3 * len(methods)), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, part) in zip(grid, panels, strict=True):
            for place, method in enumerate(methods):
                if method in part:
                    _point(axes, place, part[method], look.color(method))
            axes.set_title(title, pad=4)
            axes.use_sticky_edges = False
            axes.margins(x=0.08)
            axes.set_ylim(-0.6, len(methods) - 0.4)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.spines["left"].set_visible(False)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        grid[0].set_yticks(range(len(methods)), methods, fontsize=8)
        if improvements:
            grid[-1].axvline(0.5, color="#888888", linewidth=0.8, linestyle=":")
            grid[-1].set_xlim(-0.03, 1.03)
        figure.supxlabel(_axis(comparison.suite), fontsize=8)
    return figure


def performance_profiles(comparison: Comparison, look: Look) -> Figure:
    """Part of all runs that score more than a threshold, with 95 % bands."""
    rows, suite = comparison.common, comparison.suite
    scores = {m: comparison.normalised(m, rows) for m in look.methods if m in rows[0].scores}
    pooled = np.concatenate([seed for parts in scores.values() for seed in parts])
    top = 1.0 if suite.unit != "%" else float(np.clip(np.percentile(pooled, 90), 1.0, 8.0))
    thresholds = np.linspace(min(0.0, float(np.percentile(pooled, 2))), top, 121)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        for method, parts in scores.items():
            value = statistics.profile(parts, thresholds)
            sample = statistics.bootstrap(parts, lambda drawn: statistics.profile(drawn, thresholds), resamples=2000)
            low, high = statistics.interval(sample)
            x = thresholds * suite.points
            axes.plot(x, value, color=look.color(method), linestyle=look.line(method), linewidth=1.4)
            axes.fill_between(x, low, high, color=look.color(method), alpha=0.2, linewidth=0)
        axes.set_xlabel(f"threshold: {_axis(suite)}")
        axes.set_ylabel(f"part of the runs above it ({len(rows)} tasks)")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(thresholds[0] * suite.points, thresholds[-1] * suite.points)
        counts = {method: f"{method} ({sum(map(len, parts))} runs)" for method, parts in scores.items()}
        look.legend(figure, counts)
    return figure


def _panel(axes: Axes, runs: Sequence[Run], suite: Suite, look: Look, limit: float, *, dots: bool) -> None:
    for method in look.methods[::-1]:  # the first method is drawn last, on top
        mine = [run for run in runs if run.method == method]
        if not mine:
            continue
        if dots and not mine[0].binned:
            for run in mine:
                axes.plot(
                    run.frames, run.scores, ".", color=look.color(method), alpha=0.35, markersize=3,
                    markeredgewidth=0, rasterized=True,
                )  # fmt: skip
        width = _bin(mine, suite)
        last = min(max(run.last_frame for run in mine), limit)  # what lies beyond would stretch the scores' axis
        grid = width * np.arange(1, math.ceil(last / width) + 1)
        mean, band = statistics.mean_and_band(np.stack([curve(run, width, grid) for run in mine]))
        grid = np.minimum(grid, max(run.last_frame for run in mine))  # the last bin ends where the runs end
        marker = "o" if len(grid) <= FEW_POINTS else ""
        color = look.color(method)
        axes.plot(grid, mean, color=color, linestyle=look.line(method), linewidth=1.2, marker=marker, markersize=3)
        axes.fill_between(grid, *band, color=look.color(method), alpha=0.2, linewidth=0)
    axes.set_xlim(0, limit)
    if np.ptp(axes.dataLim.intervaly) == 0.0:  # a game in which nobody scores
        axes.set_ylim(axes.dataLim.y0 - 1, axes.dataLim.y0 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(4 if dots or len(axes.figure.axes) <= 3 else 2, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6 if dots else 4, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _bin(runs: Sequence[Run], suite: Suite) -> int:
    """The published width, or less for a run that is too short for it: one, two or five times a power of ten."""
    if runs[0].binned:
        return suite.bin
    gaps = np.concatenate([np.diff(run.frames, prepend=0.0) for run in runs])
    rough = max(max(run.last_frame for run in runs) / POINTS_OF_A_CURVE, EPISODES_OF_A_BIN * float(np.median(gaps)))
    power = 10 ** math.floor(math.log10(max(rough, 1.0)))
    nice = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return min(int(nice), suite.bin) if suite.window else int(nice)


def _limit(runs: Sequence[Run]) -> float:
    """End of the axis of frames."""
    longest = max(run.last_frame for run in runs)
    own = max((run.last_frame for run in runs if not run.binned), default=longest)
    return min(longest, own / LEAST_PART_OF_AXIS)


def _columns(tasks: int) -> int:
    """As many as stay readable; among similar numbers that which leaves the fewest panels empty."""
    if tasks <= 3:
        return tasks
    steps = ((4, (2,)), (6, (3,)), (12, (4, 3)), (20, (5, 4)), (30, (6, 5)))
    choice = next((choice for most, choice in steps if tasks <= most), (8, 7))
    return min(choice, key=lambda columns: -tasks % columns)


def _scale(limit: float) -> tuple[float, str]:
    if limit >= 5e6:
        return 1e6, " (millions)"
    return (1e3, " (thousands)") if limit >= 5e3 else (1.0, "")


def _short(value: float, _: object) -> str:
    """`20k` for 20,000."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * (1 if unit > 1e3 else 10):
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _point(axes: Axes, place: int, part: statistics.Estimate, color: str) -> None:
    axes.barh(place, part.high - part.low, left=part.low, height=0.5, color=color, alpha=0.45, linewidth=0)
    axes.plot([part.value, part.value], [place - 0.3, place + 0.3], color="black", linewidth=1.2)


def _axis(suite: Suite) -> str:
    return f"{suite.title}, {suite.unit}" if suite.unit else suite.title


def _labels(runs: Sequence[Run], methods: Sequence[str]) -> dict[str, str]:
    """`ours (3 seeds)`, or `(3 to 5 seeds)`."""
    labels = {}
    for method in methods:
        seeds: dict[str, int] = {}
        for run in runs:
            if run.method == method and len(run.frames):
                seeds[run.task] = seeds.get(run.task, 0) + 1
        if seeds:
            least, most = min(seeds.values()), max(seeds.values())
            count = f"{most}" if least == most else f"{least} to {most}"
            labels[method] = f"{method} ({count} seed{'s' * (most > 1)})"
    return labels
