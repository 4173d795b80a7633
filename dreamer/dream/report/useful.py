"""Useful: does it rank policies as the world does, and for how many steps are its returns right (G3, G7)?

And does the policy that was trained in it fool it? The optimism gap says by how much it is thought better than it is.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import TRUTH, Estimate, Quantity, bootstrap, curve, spearman
from dreamer.dream.report.futures import KEPT, STEPS, expected_return, follow

LEVELS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)  # shares of random actions: the policies that are ranked
AGENT, RANDOM = LEVELS.index(0.0), LEVELS.index(1.0)
TOLERANCE = 0.05  # of the range of the reward per step, below which a return is usable


def measure(bench: Bench) -> list[Quantity]:
    """Ranking of policies, optimism gap, and the usable horizon."""
    returns = policy_returns(bench)
    ranking, regret = {}, {}
    for name, imagined in returns.items():
        pairs = np.concatenate([imagined, returns[TRUTH]], axis=1)
        ranking[name] = [bootstrap(pairs, seed=bench.seed, statistic=_rank_correlation)]
        regret[name] = [bootstrap(pairs, seed=bench.seed, statistic=regret_at_1)]
    errors = return_errors(bench)
    horizons = {name: [bootstrap(rows, seed=bench.seed, statistic=usable_horizon)] for name, rows in errors.items()}
    kept = [step - 1 for step in KEPT]
    policies = f"{len(LEVELS)} policies: this agent with {', '.join(f'{100 * level:g}' for level in LEVELS)} % random "
    policies += f"actions, {STEPS} steps each."
    return [
        Quantity(
            "ranking",
            "Ranking of policies by imagined return",
            "Spearman",
            ranking,
            note=f"{policies} A run keeps too few checkpoints to be ranked, so its last one is made worse. The "
            "interval covers other starts, not other policies.",
        ),
        Quantity(
            "regret",
            "Regret of its favourite policy",
            "share of the range",
            regret,
            higher_is_better=False,
            note="Real return lost by choosing the policy that the model likes best (regret@1). Where it likes several "
            "equally, the mean over these.",
        ),
        optimism(returns, seed=bench.seed),
        Quantity(
            "return_error",
            "Error of the return per step",
            "share of the reward range",
            {name: curve(rows[:, kept], seed=bench.seed) for name, rows in errors.items()},
            axis="steps ahead",
            x=KEPT,
            headline=KEPT.index(15),
            higher_is_better=False,
        ),
        Quantity(
            "usable_horizon",
            "Usable horizon H*",
            "steps",
            horizons,
            note=f"The last step up to which the error of the return per step stays within {TOLERANCE:g} of the range "
            f"of rewards; at most the {STEPS} steps that were looked at.",
        ),
    ]


def optimism(returns: dict[str, Float[np.ndarray, "N K"]], *, seed: int) -> Quantity:
    """The optimism gap G = (J^(pi*) - J(pi*)) / (J(pi_best) - J(pi_rand)) of policies as `policy_returns` gives them.

    J^ is the return in the contestant, J that in the real environment; pi* is the agent as it is.
    """
    real = returns[TRUTH]
    means = real.mean(axis=0)
    best, scale = int(means.argmax()), float(means.max() - means[RANDOM])
    values: dict[str, list[Estimate | None]] = {
        name: [bootstrap((imagined[:, AGENT] - real[:, AGENT]) / scale, seed=seed) if scale > 0 else None]
        for name, imagined in returns.items()
    }
    note = f"Return of this agent as imagined minus as it is, over {STEPS} steps, in units of what its best version is "
    note += (
        f"better than random actions: {scale:.3g}. 0: the model is right about it; above: it has learned to fool it."
    )
    difference = bootstrap(real[:, best] - real[:, RANDOM], seed=seed)
    if difference is None or difference.low <= 0:
        note += " Here none is surely better than random actions, so that the unit, and with it the gap, is uncertain."
    return Quantity(
        "optimism_gap",
        "Optimism gap of the trained policy",
        "share of best - random",
        values,
        higher_is_better=False,
        ideal=0.0,
        needs_controls=False,
        note=note,
    )


def policy_returns(bench: Bench) -> dict[str, Float[np.ndarray, "N K"]]:
    """Returns of each policy from each start, by contestant. Every policy acts by what the contestant shows."""
    if bench.agent is None:
        raise ValueError("policies are made from an agent; this bench has none")
    returns = {}
    for name, simulation in bench.simulations.items():
        columns = []
        for index, level in enumerate(LEVELS):  # with the same random numbers, so that they differ by level only
            bench.on_progress(f"policy {index + 1} of {len(LEVELS)} in the {name}")
            futures, _ = follow(simulation, bench.start, bench.agent, random_share=level, steps=STEPS, seed=bench.seed)
            columns.append(expected_return(futures)[0, -1])
        returns[name] = np.stack(columns, axis=1)
    return returns


def return_errors(bench: Bench) -> dict[str, Float[np.ndarray, "N H"]]:
    """|imagined - real return| of the first k steps, per step and in units of the reward's range, by contestant."""
    true = expected_return(bench.futures[TRUTH])
    reward = bench.futures[TRUTH].reward
    spread = max(float(max(reward.max(), 0.0) - min(reward.min(), 0.0)), 1e-12)  # after an end the reward is 0
    steps = np.arange(1, STEPS + 1)[None, :, None]
    return {
        name: (np.abs(expected_return(futures) - true) / (steps * spread)).mean(axis=0).T
        for name, futures in bench.futures.items()
    }


def usable_horizon(errors: Float[np.ndarray, "N H"]) -> float:
    """Last step until which the mean error stays within the tolerance."""
    above = np.flatnonzero(errors.mean(axis=0) > TOLERANCE)
    return float(above[0] if len(above) else errors.shape[1])


def regret_at_1(pairs: Float[np.ndarray, "N 2K"]) -> float:
    """(best real return - that of the policy imagined to be best) / (best - worst); 0 where all are equal."""
    imagined, real = np.split(pairs.mean(axis=0), 2)
    spread = float(real.max() - real.min())
    chosen = real[imagined == imagined.max()].mean()
    return float(real.max() - chosen) / spread if spread > 0 else 0.0


def _rank_correlation(pairs: Float[np.ndarray, "N 2K"]) -> float:
    imagined, real = np.split(pairs.mean(axis=0), 2)
    return spearman(imagined, real)
