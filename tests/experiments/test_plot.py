"""`python -m experiments.plot`: the figures are there, hold what they should, and nothing in them overlaps."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments import plot
from experiments.scores import figures
from experiments.scores.comparison import compare
from experiments.scores.protocol import SUITES
from experiments.scores.published import published
from experiments.scores.run import Run
from tests.experiments.result_files import write_results, write_run

GAMES = ("boxing", "breakout", "chopper_command", "pong", "qbert")


def game_results(folder: Path, *, seeds: int, until: int) -> Path:
    draw = random.Random(0)
    for game in GAMES:
        episodes = {
            seed: [(frames, draw.random()) for frames in range(9_000, until + 1, 9_000)] for seed in range(seeds)
        }
        write_results(folder / "atari100k" / f"atari100k_{game}.csv", episodes, size="12m")
    return folder


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Titles, labels, ticks and legends that lie on each other, or outside of the figure."""
    FigureCanvasAgg(figure).draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()] + list(figure.texts)
    texts += [text for text in (figure._supxlabel, figure._supylabel) if text is not None and text not in texts]
    for axes in figure.axes:
        if axes.get_visible():
            texts += [axes.title, *shown(axes.xaxis), *shown(axes.yaxis)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    whole = figure.bbox.padded(1.0)
    outside = [(name, "the edge") for name, box in boxes if not (whole.contains(*box.min) and whole.contains(*box.max))]
    pairs = itertools.combinations(boxes, 2)
    return outside + [
        (name, other) for (name, box), (other, place) in pairs if box.padded(-1.0).overlaps(place.padded(-1.0))
    ]


def shown(axis: Axis) -> list[Text]:
    """The labels of the ticks between the ends of an axis; the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()
    ]


def invented(task: str, *, seeds: int = 2, until: int = 400_000) -> list[Run]:
    draw = np.random.default_rng(0)
    frames = np.arange(5_000.0, until, 5_000.0)
    return [Run("ours", "atari100k", task, seed, frames, draw.random(len(frames))) for seed in range(seeds)]


def test_all_figures_of_a_suite_in_both_formats(tmp_path: Path, capsys):
    results = game_results(tmp_path / "results", seeds=2, until=396_000)
    out = tmp_path / "figures"
    assert plot.main([str(results), "--against", "dreamerv3,ppo", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    names = {f"{name}.{kind}" for name in ("curves", "aggregates", "profiles") for kind in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == names
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert "over the 4 tasks that all methods have" in printed  # boxing has no published curve of PPO
    assert "missing: ours: no score for 21 of 26 tasks: alien," in printed


def test_only_the_figures_that_are_asked_for(tmp_path: Path):
    results = game_results(tmp_path / "results", seeds=1, until=100_000)
    out = tmp_path / "figures"
    assert plot.main([str(results), "--against", "dreamerv3", "--figures", "curves", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"curves.png", "curves.svg"}


def test_one_run_has_only_curves(tmp_path: Path, capsys):
    run = write_run(tmp_path / "run", "CartPole-v1", 0, [(frames, 20.0) for frames in range(20, 2_000, 20)])
    assert plot.main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"curves.png", "curves.svg"}
    assert plot.main([str(run), "--out", str(tmp_path / "again")]) == 0
    for name in ("curves.png", "curves.svg"):  # a committed figure changes only with its scores
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("tasks", [1, 5, 26])
def test_nothing_overlaps_in_the_curves(tasks: int):
    suite = SUITES["atari100k"]
    names = list(suite.tasks) if tasks == 26 else list(GAMES[:tasks])
    runs = [run for name in names for run in invented(name)]
    runs += [run for method in ("dreamerv3", "ppo") for run in published(method, suite.name) if run.task in names]
    look = figures.Look(["ours", "dreamerv3", "ppo"], ["ours"])
    figure = figures.learning_curves(runs, suite, look, names)
    assert overlaps(figure) == []
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == [name.replace("_", " ") for name in names]
    assert any("env frames (thousands)" in text.get_text() for text in figure.texts)


def test_nothing_overlaps_in_the_aggregates_and_the_profile():
    suite = SUITES["atari100k"]
    runs = [run for name in GAMES for run in invented(name)]
    runs += [run for method in ("dreamerv3", "ppo") for run in published(method, suite.name)]
    comparison = compare(runs, suite, against="dreamerv3")
    look = figures.Look(comparison.methods, comparison.own)
    assert overlaps(figures.aggregate_intervals(comparison, look)) == []
    assert overlaps(figures.performance_profiles(comparison, look)) == []


def test_a_short_run_can_be_seen_next_to_a_long_reference():
    """At 8,000 of 400,000 frames it fills a quarter of the axis, in bins smaller than the published ones."""
    runs = [
        *invented("pong", seeds=1, until=9_000),
        *(r for r in published("dreamerv3", "atari100k") if r.task == "pong"),
    ]
    suite, look = SUITES["atari100k"], figures.Look(["ours", "dreamerv3"], ["ours"])
    for until, end in ((None, 20_000.0), (10_000, 10_000.0)):  # of `--at 10k`
        figure = figures.learning_curves(runs, suite, look, ["pong"], until=until)
        assert figure.axes[0].get_xlim() == (0.0, end)


def test_without_matplotlib_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.delitem(sys.modules, "experiments.scores.figures")
    monkeypatch.delattr("experiments.scores.figures")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # its import fails
    assert plot.main(["dreamerv3", "--suite", "atari100k", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "error: drawing needs matplotlib: pip install -e '.[plot]'\n"
    assert not (tmp_path / "out").exists()


def test_a_run_without_an_episode_is_one_sentence(tmp_path: Path, capsys):
    run = write_run(tmp_path / "run", "atari100k_pong", 0, [])
    assert plot.main([str(run), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "error: no run has finished an episode yet\n"
