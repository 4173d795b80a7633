"""What stays of a sweep: `RESULTS/<suite>/<task>.csv`, a row for every training episode of every finished trial."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dreamer.config import Config
from dreamer.presets import flatten, from_yaml
from dreamer.provenance import STARTS
from experiments import logged
from experiments.sweep.trials import Trial

RESULTS = Path(__file__).resolve().parents[1] / "results"
COLUMNS = (
    *("seed", "agent_steps", "env_frames", "updates", "score", "length"),
    *("wall_seconds", "commit", "config_hash", "device", "size"),
)
NOT_HASHED = (
    *("seed", "steps", "logdir", "preset", "device", "mesh", "init_from", "allow_config_change"),
    *("log.", "checkpoint.", "hosts."),
)


def write_results(trial: Trial, folder: Path) -> Path:
    """Writes the episodes of a finished trial into the table of its task, in place of earlier ones of the same seed.

    Args:
        trial: that has finished.
        folder: of the suite.

    Returns:
        The table.
    """
    return put_rows(folder / trial.variant / f"{trial.folder.parent.name}.csv", episode_rows(trial))


def put_rows(table: Path, rows: list[dict[str, str]]) -> Path:
    """Writes rows into a table, in place of earlier ones of the same seeds."""
    table.parent.mkdir(parents=True, exist_ok=True)
    seeds = {row["seed"] for row in rows}
    with _alone(table.parent):
        others = [row for row in _read(table) if row["seed"] not in seeds]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(others + rows, key=lambda row: (int(row["seed"]), int(row["agent_steps"]))))
        partial = table.with_suffix(".partial")
        partial.write_text(text.getvalue(), encoding="utf-8")
        os.replace(partial, table)
    return table


def episode_rows(trial: Trial) -> list[dict[str, str]]:
    """One row for each finished training episode, with all columns."""
    config = from_yaml(trial.folder / "config.yaml", problems=[])
    common = {"config_hash": config_hash(config), "size": config.size}
    clock, starts = _clock(trial.folder), logged.rows(trial.folder / STARTS)
    rows = []
    for row in _read(trial.folder / "episodes.csv"):
        steps = int(row["agent_steps"])
        # What a later start repeated is no longer there: the last start from below has made it.
        start = next((start for start in reversed(starts) if start["agent_steps"] < steps), {})
        seconds = "" if clock is None else f"{np.interp(steps, *clock):.1f}"
        facts = {"wall_seconds": seconds, "commit": start.get("commit", ""), "device": start.get("device", "")}
        rows.append({name: row[name] for name in COLUMNS[:6]} | facts | common)
    return rows


def config_hash(config: Config) -> str:
    """Ten digits, the same for runs that differ at most in seed, end, place (devices and their number too) and logs."""
    settings = {name: value for name, value in flatten(config).items() if not name.startswith(NOT_HASHED)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def _clock(folder: Path) -> tuple[list[int], list[float]] | None:
    """Agent steps, and seconds of training until then; pauses between two starts do not count."""
    rows = logged.rows(folder / "metrics.jsonl")
    if not rows:
        return None
    return [0, *(row["agent_steps"] for row in rows)], [0.0, *(row["seconds"] for row in rows)]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two sweeps of one suite may finish a trial at the same time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
