"""Numbers with intervals, and the form in which metrics hand them over. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 1000
COVERAGE = 0.95
FEWEST = 8  # units below which an interval would be a guess

MODEL, TRUTH = "model", "real environment"
BLIND, FROZEN, SHUFFLED = "action-blind", "frozen frame", "shuffled weights"
ORACLE, OTHER_START = "the error itself", "another start's"  # of what is compared with an error
NEGATIVE, POSITIVE = (BLIND, FROZEN, SHUFFLED, OTHER_START), (TRUTH, ORACLE)


class Estimate(NamedTuple):
    """A mean, or another statistic, with its bootstrap interval.

    Attributes:
        mean: of all units.
        low: lower end of the interval that covers the truth in 95 of 100 repetitions.
        high: upper end.
        num: units, in most metrics start states.
    """

    mean: float
    low: float
    high: float
    num: int


class Quantity(NamedTuple):
    """One measured thing, as a number or as a curve, of the model and of its controls.

    Attributes:
        key: name in the JSON.
        title: for a person.
        unit: of the values.
        axis: what `x` counts; empty where there is one number only.
        x: places on the axis.
        values: estimates at each place, by contestant; None where too few units are left for one.
        headline: which of the places is told first.
        higher_is_better: the truth is at the upper end.
        ideal: value of a perfect model, where more is as wrong as less.
        needs_controls: where the truth must lie clear of the negative controls; else there is nothing to separate.
        level: value that passes, if one is agreed on.
        note: what a reader has to know.
    """

    key: str
    title: str
    unit: str
    values: dict[str, list[Estimate | None]]
    axis: str = ""
    x: tuple[float, ...] = (0,)
    headline: int = 0
    higher_is_better: bool = True
    ideal: float | None = None
    needs_controls: bool = True
    level: float | None = None
    note: str = ""

    def verdict(self) -> str:
        """`not measurable`, `no better than a control`, `below level`, `pass`, or `measured` without a level.

        A quantity is measurable where the interval of the positive control lies clear of those of all negative
        controls: else a good value would not mean a good model.
        """
        own = self.at(MODEL)
        if own is None:
            return "not measurable"
        if self.needs_controls:
            positive = [estimate for name in POSITIVE if (estimate := self.at(name)) is not None]
            negative = [estimate for name in NEGATIVE if (estimate := self.at(name)) is not None]
            separate = [self._is_better(one, other) for one in positive for other in negative]
            if not separate or not all(separate):
                return "not measurable"
            if not all(self._is_better(own, other) for other in negative):
                return "no better than a control"
        if self.level is None:
            return "measured"
        return "pass" if (own.mean >= self.level) == self.higher_is_better or own.mean == self.level else "below level"

    def at(self, name: str) -> Estimate | None:
        """The headline of one contestant."""
        return self.values[name][self.headline] if name in self.values else None

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = {
            name: [None if estimate is None else estimate._asdict() for estimate in estimates]
            for name, estimates in self.values.items()
        }
        return {
            **{name: getattr(self, name) for name in ("title", "unit", "axis", "x", "headline", "level", "note")},
            **{name: getattr(self, name) for name in ("higher_is_better", "ideal")},
            "verdict": self.verdict(),
            "values": values,
        }

    def _is_better(self, one: Estimate, other: Estimate) -> bool:
        return one.low > other.high if self.higher_is_better else one.high < other.low


def bootstrap(
    units: Float[np.ndarray, "N ..."],
    *,
    seed: int,
    statistic: Callable[[np.ndarray], float] | None = None,
    fewest: int = FEWEST,
) -> Estimate | None:
    """A statistic of independent units with its percentile bootstrap interval.

    Args:
        units: one row each; rows whose first number is NaN do not count.
        seed: of the resampling.
        statistic: of such rows; the mean by default.
        fewest: with fewer units there is no estimate.
    """
    units = np.asarray(units, np.float64)
    units = units[~np.isnan(units.reshape(len(units), -1)[:, 0])]
    if len(units) < fewest:
        return None
    rows = np.random.default_rng(seed).integers(len(units), size=(RESAMPLES, len(units)))
    if statistic is None:
        whole, resampled = float(units.mean()), units[rows].mean(axis=1)
    else:
        whole, resampled = statistic(units), np.array([statistic(units[row]) for row in rows])
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Estimate(whole, float(low), float(high), len(units))


def curve(units: Float[np.ndarray, "N K"], *, seed: int) -> list[Estimate | None]:
    """An estimate for every column."""
    return [bootstrap(column, seed=seed) for column in np.asarray(units, np.float64).T]


def first_below(
    units: Float[np.ndarray, "N K"], level: float, *, places: Sequence[float], seed: int
) -> Estimate | None:
    """The first of the places `[K]` at which the mean is below a level; the last where it never is."""

    def statistic(rows: np.ndarray) -> float:
        below = np.flatnonzero(rows.mean(axis=0) < level)
        return float(places[below[0]] if len(below) else places[-1])

    return bootstrap(units, seed=seed, statistic=statistic)


def mean_of(values: np.ndarray, valid: np.ndarray, *, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean of the valid ones; NaN where there is none."""
    count = valid.sum(axis=axis)
    total = np.where(valid, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ranks(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[inverse]


def spearman(one: Float[np.ndarray, " N"], other: Float[np.ndarray, " N"]) -> float:
    """Rank correlation; 0 where one of both is constant and so ranks nothing."""
    a, b = (ranks(np.asarray(values, np.float64)) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def auroc(score: Float[np.ndarray, " N"], is_positive: np.ndarray) -> float:
    """Probability that a positive has the higher score than a negative, ties half; one half where a class is empty."""
    positive = int(is_positive.sum())
    negative = len(is_positive) - positive
    if not positive or not negative:
        return 0.5
    total = float(ranks(np.asarray(score, np.float64))[np.asarray(is_positive, bool)].sum())
    return (total - positive * (positive - 1) / 2) / (positive * negative)


def calibration_error(predicted: np.ndarray, happened: np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error: |mean prediction - mean outcome| over bins of equal count, weighted by their size.

    Equal predictions share a bin, since nothing tells them apart.
    """
    which = np.floor(ranks(predicted) / max(len(predicted), 1) * bins).astype(int)
    error = 0.0
    for index in np.unique(which):
        rows = which == index
        error += float(rows.mean()) * abs(float(predicted[rows].mean() - happened[rows].mean()))
    return error
