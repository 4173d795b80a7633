"""Execution: plans made in the model are carried out in the real environment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import MODEL, TRUTH, Quantity, bootstrap
from dreamer.dream.report.futures import any_action, expected_return, replay
from dreamer.dream.simulation import Simulation
from dreamer.dream.starts import select

PLANS = 32  # random action sequences per start
LENGTH = 25  # steps
STARTS = 16  # at most


def measure(bench: Bench) -> list[Quantity]:
    """Of random plans each contestant picks one for every start; all are carried out in the real environment."""
    rows = range(min(STARTS, len(bench.start.is_first)))
    start = select(bench.start, list(rows))
    plans = any_action(bench.truth.action_spec, (PLANS, LENGTH, len(rows)), seed=bench.seed)
    promised = {}
    for name, simulation in bench.simulations.items():
        bench.on_progress(f"{PLANS} plans in the {name}")
        promised[name] = _returns(simulation, start, plans, bench.seed)
    real = promised[TRUTH]
    chosen = {name: carried_out(values, real) for name, values in promised.items()}
    success = {
        name: [bootstrap(np.stack([mine, real.mean(axis=1), real.max(axis=1)], axis=1), seed=bench.seed,
                         statistic=success_share)]
        for name, mine in chosen.items()
    }  # fmt: skip
    gap = {name: [bootstrap(values.max(axis=1) - chosen[name], seed=bench.seed)] for name, values in promised.items()}
    return [
        Quantity(
            "success",
            "Plans carried out in the real environment",
            "share of what was possible",
            success,
            note=f"Best of {PLANS} random plans of {LENGTH} steps. 0: no better than any plan, 1: the best of them.",
        ),
        Quantity(
            "optimism",
            "What was promised of a plan minus what came of it",
            "return",
            {name: gap[name] for name in (MODEL, TRUTH)},
            higher_is_better=False,
            needs_controls=False,
        ),
    ]


def carried_out(promised: Float[np.ndarray, "N P"], real: Float[np.ndarray, "N P"]) -> Float[np.ndarray, " N"]:
    """Real return of the plan that promises most; of several that promise the same, their mean."""
    best = promised == promised.max(axis=1, keepdims=True)
    return (real * best).sum(axis=1) / best.sum(axis=1)


def success_share(rows: Float[np.ndarray, "N 3"]) -> float:
    """(chosen - mean) / (best - mean) of summed returns; 0 where every plan leads to the same."""
    chosen, mean, best = rows.mean(axis=0)
    return float((chosen - mean) / (best - mean)) if best > mean else 0.0


def _returns(simulation: Simulation, start: object, plans: np.ndarray, seed: int) -> Float[np.ndarray, "N P"]:
    return expected_return(replay(simulation, start, plans, seed=seed))[:, -1].T  # type: ignore[arg-type]
