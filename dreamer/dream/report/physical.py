"""Physical: does what moves move as it should, also where nothing like it was seen (G6)?

Measured in the built-in suite `envs.motion`: velocities are read from predicted frames, of balls as in training, of
combinations that training left out, and of balls faster than any.
"""

from __future__ import annotations

import numpy as np

from dreamer.dream.report.bench import CONTEXT, Bench, branch_seed
from dreamer.dream.report.estimate import FROZEN, MODEL, Quantity, bootstrap
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.simulation import Simulation, Start
from dreamer.dream.starts import History, join
from dreamer.dream.truth import fork_of
from envs import motion
from envs.environment import Environment
from envs.registry import make

SHOWN = 6  # steps before imagination begins
STEPS = 12  # imagined
SPLITS = {"": "as in training", "Combined": "in new combinations", "Outside": "faster than any"}


def measure(bench: Bench) -> list[Quantity]:
    """The velocity error in each split, and how much larger it is outside; nothing where the world is another one."""
    name = bench.truth.protocol["env"]
    kind = next((kind for kind in motion.KINDS if name == f"dreamer/{kind}-v0"), None)
    if kind is None:
        return []
    errors = {split: _errors(bench, f"dreamer/{kind}{split}-v0") for split in SPLITS}
    quantities = [
        Quantity(
            f"velocity_error_{split.lower() or 'inside'}",
            f"Velocity error, balls {words}",
            "pixels per step",
            {name: [bootstrap(rows, seed=bench.seed)] for name, rows in errors[split].items()},
            higher_is_better=False,
            note=f"Mean over {STEPS} imagined steps, read from the frames; of the frozen frame it is the true speed.",
        )
        for split, words in SPLITS.items()
    ]
    ratio = {
        name: [bootstrap(np.stack([errors["Outside"][name], errors[""][name]], axis=1), seed=bench.seed,
                         statistic=ratio_of_means)]
        for name in (MODEL, FROZEN)
    }  # fmt: skip
    return [
        *quantities,
        Quantity(
            "outside_ratio",
            "Error outside over error inside",
            "ratio",
            ratio,
            higher_is_better=False,
            needs_controls=False,
            note="Balls faster than any over those as in training; the frozen frame shows by how much they are faster.",
        ),
    ]


def ratio_of_means(rows: np.ndarray) -> float:
    """Of the first column over that of the second."""
    first, second = rows.mean(axis=0)
    return float(first / max(second, 1e-12))


def velocity_errors(simulation: Simulation, truth: Simulation, start: Start, *, balls: int) -> np.ndarray:
    """Mean distance between predicted and true velocity, `[N]`; a ball that is not seen counts as resting."""
    velocities = [_velocities(one, start, balls=balls) for one in (simulation, truth)]
    return np.linalg.norm(velocities[0] - velocities[1], axis=-1).mean(axis=(0, 2))


def _velocities(simulation: Simulation, start: Start, *, balls: int) -> np.ndarray:
    """Velocities `[T, N, balls, 2]` read from frames."""
    num = len(start.is_first)
    state, _ = simulation.begin(start, seed=0)
    action, frames = np.ones((num, 1), np.float32), [next(iter(start.observation.values()))[:, -1]]
    for _ in range(STEPS):
        state, outcome = simulation.step(state, action)
        frames.append(next(iter(outcome.observation.values())))
    where = np.array([[motion.places(frame, balls=balls) for frame in row] for row in frames])
    return np.nan_to_num(np.diff(where, axis=0))


def _errors(bench: Bench, env: str) -> dict[str, np.ndarray]:
    """By contestant, one number for each start in a split."""
    bench.on_progress(env)

    def build(seed: int) -> Environment:
        return make(env, num_envs=1, seed=seed)

    truth = OnceOnly(build)
    start = join([_start(env, branch_seed(bench.seed, 2000 + row)) for row in range(len(bench.start.is_first))])
    balls = 2 if "Collision" in env else 1
    contestants: dict[str, Simulation] = {**bench.simulations}
    try:
        return {name: velocity_errors(one, truth, start, balls=balls) for name, one in contestants.items()}
    finally:
        truth.close()


def _start(env: str, seed: int) -> Start:
    """A moment after `SHOWN` steps."""
    environment = make(env, num_envs=1, seed=seed)
    try:
        history, action = History(environment.action_spec, length=CONTEXT), np.ones((1, 1), np.float32)
        history.add(environment.reset(), None)
        for _ in range(SHOWN):
            history.add(environment.step(action), action)
        return history.start(fork_of(environment))
    finally:
        environment.close()
