"""Trustworthy: are its probabilities honest, does it know when it does not know (G12), what can its errors cost?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import (
    FROZEN,
    MODEL,
    ORACLE,
    OTHER_START,
    SHUFFLED,
    TRUTH,
    Estimate,
    Quantity,
    auroc,
    bootstrap,
    calibration_error,
    curve,
    mean_of,
    spearman,
)
from dreamer.dream.report.futures import HORIZONS, Futures, expected_return
from dreamer.dream.report.lemma import return_bound
from dreamer.dream.report.twosample import distances

STEPS = (1, 5, 15)
ENTROPY = "prior_entropy"


def measure(bench: Bench) -> list[Quantity]:
    """Calibration of both heads, entropy against error where the model tells it, and the simulation lemma."""
    told = entropy(bench) if ENTROPY in bench.futures[MODEL].info else []
    return calibration(bench) + told + (lemma(bench) if bench.agent else [])


def calibration(bench: Bench) -> list[Quantity]:
    """Of the continue head and the reward head."""
    true = bench.futures[TRUTH]
    errors = {
        kind: {
            name: [_calibration(futures, true, step, kind, bench.seed) for step in STEPS]
            for name, futures in bench.futures.items()
        }
        for kind in ("continue", "reward")
    }
    return [
        Quantity(
            f"{kind}_calibration",
            f"Calibration error of the {kind} head",
            unit,
            errors[kind],
            axis="steps ahead",
            x=STEPS,
            headline=STEPS.index(15),
            higher_is_better=False,
            note="Mean distance between what was predicted and what happened, in ten bins of equal count.",
        )
        for kind, unit in (("continue", "probability"), ("reward", "share of the reward range"))
    ]


def entropy(bench: Bench) -> list[Quantity]:
    """Whether the prior's entropy tells the error that comes."""
    rows = entropy_and_error(bench)
    quantities = []
    for key, title, unit, statistic in (
        ("entropy_rank", "Prior entropy against the true error", "Spearman", _correlation),
        ("entropy_auroc", "Prior entropy tells large errors", "AUROC", _auroc),
    ):
        quantities.append(
            Quantity(
                key,
                title,
                unit,
                _ranked(rows, statistic, bench.seed),
                axis="steps ahead",
                x=STEPS,
                headline=STEPS.index(15),
                note="Mean entropy on the way against the error at its end, one row for each start. The ceiling is the "
                "error told by itself; the control is the entropy of another start.",
            )
        )
    return quantities


def lemma(bench: Bench) -> list[Quantity]:
    """What the simulation lemma makes of one-step errors, beside the error of the value that is observed."""
    assert bench.agent is not None
    discount = 1.0 - 1.0 / bench.agent.config.discount_horizon
    reward = np.append([bench.futures[name].reward for name in (TRUTH, MODEL)], 0.0)  # after an end it is 0
    bound = partial(return_bound, discount=discount, reward_range=float(np.ptp(reward)))
    distance, errors = distances(bench), value_errors(bench, discount)
    shown = [name for name in bench.simulations if name != SHUFFLED]  # whose rewards are of no range
    observed = {name: curve(errors[name], seed=bench.seed) for name in shown}
    bounds = {name: [_mapped(distance[name], partial(_bound_at, bound, k)) for k in HORIZONS] for name in shown}
    ratio = [
        _mapped(most, lambda value, error=error: value / max(error.mean, 1e-12)) if error else None
        for most, error in zip(bounds[MODEL], observed[MODEL], strict=True)
    ]
    ahead = {"axis": "steps ahead", "x": HORIZONS, "headline": HORIZONS.index(15), "needs_controls": False}
    at_least = "LOWER bound: from the one-step distance, of which the classifier finds a part only. "
    return [
        Quantity(
            "one_step_distance",
            "One-step distance to reality, at least",
            "total variation",
            {name: [distance[name]] for name in (MODEL, FROZEN, SHUFFLED, TRUTH) if name in distance},
            higher_is_better=False,
            note="LOWER bound: 2 * accuracy - 1 of a classifier that tells imagined steps from real ones, on steps "
            "that it was not shown. The real environment against itself has an accuracy of one half.",
        ),
        Quantity(
            "value_bound",
            "Simulation lemma: bound on the error of the value",
            "return",
            bounds,
            higher_is_better=False,
            note=f"{at_least}Range of the reward {np.ptp(reward):g}, discount {discount:.4f}.",
            **ahead,
        ),
        Quantity(
            "value_error",
            "Observed error of the value",
            "return",
            observed,
            higher_is_better=False,
            note="Mean over starts of |imagined - real| discounted return of single futures under the same actions: "
            "their chance adds to it.",
            **ahead,
        ),
        Quantity(
            "bound_over_observed",
            "Bound / observed",
            "ratio",
            {MODEL: ratio},
            higher_is_better=False,
            note="How much the lemma leaves open. Below 1 the classifier has missed something: its bound is a LOWER "
            "one. The interval is that of the bound.",
            **ahead,
        ),
    ]


def value_errors(bench: Bench, discount: float) -> dict[str, Float[np.ndarray, "N K"]]:
    """|imagined - real| discounted return of the first `HORIZONS` steps by contestant, means over the branches."""
    kept = [step - 1 for step in HORIZONS]
    true = expected_return(bench.futures[TRUTH], discount=discount)[:, kept]
    return {
        name: np.abs(expected_return(futures, discount=discount)[:, kept] - true).mean(axis=0).T
        for name, futures in bench.futures.items()
    }


def _bound_at(bound: Callable[..., float], steps: int, epsilon: float) -> float:
    return bound(epsilon=epsilon, steps=steps)


def _mapped(estimate: Estimate | None, function: Callable[[float], float]) -> Estimate | None:
    """Through an increasing function."""
    if estimate is None:
        return None
    return Estimate(function(estimate.mean), function(estimate.low), function(estimate.high), estimate.num)


def _calibration(predicted: Futures, true: Futures, step: int, kind: str, seed: int) -> Estimate | None:
    """Of all branches of a start together; only futures that went on until the step before."""
    reached = ~true.is_over[:, step - 2] if step > 1 else np.ones_like(true.is_over[:, 0])
    if kind == "continue":
        guess, fact = predicted.continue_prob[:, step - 1], true.continue_prob[:, step - 1]
    else:
        spread = max(float(np.ptp(np.append(true.reward, 0.0))), 1e-12)
        guess, fact = predicted.reward[:, step - 1] / spread, true.reward[:, step - 1] / spread
    units = np.stack([guess, fact, reached], axis=-1).swapaxes(0, 1).reshape(guess.shape[1], -1)
    units[~reached.any(axis=0)] = np.nan  # of such starts there is nothing to judge

    def statistic(rows: np.ndarray) -> float:
        flat = rows.reshape(-1, 3)
        flat = flat[flat[:, 2] == 1]
        return calibration_error(flat[:, 0], flat[:, 1])

    return bootstrap(units, seed=seed, statistic=statistic)


def entropy_and_error(bench: Bench) -> Float[np.ndarray, "N K 2"]:
    """Mean entropy until a step and the error there, means over the branches that go on; NaN where none does."""
    model, true = bench.futures[MODEL], bench.futures[TRUTH]
    columns = []
    for step in STEPS:
        alive = ~true.is_over[:, step - 1]
        entropy = model.info[ENTROPY][:, :step].mean(axis=1)
        error = bench.scale.distance(model.at(step), true.at(step))
        columns.append(np.stack([mean_of(values, alive, axis=0) for values in (entropy, error)], axis=-1))
    return np.stack(columns, axis=1)


def _ranked(
    rows: Float[np.ndarray, "N K 2"], statistic: Callable[[np.ndarray], float], seed: int
) -> dict[str, list[Estimate | None]]:
    """The model's, that of an oracle which tells the error itself, and that of entropies of other starts."""
    found: dict[str, list[Estimate | None]] = {MODEL: [], OTHER_START: [], ORACLE: []}
    for column in rows.swapaxes(0, 1):
        column = column[~np.isnan(column[:, 0])]
        other = np.random.default_rng(seed).permutation(column[:, 0])
        found[MODEL].append(bootstrap(column, seed=seed, statistic=statistic))
        found[OTHER_START].append(bootstrap(np.stack([other, column[:, 1]], axis=1), seed=seed, statistic=statistic))
        found[ORACLE].append(bootstrap(column[:, [1, 1]], seed=seed, statistic=statistic))
    return found


def _correlation(rows: np.ndarray) -> float:
    return spearman(rows[:, 0], rows[:, 1])


def _auroc(rows: np.ndarray) -> float:
    return auroc(rows[:, 0], rows[:, 1] > np.median(rows[:, 1]))
