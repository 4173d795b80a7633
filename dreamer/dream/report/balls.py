"""Do balls move as they should, also in combinations that training left out, and faster than any in it (G6)?

Measured in the built-in suite `envs.motion`. All is read from frames, the true ones as well as those that are imagined:
velocities, and how far momentum and energy drift from where a law keeps them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dreamer.dream.report.bench import CONTEXT, Bench, branch_seed
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, Quantity, bootstrap, curve
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


class Tracks(NamedTuple):
    """Where balls are, read from frames; index 0 is the step before the present, 1 the present, then what is imagined.

    Attributes:
        place: NaN where a ball is not seen, `[STEPS + 2, N, balls, 2]`, pixels: right, down.
        mass: as shown at present, `[N, balls]`.
    """

    place: Float[np.ndarray, "T N balls 2"]
    mass: Float[np.ndarray, "N balls"]

    @property
    def velocity(self) -> np.ndarray:
        """Since the step before, `[STEPS + 1, N, balls, 2]`; a ball that is not seen counts as resting."""
        return np.nan_to_num(np.diff(self.place, axis=0))


def measure(bench: Bench) -> list[Quantity]:
    """The velocity error in each split, how much larger it is outside, and drifts; nothing in another world."""
    name = bench.truth.protocol["env"]
    kind = next((kind for kind in motion.KINDS if name == f"dreamer/{kind}-v0"), None)
    if kind is None:
        return []
    gravity = motion.GRAVITY if kind == "Parabola" else 0.0
    errors: dict[str, dict[str, np.ndarray]] = {}
    drifts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in SPLITS:
        true, tracks = _tracks(bench, f"dreamer/{kind}{split}-v0")
        errors[split] = {contestant: velocity_errors(one, true) for contestant, one in tracks.items()}
        if not split:
            drifts = {contestant: drift(one, gravity=gravity) for contestant, one in tracks.items()}
    return [*_errors(bench, errors), *_drifts(bench, drifts)]


def velocity_errors(tracks: Tracks, true: Tracks) -> Float[np.ndarray, " N"]:
    """Mean distance between predicted and true velocity."""
    return np.linalg.norm(tracks.velocity[1:] - true.velocity[1:], axis=-1).mean(axis=(0, 2))


def drift(tracks: Tracks, *, gravity: float) -> tuple[Float[np.ndarray, "N T"], Float[np.ndarray, "N T"]]:
    """How far momentum and energy are from where the law keeps them, at each imagined step.

    Both laws hold exactly between steps: gravity adds to the momentum, and where a ball is halfway between two steps
    says its potential energy. Energy is in units of the kinetic energy at present, momentum in units of the sum of its
    amounts there, since those of two balls that meet nearly cancel out.
    """
    mass, velocity = tracks.mass[..., None], tracks.velocity
    momentum = (mass * velocity).sum(axis=2)  # [T, N, 2]
    amount = (mass * np.linalg.norm(velocity[0], axis=-1, keepdims=True)).sum(axis=(1, 2))
    fallen = np.arange(len(velocity))[:, None, None] * gravity * mass.sum(axis=1) * np.array([0.0, 1.0])
    lost_momentum = np.linalg.norm(momentum - momentum[0] - fallen, axis=-1) / amount
    kinetic = 0.5 * (mass * np.square(velocity)).sum(axis=(2, 3))  # [T, N]
    halfway = (tracks.place[1:, ..., 1] + tracks.place[:-1, ..., 1]) / 2
    depth = np.nan_to_num(halfway - halfway[0])
    energy = kinetic - gravity * (tracks.mass * depth).sum(axis=2)
    lost_energy = np.abs(energy - energy[0]) / kinetic[0]
    return lost_momentum[1:].T, lost_energy[1:].T


def ratio_of_means(rows: np.ndarray) -> float:
    """Of the first column over that of the second."""
    first, second = rows.mean(axis=0)
    return float(first / max(second, 1e-12))


def _errors(bench: Bench, errors: dict[str, dict[str, np.ndarray]]) -> list[Quantity]:
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


def _drifts(bench: Bench, drifts: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Quantity]:
    notes = {
        "momentum": "Distance from what the law makes of the momentum shown last, in units of its amount in all balls.",
        "energy": "Distance from the energy shown last, potential energy included, in units of the kinetic energy.",
    }
    return [
        Quantity(
            f"{name}_drift",
            f"Drift of {name}, balls as in training",
            "share",
            {contestant: curve(both[index], seed=bench.seed) for contestant, both in drifts.items()},
            axis="imagined steps",
            x=tuple(range(1, STEPS + 1)),
            headline=STEPS - 1,
            higher_is_better=False,
            note=f"{note} The real environment shows how exactly frames can be read, the frozen frame the loss of all.",
        )
        for index, (name, note) in enumerate(notes.items())
    ]


def _tracks(bench: Bench, env: str) -> tuple[Tracks, dict[str, Tracks]]:
    """The true ones and those of every contestant but the action-blind: nothing here depends on the only action."""
    bench.on_progress(env)

    def build(seed: int) -> Environment:
        return make(env, num_envs=1, seed=seed)

    truth = OnceOnly(build)
    start = join([_start(env, branch_seed(bench.seed, 2000 + row)) for row in range(len(bench.start.is_first))])
    balls = 2 if "Collision" in env else 1
    try:
        contestants = {name: one for name, one in bench.simulations.items() if name != BLIND}
        return _follow(truth, start, balls=balls), {
            name: _follow(one, start, balls=balls) for name, one in contestants.items()
        }
    finally:
        truth.close()


def _follow(simulation: Simulation, start: Start, *, balls: int) -> Tracks:
    """The balls of a start in a simulation."""
    shown = next(iter(start.observation.values()))
    state, _ = simulation.begin(start, seed=0)
    action, frames = np.ones((len(shown), 1), np.float32), [shown[:, -2], shown[:, -1]]
    for _ in range(STEPS):
        state, outcome = simulation.step(state, action)
        frames.append(next(iter(outcome.observation.values())))
    place = np.array([[motion.places(frame, balls=balls) for frame in row] for row in frames])
    return Tracks(place, np.array([motion.masses(frame, balls=balls) for frame in frames[1]]))


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
