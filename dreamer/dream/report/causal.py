"""Causal: does the model know what an action changes, and does nothing change what came before it (G1)?"""

from __future__ import annotations

import numpy as np

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.distance import Scale
from dreamer.dream.report.estimate import MODEL, TRUTH, Estimate, Quantity, curve, mean_of
from dreamer.dream.report.futures import HORIZONS, Futures, any_action, replay
from dreamer.dream.simulation import Simulation, Start

FLOOR = 1e-9  # distance at or below which two true outcomes are the same; forks carry their randomness with them
BIT_STEPS = 10  # of the bit test, whose actions change in the middle


def measure(bench: Bench) -> list[Quantity]:
    """Counterfactual discrimination accuracy at `HORIZONS`, and the bit test."""
    true = bench.futures[TRUTH]
    values = {
        name: curve(discrimination(futures, true, bench.scale), seed=bench.seed)
        for name, futures in bench.futures.items()
    }
    quantity = Quantity(
        "cda",
        "Counterfactual discrimination (CDA)",
        "share",
        values,
        axis="steps ahead",
        x=HORIZONS,
        headline=_furthest(values[TRUTH]),
        level=0.9,
        note="Two action sequences are tried from the same start: is the future that was predicted for one nearer to "
        "what that one really led to than to what the other did? Chance is exactly 0.5.",
    )
    if not bench.actions.size:
        return [quantity]
    bits = {name: curve(bit_test(sim, bench.start, seed=bench.seed), seed=bench.seed) for name, sim in _bit(bench)}
    return [
        quantity,
        Quantity(
            "bit_test",
            "Bit test: the past does not change with later actions",
            "share",
            bits,
            level=1.0,
            needs_controls=False,
            note="Share of outputs at or before a step that stay bit-identical when the actions after it change. Below "
            "1, the model sees actions before they are taken. In the real environment it says that a fork repeats "
            "itself exactly, so that its noise floor is 0.",
        ),
    ]


def discrimination(predicted: Futures, true: Futures, scale: Scale) -> np.ndarray:
    """Shares of comparisons that are right `[N, K]`, one row for each start; NaN where nothing can be compared.

    Every ordered pair of branches is compared, so that both orders count. A pair counts where both true futures go on
    and differ by more than the noise floor; a tie is half right.
    """
    shares = []
    for step in HORIZONS:
        x, guess, alive = true.at(step), predicted.at(step), ~true.is_over[:, step - 1]
        own = scale.distance(guess, x)  # [M, N]
        right, valid = [], []
        for shift in range(1, len(alive)):
            other = {key: np.roll(array, -shift, axis=0) for key, array in x.items()}
            crossed = scale.distance(guess, other)
            differ = scale.distance(x, other) > FLOOR
            right.append(np.where(own == crossed, 0.5, own < crossed))
            valid.append(alive & np.roll(alive, -shift, axis=0) & differ)
        shares.append(mean_of(np.stack(right), np.stack(valid), axis=(0, 1)))
    return np.stack(shares, axis=-1)


def bit_test(simulation: Simulation, start: Start, *, seed: int) -> np.ndarray:
    """Share of the outputs at or before a step that are bit-identical when actions after it change, `[N, 1]`."""
    num, middle = len(start.is_first), BIT_STEPS // 2
    actions = any_action(simulation.action_spec, (2, BIT_STEPS, num), seed=seed)
    actions[1, :middle] = actions[0, :middle]
    futures = replay(simulation, start, actions, seed=seed)
    arrays = [*futures.observation.values()]
    kept = [array[:, :middle] for array in (futures.reward, futures.continue_prob, *futures.info.values())]
    kept += [array[:, :middle] for array in arrays]  # the first five steps are all kept
    same = [(array[0] == array[1]).swapaxes(0, 1).reshape(num, -1).mean(axis=1) for array in kept]
    return np.mean(same, axis=0)[:, None]


def _bit(bench: Bench) -> list[tuple[str, Simulation]]:
    return [(name, simulation) for name, simulation in bench.simulations.items() if name in (MODEL, TRUTH)]


def _furthest(truth: list[Estimate | None]) -> int:
    """15 steps, or fewer where hardly any future is as long."""
    wanted = HORIZONS.index(15)
    return next((index for index in range(wanted, -1, -1) if truth[index] is not None), 0)
