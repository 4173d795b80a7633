"""Runs of our own: run folders, sweeps of such, and result files with a row for every finished training episode.

A result file lies in `results/<suite>/<task>.csv` and has the columns of `COLUMNS`; what a run did not record stays
empty. The `episodes.csv` of a run folder has `REQUIRED` and the environment's id, and its `config.yaml` says the rest.
A folder of danijar/dreamerv3 among them is read by `danijar`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.scores import danijar
from experiments.scores.protocol import SUITES, strip_prefix, suite_of
from experiments.scores.run import Facts, Run, ScoresError

REQUIRED = ("seed", "agent_steps", "env_frames", "updates", "score", "length")
COLUMNS = (*REQUIRED, "wall_seconds", "commit", "config_hash", "device", "size")
OURS = "ours"  # the method's name where the command line gives none
_CONFIG, _EPISODES = "config.yaml", "episodes.csv"


def read(path: Path, *, method: str) -> list[Run]:
    """All runs in a run folder, a result file, a copy of an `episodes.csv`, or a folder of any of them.

    A run that has not finished an episode is there, with empty arrays.

    Raises:
        ScoresError: nothing is there, or a file is not what it seems to be.
    """
    if not path.exists():
        raise ScoresError(f"{path} does not exist: give a run, a folder of runs, a result file or a reference's name")
    if path.is_file():
        return _read_file(path, method)
    if _is_run(path) or (path / _EPISODES).is_file():
        return _read_folder(path, method)
    found = [run for inner in _inside(path) for run in read(inner, method=method)]
    if not found:
        raise ScoresError(f"{path} holds no run: no folder with {_CONFIG} or {_EPISODES}, and no result file")
    return found


def _is_run(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() or ((folder / _EPISODES).is_file() and (folder / "run.json").is_file())


def _inside(folder: Path) -> Iterator[Path]:
    """Run folders and result files below a folder, none of them inside another run."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from [path] if _is_run(path) else _inside(path)
        elif path.suffix == ".csv" and path.name != _EPISODES and set(REQUIRED) <= set(header(path)):
            yield path


def header(path: Path) -> list[str]:
    """Names of the columns of a CSV file.

    Raises:
        ScoresError: it is no text.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError) as error:
        raise ScoresError(f"{path} cannot be read: {error}") from error


def _read_folder(folder: Path, method: str) -> list[Run]:
    config = _config(folder / _CONFIG)
    if danijar.wrote(config):
        return [danijar.read(folder, config, method=method)]
    size = str(config.get("size", ""))
    if (folder / _EPISODES).is_file():
        runs = _read_file(folder / _EPISODES, method, size=size)
        if runs:
            return runs
    env, seed = config.get("env"), config.get("seed")
    if not isinstance(env, str) or not env or not isinstance(seed, int):
        raise ScoresError(f"{folder} is no run: its {_CONFIG} names no env and seed")
    empty = np.zeros(0)
    suite = suite_of(env)
    facts = Facts(str(folder), env, size)
    return [Run(method, suite.name, strip_prefix(env), seed, empty, empty, facts=facts)]


def _config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ScoresError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ScoresError(f"{path} is no configuration of a run")
    return config


def _read_file(path: Path, method: str, *, size: str = "") -> list[Run]:
    lacking = [column for column in REQUIRED if column not in header(path)]
    if lacking:
        raise ScoresError(f"{path} is neither a run nor a result file: it has no column {', '.join(lacking)}")
    groups: dict[tuple[str, int, str, str], list[dict[str, str]]] = {}
    for number, row in _rows(path):
        for column in REQUIRED:
            row[column] = _number(row[column], f"{path} line {number}: {column}")
        key = row.get("env") or path.stem, int(row["seed"]), row.get("config_hash") or "", row.get("size") or size
        groups.setdefault(key, []).append(row)
    runs = []
    for (env, seed, config_hash, run_size), rows in groups.items():
        rows.sort(key=lambda row: float(row["env_frames"]))  # several environments, and a sweep's parts, may overlap
        frames, scores = (np.array([float(row[column]) for row in rows]) for column in ("env_frames", "score"))
        facts = Facts(
            source=str(path),
            env=env,
            size=run_size,
            config_hash=config_hash,
            commits=_distinct(rows, "commit"),
            devices=_distinct(rows, "device"),
            wall_seconds=_last_wall_seconds(rows, path),
        )
        suite = suite_of(env) if rows[0].get("env") else SUITES.get(path.parent.name) or suite_of(env)
        runs.append(Run(method, suite.name, strip_prefix(env), seed, frames, scores, facts=facts))
    return runs


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows; a last line that is still being written is left out."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(whole.splitlines())
    for row in reader:
        yield reader.line_num, {column: cell or "" for column, cell in row.items() if isinstance(column, str)}


def _number(cell: str, what: str) -> str:
    """The cell, once it is known to be a finite number."""
    try:
        if math.isfinite(float(cell)):
            return cell
    except ValueError:
        pass
    raise ScoresError(f"{what} is {cell!r}, not a number")


def _distinct(rows: list[dict[str, str]], column: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row[column] for row in rows if row.get(column)))


def _last_wall_seconds(rows: list[dict[str, str]], path: Path) -> float | None:
    cells = [row["wall_seconds"] for row in rows if row.get("wall_seconds")]
    return float(_number(cells[-1], f"{path}: wall_seconds")) if cells else None
