"""The README's table of results, made from `experiments/results/<suite>/<task>.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.scores import own
from experiments.scores.comparison import compare
from experiments.scores.protocol import SUITES, suite_of
from experiments.scores.published import published, suites_of
from experiments.scores.run import Run, ScoresError
from experiments.scores.text import NOTHING, markdown, spread

REPOSITORY = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- results: made by experiments/table.py, not by hand -->", "<!-- end of results -->"
REFERENCE = "dreamerv3"
MEANINGLESS = {"smoke"}  # suites that only show that everything works


def renew(repository: Path = REPOSITORY) -> str:
    """Writes the table into the README; a sentence on what changed.

    Raises:
        ScoresError: the README has no place for it, or a result file is damaged.
    """
    path = repository / "README.md"
    text = path.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ScoresError(f"{path} has no place for the results: two lines, {BEGIN} and {END}")
    renewed = f"{before}{BEGIN}\n{table(repository / 'experiments' / 'results')}\n{END}{after}"
    if renewed == text:
        return "README.md is up to date"
    path.write_text(renewed, encoding="utf-8")
    return "README.md has a new table of results"


def table(results: Path) -> str:
    """A row for each task, size and configuration that has results.

    Raises:
        ScoresError: a result file is damaged.
    """
    headings = ["task", "env frames", "seeds", "score", REFERENCE, "device; size; commit", "hours a seed", "command"]
    examples = results.parent / "examples"
    rows = [
        _row(runs, example=examples / f"{path.parent.name}.yaml")
        for path in _files(results)
        for runs in _kinds(own.read(path, method=own.OURS))
    ]
    legend = (
        f"Score: mean over seeds ± standard deviation, training episodes of the suite's window; {REFERENCE}: published"
    )
    note = (
        " (seeds). *: not yet in the window, both at these frames."
        if any("*" in row[1] for row in rows)
        else " (seeds)."
    )
    return f"{markdown(headings, rows)}\n\n{legend}{note}"


def _files(results: Path) -> Iterator[Path]:
    """Result files as a sweep writes them; what else lies there is older or something else."""
    for path in sorted(results.glob("*/*.csv")):
        if path.parent.name not in MEANINGLESS and set(own.COLUMNS) <= set(own.header(path)):
            yield path


def _kinds(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but the seed, together."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault((run.facts.size, run.facts.config_hash), []).append(run)
    return list(kinds.values())


def _row(runs: Sequence[Run], *, example: Path) -> list[str]:
    """`example`: a suite with settings of its own, from which the runs come if there is such a file."""
    first = runs[0]
    suite = SUITES[first.suite]
    theirs = published(REFERENCE, suite.name) if suite.name in suites_of(REFERENCE) else []
    comparison = compare([*runs, *(run for run in theirs if run.task == first.task)], suite)
    row = comparison.rows[0]
    env = first.facts.env if suite_of(first.facts.env) is suite else f"{suite.prefix}{first.task}"
    absent = row.absent[own.OURS]
    frames = f"{suite.compared_at(row.frames):,}{' *' if row.frames and suite.window else ''}"
    score = spread(row.scores.get(own.OURS)).partition(" (")[0]  # the seeds have a column of their own
    devices = dict.fromkeys(device for run in runs for device in run.facts.devices)
    commits = dict.fromkeys(commit for run in runs for commit in run.facts.commits)
    origin = (", ".join(devices), first.facts.size, ", ".join(commits))
    seeds = ",".join(str(run.seed) for run in runs)
    size = f" --size {first.facts.size}" if first.facts.size else ""
    return [
        env,
        frames,
        ", ".join(str(run.seed) for run in runs if run.seed not in absent) or NOTHING,
        score,
        spread(row.scores.get(REFERENCE)),
        "; ".join(part or "unknown" for part in origin),
        _hours(runs),
        f"`python -m experiments.sweep experiments/examples/{example.name} --tasks {env} --seeds {seeds}`"
        if example.is_file()
        else f"`python -m dreamer.train --env {env}{size} --seed {first.seed}`",
    ]


def _hours(runs: Sequence[Run]) -> str:
    known = [run.facts.wall_seconds / 3600 for run in runs if run.facts.wall_seconds is not None]
    if not known:
        return NOTHING
    least, most = f"{min(known):.1f}", f"{max(known):.1f}"
    return least if least == most else f"{least} to {most}"
