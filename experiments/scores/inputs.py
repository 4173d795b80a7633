"""The command line that table and plot share: what to read, and for which suite."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamer.presets import did_you_mean
from experiments.scores import own
from experiments.scores.protocol import SUITES, Suite
from experiments.scores.published import METHODS, published, suites_of
from experiments.scores.run import Run, ScoresError


@dataclass(frozen=True)
class Selection:
    """The runs of one suite: those that were named, then those of the methods that they are compared with."""

    runs: list[Run]
    suite: Suite
    against: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUNS and the flags that choose among them."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS",
        help="run folders (ours, danijar/dreamerv3's), folders of such, result files, or a published method "
        f"({', '.join(METHODS)}); NAME=PATH gives the runs of a path a name of their own",
    )  # fmt: skip
    parser.add_argument("--against", default="", metavar="METHODS", help="published methods, such as dreamerv3,ppo")
    parser.add_argument("--suite", choices=SUITES, help="where RUNS are of several suites")
    parser.add_argument("--size", default="", help="only runs of this size, such as 12m")
    parser.add_argument(
        "--at", type=_frames, metavar="FRAMES", help="compare at so many env frames, such as 100k, not by the protocol"
    )


def select(arguments: argparse.Namespace) -> Selection:
    """Reads what `add_arguments` has parsed.

    Raises:
        ScoresError: nothing is there, several suites are, or a method has no scores for the suite.
    """
    specs = list(dict.fromkeys(arguments.runs))
    against = list(dict.fromkeys(name for name in arguments.against.split(",") if name))
    for name in against:
        _require_method(name)
    mine = [run for spec in specs if spec not in METHODS for run in _own(spec)]
    if arguments.size:
        mine = _of_size(mine, arguments.size)
    names = [spec for spec in specs if spec in METHODS]
    suite = SUITES[_suite(mine, [*names, *against], arguments.suite)]
    mine = [run for run in mine if run.suite == suite.name]
    theirs = [run for name in dict.fromkeys([*names, *against]) for run in published(name, suite.name)]
    return Selection([*mine, *theirs], suite, against)


def _frames(text: str) -> int:
    units = {"k": 1_000, "m": 1_000_000}
    try:
        frames = int(float(text[:-1]) * units[text[-1].lower()]) if text[-1:].lower() in units else int(text)
    except ValueError:
        frames = 0
    if frames < 1:
        raise argparse.ArgumentTypeError(f"expected env frames, such as 100k or 400000, not {text!r}")
    return frames


def _own(spec: str) -> list[Run]:
    method, separator, path = spec.partition("=")
    if not separator or Path(spec).exists():
        method, path = own.OURS, spec
    if not method or method in METHODS:
        raise ScoresError(f"{spec}: {method or 'nothing'!r} cannot be the name of runs of your own")
    if not Path(path).exists() and (near := did_you_mean(path, list(METHODS))):
        raise ScoresError(f"{path} does not exist; did you mean the reference {near}?")
    return own.read(Path(path), method=method)


def _require_method(name: str) -> None:
    if name not in METHODS:
        near = did_you_mean(name, list(METHODS))
        hint = f"; did you mean {near}?" if near else ""
        raise ScoresError(f"unknown reference {name!r}{hint} (there are {', '.join(METHODS)})")


def _of_size(runs: Sequence[Run], size: str) -> list[Run]:
    kept = [run for run in runs if run.facts.size == size]
    if runs and not kept:
        sizes = ", ".join(sorted({run.facts.size or "unknown" for run in runs}))
        raise ScoresError(f"no run has the size {size!r}; there are {sizes}")
    return kept


def _suite(own_runs: Sequence[Run], methods: Sequence[str], wanted: str | None) -> str:
    """The one suite that is meant."""
    counts = {name: sum(run.suite == name for run in own_runs) for name in SUITES}
    found = [name for name, count in counts.items() if count]
    if not own_runs:
        found = [name for name in SUITES if all(name in suites_of(method) for method in methods)]
    if wanted and wanted not in found and own_runs:
        raise ScoresError(f"no run of {wanted}; there are runs of {', '.join(found)}")
    if wanted:
        return wanted
    if not found:
        raise ScoresError(f"no suite has scores of {' and '.join(methods)}")
    if len(found) > 1:
        what = ", ".join(f"{name} ({counts[name]})" if own_runs else name for name in found)
        raise ScoresError(f"a table is of one suite, and these are several: {what}. Choose one with --suite.")
    return found[0]
