"""Learning curves of runs: `python experiments/episodes.py OUT.png RUN_OR_CSV...`, and the score of the last episodes.

Needs the `plot` extra. Every input is a run folder or a copy of its `episodes.csv`; one line per input.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

LAST = 20  # episodes of the printed mean
WINDOW = 10  # episodes of the moving average


def read(path: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Label, agent steps at the end of each episode, and scores."""
    with (path / "episodes.csv" if path.is_dir() else path).open() as file:
        rows = list(csv.DictReader(file))
    label = f"{rows[0]['env']} seed {rows[0]['seed']}"
    return label, np.array([int(row["agent_steps"]) for row in rows]), np.array([float(row["score"]) for row in rows])


def main() -> None:
    """Prints one line per run and draws all of them."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise SystemExit("error: drawing needs matplotlib: pip install -e '.[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    output, *inputs = map(Path, sys.argv[1:])
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for index, path in enumerate(inputs):
        label, steps, scores = read(path)
        print(f"{label}: {len(scores)} episodes to agent step {steps[-1]:,}, last {LAST}: {scores[-LAST:].mean():.1f}")
        color = f"C{index}"
        axes.plot(steps, scores, ".", color=color, alpha=0.35, markersize=3)
        smooth = np.convolve(scores, np.ones(WINDOW) / WINDOW, mode="valid")
        axes.plot(steps[WINDOW - 1 :], smooth, color=color, label=label)
    axes.set_xlabel("agent steps")
    axes.set_ylabel(f"score (dots), mean of {WINDOW} episodes (lines)")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=150)


if __name__ == "__main__":
    main()
