"""How far imagined steps are from real ones, at least: a classifier is asked to tell them apart.

Total variation is at least 2 * accuracy - 1 for every classifier, whatever it looks at: a better one could only find
more. So the figure is a lower bound, and so is what the simulation lemma makes of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from dreamer.dream.report.bench import CONTEXT, Bench
from dreamer.dream.report.estimate import TRUTH, Estimate, bootstrap
from dreamer.dream.report.futures import RANDOM_SHARE, Futures, follow, replay
from dreamer.dream.report.inverse import flatten
from dreamer.dream.starts import PlayedStarts, select

TIMES, SPACING = 8, 4  # transitions for each start of the report, and steps of play between two of them
COMPONENTS = 32  # principal ones of an observation, and of its change, that the classifier sees
UNITS, RIDGE = 128, 1.0  # random features, and how much their weights are held back

Rows = Float[np.ndarray, "N D"]
Compress = Callable[[Rows], Rows]


def distances(bench: Bench) -> dict[str, Estimate | None]:
    """Lower bounds of the total variation between a contestant's steps and real ones, from the same moments.

    Raises:
        NotForkedError: the environment cannot be forked.
    """
    bench.on_progress("single steps, real and imagined")
    rows = steps(bench)
    return {
        name: bootstrap(told_apart(rows[TRUTH], imagined, seed=bench.seed), seed=bench.seed, statistic=total_variation)
        for name, imagined in rows.items()
    }


def total_variation(accuracy: np.ndarray) -> float:
    """What an accuracy says of the total variation, at least."""
    return max(0.0, 2.0 * float(accuracy.mean()) - 1.0)


def steps(bench: Bench) -> dict[str, Rows]:
    """By contestant, what was there, what was done and what came: observation, action, next one, reward, continue."""
    num, simulations = len(bench.start.is_first), bench.simulations
    played = PlayedStarts(bench.make, agent=bench.agent, context=CONTEXT, spacing=SPACING)
    start = played.draw(TIMES * num, seed=bench.seed + 1)
    compress = _compression(bench)  # of pictures a decomposition that takes seconds
    found: dict[str, list[Rows]] = {name: [] for name in simulations}
    for first in range(0, TIMES * num, num):  # as many at once as elsewhere: compiled already
        some, seed = select(start, range(first, first + num)), bench.seed + first
        true, action = follow(bench.truth, some, bench.agent, random_share=RANDOM_SHARE, steps=1, seed=seed)
        spread = max(float(np.ptp(np.append(bench.futures[TRUTH].reward, 0.0))), 1e-12)
        present = {key: array[None, :, -1] for key, array in some.observation.items()}
        for name, simulation in simulations.items():
            futures = true if name == TRUTH else replay(simulation, some, action, seed=seed)
            found[name].append(_row(bench, compress, present, futures, action, spread))
    return {name: np.concatenate(rows) for name, rows in found.items()}


def told_apart(real: Rows, imagined: Rows, *, seed: int) -> Float[np.ndarray, " N"]:
    """Share of the two rows of each pair that a classifier names rightly; of the later half, which it was not shown.

    Where it cannot decide, one half.
    """
    half = len(real) // 2
    both = np.stack([real, imagined])
    shown = both[:, :half].reshape(-1, both.shape[-1])
    centre, spread = shown.mean(axis=0), shown.std(axis=0)
    spread = np.where(spread > 1e-3, spread, np.inf)  # less is no difference that anybody would see
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, both.shape[-1] ** -0.5, (both.shape[-1], UNITS))
    bias = rng.uniform(-1, 1, UNITS)
    rows = (both - centre) / spread
    features = np.concatenate([rows, np.tanh(2.0 * rows @ weight + bias), np.ones((*rows.shape[:2], 1))], axis=-1)
    train = features[:, :half].reshape(-1, features.shape[-1])
    label = np.repeat([1.0, -1.0], half)
    solution = np.linalg.solve(train.T @ train + RIDGE * np.eye(train.shape[1]), train.T @ label)
    score = features[:, half:] @ solution
    return (0.5 + 0.5 * np.sign(np.round(score, 9)) * [[1.0], [-1.0]]).mean(axis=0)


def _row(
    bench: Bench,
    compress: Compress,
    present: dict[str, np.ndarray],
    futures: Futures,
    action: np.ndarray,
    spread: float,
) -> Rows:
    """Of one transition per start; the reward in units of its range."""
    spec = bench.truth.observation_spec
    before = compress(flatten(present, spec)[0])
    change = compress(flatten(futures.at(1), spec)[0]) - before
    rest = [action[0, 0], futures.reward[0, 0][:, None] / spread, futures.continue_prob[0, 0][:, None]]
    return np.concatenate([before, change, np.linalg.norm(change, axis=-1, keepdims=True), *rest], axis=-1)


def _compression(bench: Bench) -> Compress:
    """Onto the components that spread most among the report's starts, in units of their spread."""
    seen = {key: array.swapaxes(0, 1) for key, array in bench.start.observation.items()}
    known = flatten(seen, bench.truth.observation_spec)
    known = known.reshape(-1, known.shape[-1])
    is_wide = known.shape[-1] > COMPONENTS
    centre, scale = known.mean(axis=0), known.std(axis=0).mean() if is_wide else known.std(axis=0)
    scale = np.maximum(scale, 1e-6)
    if not is_wide:
        return lambda rows: (rows - centre) / scale
    _, _, directions = np.linalg.svd((known - centre) / scale, full_matrices=False)
    return lambda rows: (rows - centre) / scale @ directions[:COMPONENTS].T
