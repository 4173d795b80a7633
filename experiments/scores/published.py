"""The published scores of `experiments/reference` as runs."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Sequence

import numpy as np

from experiments.scores.protocol import REFERENCE, SUITES, strip_prefix
from experiments.scores.run import Run, ScoresError

METHODS = {"dreamerv3": "dreamerv3", "ppo": "ppo_fixhp", "muzero": "muzero"}  # our name: that of the files


def published(method: str, suite: str) -> list[Run]:
    """All seeds of a published method on a suite, with the scores that its source states.

    Raises:
        ScoresError: no such method, or it has no scores for this suite.
    """
    if method not in METHODS:
        raise ScoresError(f"unknown reference {method!r}: there are {', '.join(METHODS)}")
    if suite not in suites_of(method):
        raise ScoresError(f"{method} has no scores for {suite}, only for {', '.join(suites_of(method))}")
    name = METHODS[method]
    curves, stated = _curves(suite).get(name, {}), _finals(suite).get(name)
    empty: list[tuple[int, float]] = []
    runs = []
    for task, seed in sorted(set(curves) | set(stated or {})):
        points = np.array(curves.get((task, seed), empty), dtype=np.float64).reshape(-1, 2)
        score = None if stated is None else stated.get((task, seed), math.nan)
        runs.append(Run(method, suite, task, seed, points[:, 0], points[:, 1], binned=True, stated=score))
    return runs


@functools.cache
def suites_of(method: str) -> Sequence[str]:
    """Suites for which a method has scores."""
    return [suite.name for suite in SUITES.values() if suite.window and METHODS[method] in _curves(suite.name)]


@functools.cache
def _curves(suite: str) -> dict[str, dict[tuple[str, int], list[tuple[int, float]]]]:
    """By method, task and seed: frames and scores, ascending."""
    found: dict[str, dict[tuple[str, int], list[tuple[int, float]]]] = {}
    with (REFERENCE / f"{suite}.csv").open(encoding="utf-8") as file:
        for task, method, seed, frames, score in list(csv.reader(file))[1:]:
            key = strip_prefix(task), int(seed)
            found.setdefault(method, {}).setdefault(key, []).append((int(frames), float(score)))
    return {method: {key: sorted(points) for key, points in runs.items()} for method, runs in found.items()}


@functools.cache
def _finals(suite: str) -> dict[str, dict[tuple[str, int], float]]:
    """By method, task and seed: the score of the protocol, NaN where no episode ended in its window."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    with (REFERENCE / f"{suite}_final.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = strip_prefix(row["task"]), int(row["seed"])
            found.setdefault(row["method"], {})[key] = float(row["score"]) if row["score"] else math.nan
    return found
