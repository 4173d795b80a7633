"""Interactive: for how long do the actions matter to what is predicted (G2)?"""

from __future__ import annotations

import numpy as np

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.distance import Scale
from dreamer.dream.report.estimate import MODEL, TRUTH, Estimate, Quantity, bootstrap, curve, mean_of
from dreamer.dream.report.futures import KEPT, Futures
from dreamer.dream.report.inverse import action_accuracy

STABLE_SHARE = 0.1  # of the gap when actions begin to show; below it play is no longer controlled


def measure(bench: Bench) -> list[Quantity]:
    """The controllability curve, its half-life, seconds of stable play, and inverse-dynamics accuracy."""
    gaps = {name: gap(futures, bench.futures[TRUTH], bench.scale) for name, futures in bench.futures.items()}
    values = {name: curve(rows, seed=bench.seed) for name, rows in gaps.items()}
    first = first_effect(values[TRUTH])
    half = {name: [_time_above(rows, 0.5, first, bench.seed)] for name, rows in gaps.items() if name in (MODEL, TRUTH)}
    stable = {
        name: [_scaled(_time_above(rows, STABLE_SHARE, first, bench.seed), bench.truth.seconds_per_step)]
        for name, rows in gaps.items()
        if name in (MODEL, TRUTH)
    }
    accuracy = {name: curve(rows, seed=bench.seed) for name, rows in action_accuracy(bench).items()}
    return [
        Quantity(
            "gap",
            "Controllability D_k",
            "dB",
            values,
            axis="steps ahead",
            x=KEPT,
            headline=first,
            note="PSNR under the right actions minus that under others of the same distribution; 0: the actions make "
            "no difference to how right the prediction is. PSNR is capped at 60 dB.",
        ),
        Quantity(
            "half_life",
            "Half-life of controllability",
            "steps",
            half,
            needs_controls=False,
            note=f"First step at which D_k is below half of D_{KEPT[first]}; {KEPT[-1]} where it never is.",
        ),
        Quantity(
            "stable_play",
            "Stable play",
            "s",
            stable,
            needs_controls=False,
            note=f"Real time until D_k is below a tenth of D_{KEPT[first]}; at most the {KEPT[-1]} steps looked at.",
        ),
        Quantity(
            "inverse_dynamics",
            "Inverse dynamics: actions read from the prediction",
            "share",
            accuracy,
            note="A network is trained on real pairs from half of the starts and asked about the others. The value of "
            "the real environment is what can be read at all; of continuous actions it is the explained variance.",
        ),
    ]


def gap(predicted: Futures, true: Futures, scale: Scale) -> np.ndarray:
    """D_k in dB for every start at the steps `KEPT`, `[N, S]`; NaN where no two true futures go on."""
    gaps = []
    for step in KEPT:
        x, guess, alive = true.at(step), predicted.at(step), ~true.is_over[:, step - 1]
        own = scale.psnr(x, guess)  # [M, N]
        difference, valid = [], []
        for shift in range(1, len(alive)):
            other = {key: np.roll(array, -shift, axis=0) for key, array in guess.items()}
            difference.append(own - scale.psnr(x, other))
            valid.append(alive & np.roll(alive, -shift, axis=0))
        gaps.append(mean_of(np.stack(difference), np.stack(valid), axis=(0, 1)))
    return np.stack(gaps, axis=-1)


def first_effect(true: list[Estimate | None]) -> int:
    """Index of the first step at which actions show in reality; 0 where they never do. A force moves pixels later."""
    clear = [index for index, one in enumerate(true) if one is not None and one.low > 0]
    return clear[0] if clear else 0


def time_above(gaps: np.ndarray, share: float, first: int = 0) -> float:
    """First step at which the mean gap is below a share of that at index `first`; the last step where it never is."""
    count = (~np.isnan(gaps)).sum(axis=0)
    mean = np.where(count > 0, np.nansum(gaps, axis=0) / np.maximum(count, 1), np.nan)[first:]
    below = np.flatnonzero(mean < share * mean[0]) if mean[0] > 0 else np.array([0])
    return float(KEPT[first + below[0]] if len(below) else KEPT[-1])


def _time_above(gaps: np.ndarray, share: float, first: int, seed: int) -> Estimate | None:
    def statistic(rows: np.ndarray) -> float:
        return time_above(rows, share, first)

    return bootstrap(gaps, seed=seed, statistic=statistic)


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None:
        return None
    return estimate._replace(mean=estimate.mean * factor, low=estimate.low * factor, high=estimate.high * factor)
