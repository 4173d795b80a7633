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
NEGLIGIBLE = 0.02  # standard deviations; what changes less than this is not asked about
SEED_TAG = 3000  # sub-seed of the actions
UNIT = "standard deviations"

Errors = dict[str, Float[np.ndarray, "N K"]]  # by contestant


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


class Comparison(NamedTuple):
    """Errors in all worlds.

    Attributes:
        ordinary: in the world of the training, by contestant, `[N, K]` at the steps `HORIZONS`; NaN for starts whose
            episode ends before.
        scaled: the same by what is scaled and by factor; nothing of what hardly changes anything.
        moved: how far what happens is from what happens in the ordinary world, at most, by what is scaled; in standard
            deviations.
    """

    ordinary: Errors
    scaled: dict[str, dict[float, Errors]]
    moved: dict[str, float]


def measure(bench: Bench) -> list[Quantity]:
    """Error in the world of the training, by factor in others, and how much larger it is there.

    Nothing where the world is not MuJoCo's or its state is not observed.
    """
    images = any(isinstance(part, ImageSpec) for part in bench.truth.observation_spec.values())
    if images or not can_perturb(bench.truth.protocol):
        return []
    found = compare(bench)
    note = (
        "Root of the mean squared error over all observed components, each in units of its standard deviation in this "
    )
    note += f"world, under the agent's actions after {CONTEXT} steps were seen."
    for name in SCALED:
        if name not in found.scaled:
            note += f" The {name} is not asked about: half or twice as much of it changes what is observed by at most "
            note += f"{found.moved[name]:.1g} {UNIT}."
    ordinary = Quantity(
        "state_error",
        "State error in the world of the training",
        UNIT,
        {contestant: curve(rows, seed=bench.seed) for contestant, rows in found.ordinary.items()},
        axis="steps ahead",
        x=HORIZONS,
        headline=HORIZONS.index(15),
        higher_is_better=False,
        note=note,
    )
    quantities = [ordinary]
    for name in found.scaled:
        quantities += [_by_factor(bench, found, name, step) for step in HORIZONS]
        quantities.append(_ratio(bench, found, name))
    return quantities


def compare(bench: Bench, *, scaled: Sequence[str] = SCALED, factors: Sequence[float] = FACTORS) -> Comparison:
    """Lets every contestant imagine what follows in every world."""
    steps, seed = CONTEXT - 1 + HORIZONS[-1], branch_seed(bench.seed, SEED_TAG)
    _, taken = follow(bench.truth, bench.start, bench.agent, random_share=0.0, steps=steps, seed=seed)
    environment = bench.make(0)
    try:
        ordinary = play(environment, bench.start, taken[0])
        scale = Scale(bench.truth.observation_spec, [ordinary.start.observation, ordinary.observation])
        found = Comparison(_errors_in(bench, ordinary, taken, scale), {}, {})
        for name in scaled:
            bench.on_progress(f"worlds of another {name}")
            others = [factor for factor in factors if factor != 1.0]
            worlds = {factor: play(environment, bench.start, taken[0], **{name: factor}) for factor in others}
            far = [scale.squared_error(world.observation, ordinary.observation) for world in worlds.values()]
            found.moved[name] = float(np.sqrt(far).mean(axis=-1).max())
            if found.moved[name] >= NEGLIGIBLE:
                errors = {factor: _errors_in(bench, world, taken, scale) for factor, world in worlds.items()}
                found.scaled[name] = {factor: errors.get(factor, found.ordinary) for factor in factors}
        return found
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


def _errors_in(bench: Bench, world: World, taken: Float[np.ndarray, "1 T N A"], scale: Scale) -> Errors:
    errors = {}
    for contestant, simulation in bench.simulations.items():
        futures = replay(simulation, world.start, taken[:, CONTEXT - 1 :], seed=bench.seed)
        columns = []
        for index, step in enumerate(HORIZONS):
            guess = {key: array[0] for key, array in futures.at(step).items()}
            true = {key: array[index] for key, array in world.observation.items()}
            columns.append(np.sqrt(scale.squared_error(guess, true)))
        rows = np.stack(columns, axis=1)
        rows[world.is_over.any(axis=0)] = np.nan  # the same starts at all steps
        errors[contestant] = rows
    return errors


def _by_factor(bench: Bench, found: Comparison, name: str, step: int) -> Quantity:
    worlds, column = found.scaled[name], HORIZONS.index(step)
    values = {
        contestant: [bootstrap(errors[contestant][:, column], seed=bench.seed) for errors in worlds.values()]
        for contestant in bench.simulations
    }
    return Quantity(
        f"{name}_error_{step}",
        f"State error after {step} step{'s' if step > 1 else ''}, {name} scaled",
        UNIT,
        values,
        axis=f"times the {name} of the training",
        x=tuple(worlds),
        headline=len(worlds) - 1,
        higher_is_better=False,
        note="The same moments and actions in each world, in the same units; what is seen before was played in that "
        f"world, too. It makes a difference of up to {found.moved[name]:.2g} {UNIT} to what happens.",
    )


def _ratio(bench: Bench, found: Comparison, name: str) -> Quantity:
    """How much larger the errors are at both ends."""
    worlds, values = list(found.scaled[name].values()), {}
    for contestant in (MODEL, FROZEN):
        three = np.stack([one[contestant] for one in (worlds[0], worlds[-1], found.ordinary)], axis=-1)  # [N, K, 3]
        values[contestant] = [
            bootstrap(three[:, column], seed=bench.seed, statistic=ratio) for column in range(len(HORIZONS))
        ]
    return Quantity(
        f"{name}_ratio",
        f"Error at half and twice the {name} over that in the world of the training",
        "ratio",
        values,
        axis="steps ahead",
        x=HORIZONS,
        headline=HORIZONS.index(15),
        higher_is_better=False,
        needs_controls=False,
        note="The frozen frame shows by how much more happens there. A model that is wrong in its own world easily has "
        "1: read it beside the error.",
    )
