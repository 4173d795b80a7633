"""Needles: is what was seen, and left behind, still there on the way home (G4)?

Measured in the built-in `needle` corridor: a needle is seen, the agent walks out of its sight, wanders about there, and
goes home. Only the way until the needle is out of sight is shown to the model; the rest is imagined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dreamer.dream.report.bench import CONTEXT, Bench, branch_seed
from dreamer.dream.report.estimate import MODEL, TRUTH, Quantity, curve, first_below
from dreamer.dream.simulation import Simulation, Start
from dreamer.dream.starts import History, join
from dreamer.dream.truth import fork_of
from envs import needle

NEEDLE = needle.ID
FACTS = ("colour", "place")  # of a needle
GAPS = (12, 16, 32, 64, 128, 256)  # steps out of view
AWAY = 8  # column in which the agent is when imagination begins
LEFT, RIGHT, STAY = (list(needle.MOVES).index(name) for name in ("left", "right", "stay"))


class Walk(NamedTuple):
    """One start in the corridor.

    Attributes:
        start: of one row, at the moment at which nothing of the needle is in view.
        seen: the needle as it looks from home.
    """

    start: Start
    seen: needle.Seen


def measure(bench: Bench) -> list[Quantity]:
    """The curve P(g), of whole needles and of their places alone, and its half-life; nothing in another world."""
    if bench.truth.protocol["env"] != NEEDLE:
        return []
    walks = [walk(bench, index) for index in range(len(bench.start.is_first))]
    facts = {}
    for name, simulation in bench.simulations.items():
        bench.on_progress(f"needles in the {name}")
        facts[name] = np.stack([remembered(simulation, walks, gap, seed=bench.seed) for gap in GAPS], axis=1)
    whole = {name: right.all(axis=-1).astype(float) for name, right in facts.items()}
    half = {name: [first_below(whole[name], 0.5, places=GAPS, seed=bench.seed)] for name in (MODEL, TRUTH)}
    places = {name: right[..., FACTS.index("place")].astype(float) for name, right in facts.items()}
    return [
        _curve("persistence", "Needles rendered right after a time out of view", whole, bench.seed)._replace(
            level=0.9, note="Right in colour and place when the agent is home again."
        ),
        _curve("place_persistence", "The same, whatever their colour", places, bench.seed)._replace(
            note="Of the colour alone nothing is told: who walks blindly to the left sees it, too."
        ),
        Quantity(
            "memory_half_life",
            "Half-life of memory",
            "steps",
            half,
            needs_controls=False,
            note=f"First gap at which fewer than half are right; {GAPS[-1]} where there is none.",
        ),
    ]


def _curve(key: str, title: str, rows: dict[str, np.ndarray], seed: int) -> Quantity:
    values = {name: curve(right, seed=seed) for name, right in rows.items()}
    return Quantity(key, title, "share", values, axis="steps out of view", x=GAPS, headline=GAPS.index(256))


def walk(bench: Bench, index: int) -> Walk:
    """From home to the right, until the needle is out of view."""
    environment = bench.make(branch_seed(bench.seed, 1000 + index))
    try:
        history = History(environment.action_spec, length=CONTEXT)
        timestep, action = environment.reset(), None
        history.add(timestep, action)
        (image,) = timestep.observation.values()
        seen = needle.read(image[0])
        assert seen is not None, "every place of a needle is in view from home"
        for _ in range(AWAY - needle.HOME[1]):
            action = _flat(RIGHT)[None]
            timestep = environment.step(action)
            history.add(timestep, action)
        return Walk(history.start(fork_of(environment)), seen)
    finally:
        environment.close()


def way_back(seen: needle.Seen, gap: int, rng: np.random.Generator) -> list[int]:
    """Actions that keep the needle out of view for `gap` steps in all, and then lead home.

    From home the view begins at column 0, so that the needle's column in it is that of the world. It was out of view
    from column `seen.column + 3` on, and comes into view again two columns to the right of it.
    """
    hidden = seen.column + needle.REACH + 1
    wandering = gap - (AWAY - hidden + 1) - (AWAY - hidden)
    actions, column = [], AWAY
    for left in range(wandering, 0, -1):
        options = [STAY, RIGHT] if column == AWAY else [STAY, RIGHT, LEFT]
        if column - AWAY >= left:
            options = [LEFT]
        elif column == needle.COLUMNS - 1:
            options = [STAY, LEFT]
        elif column - AWAY + 1 >= left and RIGHT in options:
            options.remove(RIGHT)
        action = int(rng.choice(options))
        column += {LEFT: -1, RIGHT: 1, STAY: 0}[action]
        actions.append(action)
    return actions + [LEFT] * (AWAY - needle.HOME[1])


def remembered(simulation: Simulation, walks: list[Walk], gap: int, *, seed: int) -> np.ndarray:
    """Which of the `FACTS` of each needle are rendered right when its agent is home, `[N, 2]`."""
    rng = np.random.default_rng(seed)
    ways = [way_back(one.seen, gap, rng) for one in walks]
    state, outcome = simulation.begin(join([one.start for one in walks]), seed=seed)
    right = np.zeros((len(walks), len(FACTS)), bool)
    for step in range(max(map(len, ways))):
        actions = np.stack([_flat(way[step] if step < len(way) else STAY) for way in ways])
        state, outcome = simulation.step(state, actions)
        (image,) = outcome.observation.values()
        for row, way in enumerate(ways):
            if step == len(way) - 1:
                right[row] = _right(needle.read(image[row]), walks[row].seen)
    return right


def _right(found: needle.Seen | None, true: needle.Seen) -> tuple[bool, bool]:
    if found is None:
        return False, False
    return found.colour == true.colour, (found.row, found.column) == (true.row, true.column)


def _flat(action: int) -> np.ndarray:
    return np.eye(len(needle.MOVES), dtype=np.float32)[action]
