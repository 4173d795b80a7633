"""What runs log while they train, side by side: `python -m experiments.training_logs NAME=RUN... --out FOLDER`.

Losses, value, entropies and what is dreamt, against env frames: two programs that learn alike agree in all of them long
before scores, of which a seed has few, can tell anything. RUN is a folder of a run, ours or danijar/dreamerv3's, or a
CSV file that this command left: it writes `FOLDER/NAME.csv` for every folder, beside `training_logs.png` and `.svg`,
and prints a table.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments import logged
from experiments.output import say
from experiments.scores import danijar
from experiments.scores.figures import OWN_COLORS, STYLE, WIDTH, save
from experiments.scores.run import ScoresError
from experiments.scores.text import markdown

RECONSTRUCTION = "loss/reconstruction"  # the sum over all parts of an observation
QUANTITIES = {
    "value": "value",
    "scaled_return": "return, in ranges of returns",
    "imagined_reward": "reward, dreamt",
    "policy_entropy": "entropy of the policy, nats",
    "loss/dynamics": "KL of posterior and prior, nats",
    "prior_entropy": "entropy of the prior, nats",
    RECONSTRUCTION: "loss of the reconstruction",
    "loss/reward": "loss of the reward",
    "loss/replay_value": "loss of the critic on replay",
}
LOGARITHMIC = {RECONSTRUCTION, "loss/reward", "loss/replay_value"}
FRAMES = "env_frames"
COLUMNS = 3  # of panels
BIN = 1_000  # env frames of a row: what was logged in them has one mean

Log = Mapping[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the figure and the files, and prints the last frames that all have; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.training_logs", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="a run's folder, or a CSV file of this command")
    parser.add_argument("--out", type=Path, required=True, help="where figure and files go")
    arguments = parser.parse_args(argv)
    try:
        pairs = [spec.partition("=")[::2] for spec in arguments.runs]
        logs = {name: read(Path(path)) for name, path in pairs if name and path}
        if len(logs) < len(pairs):
            raise ScoresError(f"expected NAME=RUN, each with a name of its own, not {' '.join(arguments.runs)}")
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, path in pairs:
            if Path(path).is_dir():
                write(arguments.out / f"{name}.csv", logs[name])
        save(draw(logs), arguments.out, "training_logs")
    except (ScoresError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say(table(logs))
    return 0


def read(path: Path) -> Log:
    """By name, what was logged: a mean for each bin of `BIN` env frames, `[rows]`, ascending.

    Raises:
        ScoresError: the path is no run and no such file.
    """
    if path.is_dir():
        source = path / "metrics.jsonl"
        rows = [_summed(danijar.in_our_names(row)) for row in logged.rows(source)]
    else:
        source, rows = path, _table(path)
    rows = [row for row in rows if row.get("value") not in (None, "")]  # others were logged before the first update
    if not rows or FRAMES not in rows[0]:
        raise ScoresError(f"{source} holds no row of a training with {FRAMES} and value")
    number = np.array([-(-int(float(row[FRAMES])) // BIN) for row in rows])
    bins = np.unique(number)
    known = [name for name in QUANTITIES if all(row.get(name) not in (None, "") for row in rows)]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in known}
    means = {name: np.array([values[number == edge].mean() for edge in bins]) for name, values in columns.items()}
    return {FRAMES: bins * BIN, **means}


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise ScoresError(f"{path} cannot be read: {error}") from error


def _summed(row: dict[str, float]) -> dict[str, float]:
    parts = [value for name, value in row.items() if name.startswith(f"{RECONSTRUCTION}/")]
    return {**row, RECONSTRUCTION: math.fsum(parts)} if parts else row


def write(path: Path, log: Log) -> None:
    """The rows as `read` takes them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(log)
        writer.writerows([f"{value:.5g}" for value in row] for row in zip(*log.values(), strict=True))


def draw(logs: Mapping[str, Log]) -> Figure:
    """A panel for each quantity that any of them has."""
    shown = [name for name in QUANTITIES if any(name in log for log in logs.values())]
    rows = math.ceil(len(shown) / COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 * rows + 0.6), layout="constrained")
        panels = np.ravel(figure.subplots(rows, COLUMNS, sharex=True, squeeze=False))
        for axes, name in zip(panels, shown, strict=False):
            for color, (run, log) in zip(OWN_COLORS * len(logs), logs.items(), strict=False):
                if name in log:
                    axes.plot(log[FRAMES] / 1000, log[name], color=color, linewidth=1.0, label=run)
            axes.set_title(QUANTITIES[name])
            if name in LOGARITHMIC:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("env frames (thousands)", fontsize=8)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(logs), frameon=False)
    return figure


def table(logs: Mapping[str, Log]) -> str:
    """Every quantity at the last frames that all of them have, and at a half and a quarter of these."""
    last = min(log[FRAMES][-1] for log in logs.values())
    frames = [last // 4, last // 2, last]
    rows = [
        [QUANTITIES[name], run, *(f"{np.interp(at, log[FRAMES], log[name]):.3g}" for at in frames)]
        for name in QUANTITIES
        for run, log in logs.items()
        if name in log
    ]
    return markdown(["quantity", "run", *(f"{at:,} frames" for at in frames)], rows)


if __name__ == "__main__":
    sys.exit(main())
