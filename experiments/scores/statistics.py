"""Aggregates over tasks and seeds, and how sure they are: stratified bootstrap, as rliable does (Agarwal et al. 2021).

Scores are a list with an array `[..., n_t]` for each task t: its `n_t` seeds, normalised. Leading axes are resamples.
Tasks may have different numbers of seeds, which rliable does not allow; where they are equal, the figures are the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Scores = Sequence[np.ndarray]
RESAMPLES = 10_000
CONFIDENCE = 0.95
_AT_ONCE = 500  # resamples; those of 57 tasks are then a few MB
_PATIENCE = 2.0  # seconds of silence


class Estimate(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float


def mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the means over seeds."""
    return _task_means(scores).mean(axis=-1)


def median(scores: Scores) -> np.ndarray:
    """Median over tasks of the means over seeds."""
    return np.median(_task_means(scores), axis=-1)


def interquartile_mean(scores: Scores) -> np.ndarray:
    """Mean of the middle half of all runs of all tasks."""
    pooled = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    count = pooled.shape[-1]
    cut = count // 4
    return pooled[..., cut : count - cut].mean(axis=-1)


def optimality_gap(scores: Scores) -> np.ndarray:
    """How far the runs of all tasks stay below 1 on average; a run above 1 has no gap."""
    return np.maximum(0.0, 1.0 - np.concatenate(scores, axis=-1)).mean(axis=-1)


AGGREGATES: dict[str, Callable[[Scores], np.ndarray]] = {
    "mean": mean,
    "median": median,
    "IQM": interquartile_mean,
    "optimality gap": optimality_gap,
}


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """`[..., len(thresholds)]`: part of all runs of all tasks that score more than a threshold."""
    pooled = np.concatenate(scores, axis=-1)
    return (pooled[..., None, :] > thresholds[:, None]).mean(axis=-1)


def probability_of_improvement(scores: Scores, others: Scores) -> np.ndarray:
    """Mean over tasks of the chance that a run scores more than a run of the others; equal scores count half.

    Args:
        scores: of the method in question.
        others: of the method it is compared with, the same tasks in the same order.
    """
    chances = []
    for ours, theirs in zip(scores, others, strict=True):
        difference = ours[..., :, None] - theirs[..., None, :]
        chances.append(((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1)))
    return np.stack(chances, axis=-1).mean(axis=-1)


def aggregates(scores: Scores) -> dict[str, Estimate]:
    """Every aggregate with its interval."""

    def all_of(sample: Scores) -> np.ndarray:
        return np.stack([aggregate(sample) for aggregate in AGGREGATES.values()], axis=-1)

    values = all_of(scores)
    low, high = interval(bootstrap(scores, all_of))
    return {name: Estimate(*map(float, row)) for name, *row in zip(AGGREGATES, values, low, high, strict=True)}


def improvement(scores: Scores, others: Scores) -> Estimate:
    """The probability of improvement with its interval."""
    tasks = len(scores)
    samples = bootstrap([*scores, *others], lambda both: probability_of_improvement(both[:tasks], both[tasks:]))
    low, high = interval(samples)
    return Estimate(float(probability_of_improvement(scores, others)), float(low), float(high))


def bootstrap(
    scores: Scores, statistic: Callable[[Scores], np.ndarray], *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """`[resamples, ...]`: the statistic of scores whose seeds are drawn anew, with replacement, within each task.

    Args:
        scores: `[n_t]` for each task.
        statistic: of scores `[R, n_t]`, an array `[R, ...]`.
        resamples: how often.
        seed: of the draws, so that the same scores give the same interval.
    """
    random = np.random.default_rng(seed)
    parts, begun, told = [], time.monotonic(), False
    for start in range(0, resamples, _AT_ONCE):
        if told or time.monotonic() - begun > _PATIENCE:
            told = True
            print(f"\rbootstrap: {start:,} of {resamples:,} resamples", end="", file=sys.stderr, flush=True)
        count = min(_AT_ONCE, resamples - start)
        parts.append(statistic([task[random.integers(len(task), size=(count, len(task)))] for task in scores]))
    if told:
        print(f"\rbootstrap: {resamples:,} resamples{' ' * 20}", file=sys.stderr)
    return np.concatenate(parts)


def mean_and_band(curves: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of curves with gaps, and the 95 % bootstrap interval of it.

    Args:
        curves: `[seeds, points]`, NaN where a seed has no value.
        resamples: how often seeds are drawn anew.
        seed: of the draws.

    Returns:
        `[points]`, and `[2, points]` (NaN with a single seed); both NaN where less than half of the seeds have a value.
    """
    count = len(curves)
    known = ~np.isnan(curves)
    filled = np.where(known, curves, 0.0)
    enough = 2 * known.sum(axis=0) >= count

    def average(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.where(enough, (weights @ filled) / (weights @ known), np.nan)

    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    weights = (drawn[:, :, None] == np.arange(count)).sum(axis=1)  # how often each seed was drawn
    band = np.full((2, curves.shape[1]), np.nan)
    if count > 1 and enough.any():
        band[:, enough] = interval(average(weights)[:, enough])
    return average(np.ones(count)), band


def interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the central 95 % of samples along the first axis."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(samples, [tail, 100 - tail], axis=0)
    return low, high


def _task_means(scores: Scores) -> np.ndarray:
    return np.stack([task.mean(axis=-1) for task in scores], axis=-1)
