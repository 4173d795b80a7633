"""`python -m experiments.gpu.measure --minutes 10 --out FOLDER`: all that a GPU is to tell, in order of worth.

Nobody needs to watch: every measurement is a process with a time limit, its result is written at once, a failure is
kept with its last lines and the next one goes on, and the whole ends before its deadline. Called again with the same
folder it goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.gpu.measurements import JSON, MEASUREMENTS, Figure, Measurement
from experiments.gpu.process import CHANGING, STATIC, gpu_facts, run

CLOSING = 5.0  # seconds before the deadline in which nothing runs any more
PATIENCE = 5  # a rehearsal's limits are so many times as long: a CPU compiles for minutes
RESULTS, SUMMARY = "results.json", "summary.txt"


class Results:
    """What has been measured, in a file that is whole at any moment.

    Args:
        folder: for the file.
        miniature: whether these are rehearsals, which never share a file with results.

    Raises:
        ValueError: the file holds the other kind.
    """

    def __init__(self, folder: Path, *, miniature: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / RESULTS
        self._content: dict[str, Any] = {"miniature": miniature, "sessions": [], "measurements": {}}
        if self._path.exists():
            self._content = json.loads(self._path.read_text())
            if self._content["miniature"] != miniature:
                kind = "a rehearsal" if self._content["miniature"] else "results of a GPU"
                raise ValueError(f"{self._path} holds {kind}: name another --out")

    def begin_session(self, facts: Mapping[str, Any]) -> None:
        """Notes a call of this command and the machine that it found."""
        self._content["sessions"].append(dict(facts))
        self._write()

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Keeps what came of a measurement, in place of what came of it before."""
        self._content["measurements"][name] = dict(record)
        self._write()

    def get(self, name: str) -> dict[str, Any] | None:
        """What came of a measurement, None before it was tried."""
        return self._content["measurements"].get(name)

    def _write(self) -> None:
        whole = self._path.with_suffix(".tmp")
        whole.write_text(json.dumps(self._content, indent=1) + "\n")
        os.replace(whole, self._path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures until all is done or the time is over; exit code 1 if a measurement failed."""
    begin = time.monotonic()
    arguments = parse(argv)
    if not arguments.miniature and not gpu_facts(STATIC):
        print("error: no NVIDIA GPU is visible (nvidia-smi): rehearse on a CPU with --miniature", file=sys.stderr)
        return 1
    plan = [measurement for measurement in MEASUREMENTS if measurement.name in arguments.only]
    try:
        results = Results(arguments.out, miniature=arguments.miniature)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results.begin_session(session_facts(arguments))
    failed = measure(plan, results, deadline=begin + 60 * arguments.minutes, miniature=arguments.miniature)
    text = summary(plan, results, miniature=arguments.miniature)
    (arguments.out / SUMMARY).write_text(text + "\n")
    print(text, flush=True)
    return 1 if failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [measurement.name for measurement in MEASUREMENTS]
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.measure", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which everything has ended")
    parser.add_argument("--out", type=Path, required=True, help=f"folder of {RESULTS} and {SUMMARY}")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--miniature", action="store_true", help="a rehearsal with tiny networks on a CPU")
    return parser.parse_args(argv)


def session_facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """When this call began and what it found."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "minutes": arguments.minutes,
        "host": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "gpu": gpu_facts(STATIC + CHANGING),
    }


def measure(plan: Sequence[Measurement], results: Results, *, deadline: float, miniature: bool) -> list[str]:
    """Runs what is missing, what failed before last; returns the names of what failed now.

    Args:
        plan: in order of worth.
        results: gets every outcome at once.
        deadline: on the monotonic clock.
        miniature: whether to rehearse.
    """
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        environment = surroundings(Path(scratch), miniature=miniature)
        for measurement in missing(plan, results):
            left = deadline - CLOSING - time.monotonic()
            if left < measurement.least:
                continue  # a shorter one may still fit
            print(f"{measurement.name} ...", flush=True)
            seconds = min(measurement.limit * (PATIENCE if miniature else 1), left)
            record = carry_out(
                measurement, seconds=seconds, environment=environment, scratch=Path(scratch), miniature=miniature
            )
            results.add(measurement.name, record)
            print(f"  {record['status']} after {record['seconds']:.0f} s", flush=True)
            failed += [measurement.name] * (record["status"] != "ok")
    return failed


def missing(plan: Sequence[Measurement], results: Results) -> list[Measurement]:
    """What has no good result yet: first what was never tried."""
    todo = [measurement for measurement in plan if (results.get(measurement.name) or {}).get("status") != "ok"]
    return sorted(todo, key=lambda measurement: results.get(measurement.name) is not None)


def surroundings(scratch: Path, *, miniature: bool) -> dict[str, str]:
    """Environment variables: an accelerator or none at all, and programs compiled once for all measurements.

    A rehearsal asks the compiler for little: its figures mean nothing.
    """
    rehearsal = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "True"}
    return {
        **os.environ,
        **(rehearsal if miniature else {"JAX_PLATFORMS": "cuda"}),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }


def carry_out(
    measurement: Measurement, *, seconds: float, environment: Mapping[str, str], scratch: Path, miniature: bool
) -> dict[str, Any]:
    """One measurement as a record: status, time, command, GPU, and its figures or its last words."""
    path = scratch / f"{measurement.name}.json"
    command = [*measurement.command, *(measurement.small if miniature else ())]
    flags = " ".join(filter(None, [environment.get("XLA_FLAGS", ""), measurement.xla_flags]))
    outcome = run(
        [sys.executable, *(part.replace(JSON, str(path)) for part in command)],
        seconds=seconds,
        environment={**environment, "XLA_FLAGS": flags},
    )
    record = {**outcome._asdict(), "seconds": round(outcome.seconds, 1), "command": " ".join(command)}
    record |= {"xla_flags": flags}
    if outcome.status != "ok":
        return record
    try:
        figures = json.loads(path.read_text())
        for figure in measurement.figures:
            figure.read(figures)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return {**record, "status": "failed", "last_lines": f"{outcome.last_lines}\nno figures: {error!r}"}
    return {**record, "figures": figures}


def summary(plan: Sequence[Measurement], results: Results, *, miniature: bool) -> str:
    """A table of the figures beside their targets, then what failed and what was not reached."""
    lines = [f"{'measurement':<30}{'figure':<34}{'value':>12}    target"]
    if miniature:
        lines.insert(0, "CPU MINIATURE: a rehearsal with tiny networks; no figure says anything about a target")
    failures, unreached = [], []
    for measurement in plan:
        record = results.get(measurement.name)
        if record is None:
            unreached.append(measurement.name)
        elif record["status"] == "ok":
            lines += [
                _row(measurement, figure, record["figures"], miniature=miniature) for figure in measurement.figures
            ]
        else:
            last = (record["last_lines"].splitlines() or ["nothing was printed"])[-1]
            ended = f"{record['status']} after {record['seconds']:.0f} s (exit code {record['exit_code']})"
            failures.append(f"{measurement.name:<30}{ended}: {last}")
    return "\n".join([*lines, *failures, f"not reached: {', '.join(unreached) or 'nothing'}"])


def _row(measurement: Measurement, figure: Figure, figures: dict[str, Any], *, miniature: bool) -> str:
    value = figure.read(figures)
    met = None if miniature else figure.met(value)
    verdict = "" if met is None else " (met)" if met else " (MISSED)"
    row = f"{measurement.name:<30}{figure.label:<34}{value:>12,.2f} {figure.unit:<3}{figure.target}{verdict}"
    return row.rstrip()


if __name__ == "__main__":
    sys.exit(main())
