"""`python -m experiments.ablations [SUITE]`: what each part is worth, from what a sweep of that suite left.

Counted are agent steps until a task is solved, that is until the mean of some episodes in a row reaches a score
(`SUITES`), and the mean of as many at the end: what was solved can be lost again. A seed that never solves it is shown
as such, at the end of its run, and not as a number.
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
from experiments.sweep.suites import Suite, load_suite

POINTS = 60  # of a curve


class Solved(NamedTuple):
    """When a task counts as solved.

    Attributes:
        score: that the mean reaches.
        episodes: in a row, over which it is taken.
    """

    score: float
    episodes: int


SUITES = {
    # Gymnasium's reward threshold of CartPole-v0. Version 1 asks for 475: five such episodes take half of these runs.
    "ablations": Solved(195.0, 5),
    # As tests/learning/test_probes.py asks; without memory 7/12 is the best. One episode is worth little: six guesses.
    "ablations_memory": Solved(0.9, 100),
}


class Seed(NamedTuple):
    """One run of a variant.

    Attributes:
        seed: of the training.
        steps: agent steps when it was solved; None where it never was.
        until: agent steps of its last episode.
        last: mean score of its last episodes.
        lowest: of such means since it was solved: whether what was learned stays; NaN where it never was.
    """

    seed: int
    steps: int | None
    until: int
    last: float
    lowest: float = float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes `steps_to_solve.csv` and the figure beside the tables, and prints what it counted."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ablations", description=__doc__)
    parser.add_argument("suite", nargs="?", default=next(iter(SUITES)), choices=SUITES, help="[%(default)s]")
    parser.add_argument("--results", type=Path, help="[experiments/results/SUITE]")
    arguments = parser.parse_args(argv)
    suite, solved = load_suite(arguments.suite), SUITES[arguments.suite]
    folder: Path = arguments.results or RESULTS / suite.name
    present = [name for name in suite.variants if (folder / name).is_dir()]
    try:
        runs = {name: [cut(run, suite) for run in own.read(folder / name, method=name)] for name in present}
    except ScoresError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not runs:
        print(f"error: {folder} holds no variant: train with python -m experiments.sweep {suite.name}", file=sys.stderr)
        return 1
    seeds = {variant: [judge(run, solved) for run in found] for variant, found in runs.items()}
    write(folder / "steps_to_solve.csv", seeds)
    save(draw(runs, seeds, solved), folder, "ablations")
    for variant, found in seeds.items():
        steps = "  ".join(f"{seed.steps:,}" if seed.steps else "not solved" for seed in found)
        last = ", ".join(f"{seed.last:.3g}" for seed in found)
        lowest = ", ".join("-" if seed.steps is None else f"{seed.lowest:.3g}" for seed in found)
        print(f"{variant:<22}{steps}  (at the end {last}; lowest since it was solved {lowest})")
    return 0


def cut(run: Run, suite: Suite) -> Run:
    """The episodes that ended within the suite's steps, in which all runs are compared."""
    kept = run.frames <= steps_to_agent_steps(suite.steps, 1)
    return replace(run, frames=run.frames[kept], scores=run.scores[kept])


def judge(run: Run, solved: Solved) -> Seed:
    """When the mean first reached what is asked for, and the last mean."""
    frames = run.frames.astype(int)
    until = int(frames[-1]) if len(frames) else 0
    if len(run.scores) < solved.episodes:
        return Seed(run.seed, None, until, float(run.scores.mean()) if until else float("nan"))
    means = smooth(run, solved)
    reached = np.flatnonzero(means >= solved.score)
    if not len(reached):
        return Seed(run.seed, None, until, float(means[-1]))
    steps = int(frames[reached[0] + solved.episodes - 1])
    return Seed(run.seed, steps, until, float(means[-1]), float(means[reached[0] :].min()))


def smooth(run: Run, solved: Solved) -> np.ndarray:
    """Means of that many episodes in a row; the first stands for the last of its episodes."""
    return np.convolve(run.scores, np.full(solved.episodes, 1 / solved.episodes), mode="valid")


def write(path: Path, seeds: dict[str, list[Seed]]) -> None:
    """A row for each run."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["variant", "seed", "steps_to_solve", "steps_of_run", "score_at_the_end", "lowest_since_solved"]
        )
        for variant, found in seeds.items():
            for seed in found:
                lowest = "" if seed.steps is None else f"{seed.lowest:.4g}"
                writer.writerow([variant, seed.seed, seed.steps or "", seed.until, f"{seed.last:.4g}", lowest])


def draw(runs: dict[str, list[Run]], seeds: dict[str, list[Seed]], solved: Solved) -> Figure:
    """Steps to solve, a dot for each seed, beside the curves of all variants against that of the first."""
    with matplotlib.rc_context(STYLE):
        rows = -(-(len(runs) - 1) // 2) or 1
        figure = Figure(figsize=(7.0, 1.2 * rows + 1.0), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))
        _dots(left.subplots(), seeds)
        first, *others = runs
        panels = np.ravel(right.subplots(rows, 2, sharex=True, sharey=True, squeeze=False))
        for axes, variant in zip(panels, others, strict=False):
            _curve(axes, runs[first], solved, OWN_COLORS[2])
            _curve(axes, runs[variant], solved, OWN_COLORS[0])
            axes.set_title(_words(variant))
        for axes in panels[len(others) :]:
            axes.set_visible(False)
        right.supxlabel("agent steps", fontsize=8)
        right.supylabel(f"score (black: {_words(first)})", fontsize=8)
    return figure


def _dots(axes: Axes, seeds: dict[str, list[Seed]]) -> None:
    for row, found in enumerate(seeds.values()):
        known = [seed.steps for seed in found if seed.steps is not None]
        axes.plot(known, [row] * len(known), "o", color=OWN_COLORS[0], markersize=4, clip_on=False)
        never = [seed.until for seed in found if seed.steps is None]
        axes.plot(never, [row] * len(never), "x", color=OWN_COLORS[1], markersize=5, clip_on=False)
    axes.set_yticks(range(len(seeds)), [_words(variant) for variant in seeds])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("agent steps to solve (x: not solved)")


def _curve(axes: Axes, runs: Sequence[Run], solved: Solved, color: str) -> None:
    grid = np.linspace(0, max(run.frames[-1] for run in runs), POINTS)
    curves = []
    for run in runs:
        curves.append(np.interp(grid, run.frames[solved.episodes - 1 :], smooth(run, solved), left=np.nan))
        axes.plot(grid, curves[-1], color=color, linewidth=0.5, alpha=0.5)
    axes.plot(grid, np.mean(curves, axis=0), color=color, linewidth=1.4)


def _words(variant: str) -> str:
    return variant.replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
