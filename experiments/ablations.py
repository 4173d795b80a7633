"""`python -m experiments.ablations`: what each part is worth, from what `python -m experiments.sweep ablations` left.

Counted are agent steps until a task is solved: until the mean of five episodes in a row reaches 195, from which
gymnasium calls CartPole-v0 solved. (Version 1 asks for 475, and five such episodes alone take half of these runs.) A
seed that never does is shown as such, at the end of its run, and not as a number.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamer.validation import steps_to_agent_steps
from experiments.scores import own
from experiments.scores.figures import OWN_COLORS, STYLE, save
from experiments.scores.run import Run, ScoresError
from experiments.sweep.results import RESULTS
from experiments.sweep.suites import load_suite

SUITE = "ablations"
SOLVED = 195.0  # reward threshold of CartPole-v0 in gymnasium
WINDOW = 5  # episodes
POINTS = 60  # of a curve


class Seed(NamedTuple):
    """One run of a variant.

    Attributes:
        seed: of the training.
        steps: agent steps when it was solved; None where it never was.
        until: agent steps of its last episode.
    """

    seed: int
    steps: int | None
    until: int


def main(argv: Sequence[str] | None = None) -> int:
    """Writes `steps_to_solve.csv` and the figure beside the tables, and prints what it counted."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ablations", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS / SUITE, help="[experiments/results/ablations]")
    folder: Path = parser.parse_args(argv).results
    try:
        runs = {
            variant: [cut(run) for run in own.read(folder / variant, method=variant)] for variant in variants(folder)
        }
    except ScoresError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not runs:
        print(f"error: {folder} holds no variant: train with python -m experiments.sweep {SUITE}", file=sys.stderr)
        return 1
    solved = {variant: [steps_to_solve(run) for run in found] for variant, found in runs.items()}
    write(folder / "steps_to_solve.csv", solved)
    save(draw(runs, solved), folder, "ablations")
    for variant, seeds in solved.items():
        print(f"{variant:<22}{'  '.join(f'{seed.steps:,}' if seed.steps else 'not solved' for seed in seeds)}")
    return 0


def variants(folder: Path) -> list[str]:
    """Those of the suite that have tables, in its order."""
    return [name for name in load_suite(SUITE).variants if (folder / name).is_dir()]


def cut(run: Run) -> Run:
    """The episodes that ended within the suite's steps, in which all runs are compared."""
    kept = run.frames <= steps_to_agent_steps(load_suite(SUITE).steps, 1)
    return replace(run, frames=run.frames[kept], scores=run.scores[kept])


def steps_to_solve(run: Run) -> Seed:
    """When the mean of `WINDOW` episodes in a row first reached `SOLVED`."""
    frames = run.frames.astype(int)
    if len(run.scores) < WINDOW:
        return Seed(run.seed, None, int(frames[-1]) if len(frames) else 0)
    means = np.convolve(run.scores, np.full(WINDOW, 1 / WINDOW), mode="valid")
    reached = np.flatnonzero(means >= SOLVED)
    return Seed(run.seed, int(frames[reached[0] + WINDOW - 1]) if len(reached) else None, int(frames[-1]))


def write(path: Path, solved: dict[str, list[Seed]]) -> None:
    """A row for each run."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "seed", "steps_to_solve", "steps_of_run"])
        for variant, seeds in solved.items():
            writer.writerows([variant, seed.seed, seed.steps or "", seed.until] for seed in seeds)


def draw(runs: dict[str, list[Run]], solved: dict[str, list[Seed]]) -> Figure:
    """Steps to solve, a dot for each seed, beside the curves of all variants against that of the first."""
    with matplotlib.rc_context(STYLE):
        rows = -(-(len(runs) - 1) // 2) or 1
        figure = Figure(figsize=(7.0, 1.2 * rows + 1.0), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))
        _dots(left.subplots(), solved)
        first, *others = runs
        panels = np.ravel(right.subplots(rows, 2, sharex=True, sharey=True, squeeze=False))
        for axes, variant in zip(panels, others, strict=False):
            _curve(axes, runs[first], OWN_COLORS[3])
            _curve(axes, runs[variant], OWN_COLORS[0])
            axes.set_title(_words(variant))
        for axes in panels[len(others) :]:
            axes.set_visible(False)
        right.supxlabel("agent steps", fontsize=8)
        right.supylabel(f"score (black: {_words(first)})", fontsize=8)
    return figure


def _dots(axes: Axes, solved: dict[str, list[Seed]]) -> None:
    for row, seeds in enumerate(solved.values()):
        known = [seed.steps for seed in seeds if seed.steps is not None]
        axes.plot(known, [row] * len(known), "o", color=OWN_COLORS[0], markersize=4, clip_on=False)
        never = [seed.until for seed in seeds if seed.steps is None]
        axes.plot(never, [row] * len(never), "x", color=OWN_COLORS[1], markersize=5, clip_on=False)
    axes.set_yticks(range(len(solved)), [_words(variant) for variant in solved])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("agent steps to solve (x: not solved)")


def _curve(axes: Axes, runs: Sequence[Run], color: str) -> None:
    grid = np.linspace(0, max(run.frames[-1] for run in runs), POINTS)
    curves = []
    for run in runs:
        smooth = np.convolve(run.scores, np.full(WINDOW, 1 / WINDOW), mode="valid")
        curves.append(np.interp(grid, run.frames[WINDOW - 1 :], smooth, left=np.nan))
        axes.plot(grid, curves[-1], color=color, linewidth=0.5, alpha=0.5)
    axes.plot(grid, np.mean(curves, axis=0), color=color, linewidth=1.4)


def _words(variant: str) -> str:
    return variant.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
