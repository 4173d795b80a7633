"""Mazes: is a view that one has turned away from still there when one turns back (G4)?

Measured in Memory Maze. The agent turns until nothing of its first view is left in sight, and so much is shown to the
model. The rest is imagined: it looks about over there, and then turns back (retrieval), or turns on, all the way round
(reasoning), after Po et al., 2025 (arXiv:2505.20171). Nothing moves in a maze but the agent: what it sees again is what
it saw.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dreamer.dream.report.bench import CONTEXT, Bench, branch_seed
from dreamer.dream.report.distance import ssim
from dreamer.dream.report.estimate import MODEL, TRUTH, Quantity, curve, first_below
from dreamer.dream.simulation import Simulation, Start
from dreamer.dream.starts import History
from dreamer.dream.truth import Truth, fork_of
from envs import memory_maze
from envs.environment import Environment

PAN = 5  # turns of 18 degrees, after which two views of 80 degrees share nothing
CIRCLE = 20  # turns
SETTLE = 2  # steps in which a turn comes to rest
GAPS = (12, 16, 32, 64, 128)  # steps from one sight of the first view to the next: as below, and fours
KNOWN = 0.75  # share halfway between chance and certainty
STAY, LEFT, RIGHT = (memory_maze.ACTIONS.index(name) for name in ("stay", "left", "right"))
BACK, BEYOND, AROUND = range(3)  # the first view, turned back to; the one after as many turns on; the first again


class Walk(NamedTuple):
    """One start in a maze.

    Attributes:
        start: of one row, turned away from the first view.
        away: the action that turns on.
        back: the action that turns back.
    """

    start: Start
    away: int
    back: int


def measure(bench: Bench) -> list[Quantity]:
    """Which of two views it is, how like the true one, and the half-life; nothing in a world without mazes."""
    if bench.truth.protocol["env"] not in memory_maze.IDS:
        return []
    views: dict[str, list[np.ndarray]] = {}
    num = len(bench.start.is_first)
    for index in range(num):
        bench.on_progress(f"maze {index + 1} of {num}")
        for name, seen in _in_a_maze(bench, index).items():
            views.setdefault(name, []).append(seen)
    return quantities({name: np.stack(seen) for name, seen in views.items()}, seed=bench.seed)


def quantities(views: dict[str, np.ndarray], *, seed: int) -> list[Quantity]:
    """Of the views `[N, K, 3, H, W, C]` of each contestant, in `N` mazes after each of the `GAPS`."""
    true = views[TRUTH]
    told = {name: told_apart(seen, true) for name, seen in views.items()}
    half = {name: [first_below(told[name], KNOWN, places=GAPS, seed=seed)] for name in (MODEL, TRUTH)}
    return [
        _curve("view_persistence", "Views recognised after a time out of view", "share", told, seed)._replace(
            note="Turned back, or as far on: is the view that was imagined nearer to the true one there than to that "
            "of the other way? Chance is exactly 0.5."
        ),
        _curve("retrieval", "Likeness of the view on turning back", "SSIM", _likeness(views, BACK), seed),
        _curve("reasoning", "Likeness of the same view, all the way round", "SSIM", _likeness(views, AROUND), seed),
        Quantity(
            "memory_half_life",
            "Half-life of memory",
            "steps",
            half,
            needs_controls=False,
            note=f"First gap at which fewer than {KNOWN} are recognised; {GAPS[-1]} where there is none.",
        ),
    ]


def _curve(key: str, title: str, unit: str, rows: dict[str, np.ndarray], seed: int) -> Quantity:
    values = {name: curve(units, seed=seed) for name, units in rows.items()}
    return Quantity(key, title, unit, values, axis="steps out of view", x=GAPS, headline=len(GAPS) - 1)


def _in_a_maze(bench: Bench, index: int) -> dict[str, np.ndarray]:
    """The views `[K, 3, H, W, C]` of every contestant."""
    seed = branch_seed(bench.seed, 2000 + index)
    environment = bench.make(seed)
    try:
        walk = turn_away(environment, to_the_left=index % 2 == 0)
        contestants = {**bench.models, TRUTH: Truth(environment)}
        return {name: views_of(simulation, walk, seed=seed) for name, simulation in contestants.items()}
    finally:
        environment.close()


def turn_away(environment: Environment, *, to_the_left: bool) -> Walk:
    """From a reset, until nothing of the first view is in sight."""
    away, back = (LEFT, RIGHT) if to_the_left else (RIGHT, LEFT)
    history = History(environment.action_spec, length=CONTEXT)
    timestep, action = environment.reset(), None
    history.add(timestep, action)
    for turn in [away] * PAN + [STAY] * SETTLE:
        action = _flat(turn)
        timestep = environment.step(action)
        history.add(timestep, action)
    return Walk(history.start(fork_of(environment)), away, back)


def views_of(simulation: Simulation, walk: Walk, *, seed: int) -> np.ndarray:
    """What is seen after each of the `GAPS` on the three ways, `[K, 3, H, W, C]`."""
    rng = np.random.default_rng(seed)
    state, _ = simulation.begin(walk.start, seed=seed)
    views, gap = [], PAN + SETTLE + PAN
    for until in GAPS:
        for _ in range((until - gap) // 4):  # it looks about, which leaves it where it was
            turn, again = (walk.away, walk.back) if rng.random() < 0.5 else (STAY, STAY)
            state, _ = _go(simulation, state, [turn, STAY, again, STAY])
        gap = until
        _, back = _go(simulation, state, [walk.back] * PAN)
        farther, beyond = _go(simulation, state, [walk.away] * PAN)
        _, around = _go(simulation, farther, [walk.away] * (CIRCLE - 2 * PAN))
        views.append([back, beyond, around])
    return np.array(views)


def told_apart(seen: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Share of the two ways whose view is nearer to its own truth than to that of the other, `[N, K]`; ties half.

    Both ways count: what answers neither way has exactly one half.
    """
    right = []
    for own, other in ((BACK, BEYOND), (BEYOND, BACK)):
        near, far = (ssim(seen[:, :, own], true[:, :, which]) for which in (own, other))
        right.append(np.where(near == far, 0.5, near > far))
    return np.mean(right, axis=0)


def _likeness(views: dict[str, np.ndarray], way: int) -> dict[str, np.ndarray]:
    return {name: ssim(seen[:, :, way], views[TRUTH][:, :, way]) for name, seen in views.items()}


def _go(simulation: Simulation, state: Any, actions: list[int]) -> tuple[Any, np.ndarray]:
    """Some steps of one future, and what is seen after the last."""
    for action in actions[:-1]:
        state, _ = simulation.step(state, _flat(action))
    state, outcome = simulation.step(state, _flat(actions[-1]))
    (image,) = outcome.observation.values()
    return state, np.asarray(image[0])


def _flat(action: int) -> np.ndarray:
    return np.eye(len(memory_maze.ACTIONS), dtype=np.float32)[[action]]
