"""Does a model of one MuJoCo world know what happens in others, of another gravity, mass or friction (G6)?

Only what is shown to the model tells it in which world it is. From the same moments the same actions of the agent are
played in each world: `CONTEXT` steps that the model sees, and then those that it has to imagine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dreamer.dream.report.bench import CONTEXT, Bench, branch_seed
from dreamer.dream.report.distance import Scale
from dreamer.dream.report.estimate import FROZEN, MODEL, Quantity, bootstrap, curve
from dreamer.dream.report.futures import follow, replay
from dreamer.dream.simulation import Start
from dreamer.dream.starts import join, select
from dreamer.dream.truth import fork_of
from envs.environment import Environment
from envs.perturb import can_perturb, perturb
from envs.spaces import ImageSpec

SCALED = ("gravity", "mass", "friction")  # arguments of `perturb`
FACTORS = (0.5, 0.8, 1.0, 1.25, 2.0)
HORIZONS = (1, 5, 15)
SEED_TAG = 3000  # sub-seed of the actions


class World(NamedTuple):
    """What was played in one world.

    Attributes:
        start: what the model sees, with forks at its end.
        observation: what followed, at the steps `HORIZONS`, by key `[K, N, ...]`.
        is_over: an episode had ended there or before, `[K, N]`.
    """

    start: Start
    observation: dict[str, np.ndarray]
    is_over: Bool[np.ndarray, "K N"]


def measure(bench: Bench) -> list[Quantity]:
    """Error in the world of the training, by factor in others, and how much larger it is there.

    Nothing where the world is not MuJoCo's or its state is not observed.
    """
    images = any(isinstance(part, ImageSpec) for part in bench.truth.observation_spec.values())
    if images or not can_perturb(bench.truth.protocol):
        return []
    errors = state_errors(bench)
    ordinary = errors[SCALED[0], 1.0]
    quantities = [
        Quantity(
            "state_error",
            "State error in the world of the training",
            "standard deviations",
            {name: curve(rows, seed=bench.seed) for name, rows in ordinary.items()},
            axis="steps ahead",
            x=HORIZONS,
            headline=HORIZONS.index(15),
            higher_is_better=False,
            note="Root of the mean squared error over all observed components, each in units of its standard deviation "
            f"in this world, under the agent's actions after {CONTEXT} steps were seen.",
        )
    ]
    for name in SCALED:
        quantities += [_by_factor(bench, errors, name, step) for step in HORIZONS]
        quantities.append(_ratio(bench, errors, name))
    return quantities


Errors = dict[tuple[str, float], dict[str, Float[np.ndarray, "N K"]]]  # by what is scaled and factor, by contestant


def state_errors(bench: Bench, *, scaled: Sequence[str] = SCALED, factors: Sequence[float] = FACTORS) -> Errors:
    """Of every contestant in every world at the steps `HORIZONS`; NaN for starts whose episode ends before."""
    steps = CONTEXT - 1 + HORIZONS[-1]
    seed = branch_seed(bench.seed, SEED_TAG)
    _, taken = follow(bench.truth, bench.start, bench.agent, random_share=0.0, steps=steps, seed=seed)
    environment = bench.make(0)
    try:
        ordinary = play(environment, bench.start, taken[0])
        scale = Scale(bench.truth.observation_spec, [ordinary.start.observation, ordinary.observation])
        same = _errors_in(bench, ordinary, taken, scale)
        errors: Errors = {}
        for name in scaled:
            for factor in factors:
                bench.on_progress(f"{factor:g} times the {name}")
                if factor == 1.0:
                    errors[name, factor] = same
                    continue
                world = play(environment, bench.start, taken[0], **{name: factor})
                errors[name, factor] = _errors_in(bench, world, taken, scale)
        return errors
    finally:
        environment.close()


def play(environment: Environment, start: Start, actions: Float[np.ndarray, "T N A"], **factors: float) -> World:
    """Given actions from each moment of a start, in a world with these factors from there on."""
    played = [_play_one(environment, select(start, [row]), actions[:, row], factors) for row in range(actions.shape[1])]
    return World(
        join([one.start for one in played]),
        {key: np.concatenate([one.observation[key] for one in played], axis=1) for key in start.observation},
        np.concatenate([one.is_over for one in played], axis=1),
    )


def _play_one(environment: Environment, origin: Start, actions: np.ndarray, factors: dict[str, float]) -> World:
    """From the only moment of a start."""
    assert origin.forks is not None
    environment.load_fork(origin.forks[0])
    perturb(environment, **factors)
    moments, over, forks = [{key: array[:, -1] for key, array in origin.observation.items()}], [False], ()
    for action in actions:
        timestep = environment.step(action[None])
        moments.append(timestep.observation)
        over.append(over[-1] or bool(timestep.is_last[0]))
        if len(moments) == CONTEXT:
            forks = (fork_of(environment),)
    seen = {key: np.stack([moment[key] for moment in moments], axis=1) for key in moments[0]}  # [1, T, ...]
    previous = np.concatenate([origin.previous_action[:, -1:], actions[None, : CONTEXT - 1]], axis=1)
    is_first = np.concatenate([origin.is_first[:, -1:], np.zeros((1, CONTEXT - 1), bool)], axis=1)
    shown = {key: array[:, :CONTEXT] for key, array in seen.items()}
    asked = [CONTEXT - 1 + step for step in HORIZONS]
    followed = {key: array[:, asked].swapaxes(0, 1) for key, array in seen.items()}
    return World(Start(shown, previous, is_first, forks), followed, np.array(over)[asked, None])


def ratio(rows: Float[np.ndarray, "N 3"]) -> float:
    """Mean of the first two columns, errors in the outermost worlds, over that of the third, in the ordinary one."""
    first, last, ordinary = rows.mean(axis=0)
    return float((first + last) / 2 / max(ordinary, 1e-12))


def _errors_in(bench: Bench, world: World, taken: np.ndarray, scale: Scale) -> dict[str, np.ndarray]:
    """By contestant, `[N, K]`."""
    errors = {}
    for name, simulation in bench.simulations.items():
        futures = replay(simulation, world.start, taken[:, CONTEXT - 1 :], seed=bench.seed)
        columns = []
        for index, step in enumerate(HORIZONS):
            guess = {key: array[0] for key, array in futures.at(step).items()}
            true = {key: array[index] for key, array in world.observation.items()}
            columns.append(np.sqrt(scale.squared_error(guess, true)))
        rows = np.where(world.is_over, np.nan, np.stack(columns)).T
        rows[np.isnan(rows).any(axis=1)] = np.nan  # the same starts at all steps
        errors[name] = rows
    return errors


def _by_factor(bench: Bench, errors: Errors, name: str, step: int) -> Quantity:
    column = HORIZONS.index(step)
    values = {
        contestant: [bootstrap(errors[name, factor][contestant][:, column], seed=bench.seed) for factor in FACTORS]
        for contestant in bench.simulations
    }
    return Quantity(
        f"{name}_error_{step}",
        f"State error after {step} step{'s' if step > 1 else ''}, {name} scaled",
        "standard deviations",
        values,
        axis=f"times the {name} of the training",
        x=FACTORS,
        headline=FACTORS.index(2.0),
        higher_is_better=False,
        note="The same moments and actions in each world, and the same units. What is seen before was played in that "
        "world, too.",
    )


def _ratio(bench: Bench, errors: Errors, name: str) -> Quantity:
    """How much larger the errors are at both ends."""
    values = {
        contestant: [
            bootstrap(
                np.stack(
                    [errors[name, factor][contestant][:, column] for factor in (FACTORS[0], FACTORS[-1], 1.0)], axis=1
                ),
                seed=bench.seed,
                statistic=ratio,
            )
            for column in range(len(HORIZONS))
        ]
        for contestant in (MODEL, FROZEN)
    }
    return Quantity(
        f"{name}_ratio",
        f"Error at half and twice the {name} over error in training's world",
        "ratio",
        values,
        axis="steps ahead",
        x=HORIZONS,
        headline=HORIZONS.index(15),
        higher_is_better=False,
        needs_controls=False,
        note="1: the model does as well there. The frozen frame shows by how much more there happens.",
    )
