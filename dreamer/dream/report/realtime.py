"""Real-time: how long from an action to its picture, and does it stay so (G5)?"""

from __future__ import annotations

import contextlib
import time

import jax
import numpy as np

from dreamer.dream.report.bench import Bench, NotPlayedError, Play
from dreamer.dream.report.estimate import MODEL, TRUTH, Estimate, Quantity, bootstrap
from dreamer.dream.report.futures import Anew, any_action
from dreamer.dream.simulation import Simulation, Start
from dreamer.dream.starts import select

CALLS = 300  # timed, after `WARM` that are not
WARM = 10
EARLY, LATE = 10, 10_000  # steps at which the cost is compared
PERCENTILES = (50, 95, 99)
GAMES = 100.0  # milliseconds up to which a game answers at once


def measure(bench: Bench) -> list[Quantity]:
    """Latency of one future, throughput of all starts at once, and the constant-cost test. Needs no forks."""
    one = select(bench.start, [0])
    with contextlib.ExitStack() as stack:
        truth = bench.truth
        if bench.start.forks is None:
            truth = stack.enter_context(contextlib.closing(Anew(bench.make)))
        contestants: dict[str, Simulation] = {MODEL: bench.models[MODEL], TRUTH: truth}
        seconds = {name: step_seconds(simulation, one, seed=bench.seed) for name, simulation in contestants.items()}
        latency = {name: _percentiles(calls * 1e3, bench.seed) for name, calls in seconds.items()}
        many = {name: len(bench.start.is_first) / calls for name, calls in _of_all(bench, contestants).items()}
    bench.on_progress("keys in a browser")
    played = [in_browser(bench.play, bench.seed)] if bench.play else []
    bench.on_progress(f"{LATE:,} steps of one future")
    ratio = cost_ratio(bench.models[MODEL], one, seed=bench.seed, late=LATE)
    return [
        Quantity(
            "latency",
            "Latency from an action to its picture",
            "ms",
            latency,
            axis="% of calls",
            x=PERCENTILES,
            headline=1,
            higher_is_better=False,
            needs_controls=False,
            level=GAMES,
            note="In process, one future, decoded. Levels: 1 s for watching, 100 ms for games, 20 ms for VR.",
        ),
        *played,
        Quantity(
            "throughput",
            f"Throughput of {len(bench.start.is_first)} futures at once",
            "frames/s",
            {name: [bootstrap(rates, seed=bench.seed)] for name, rates in many.items()},
            needs_controls=False,
        ),
        Quantity(
            "constant_cost",
            "Constant cost: a late step over an early one",
            "ratio",
            {MODEL: [bootstrap(ratio, seed=bench.seed, statistic=median_ratio)]},
            higher_is_better=False,
            needs_controls=False,
            level=1.05,
            note=f"Time of step {LATE:,} over that of step {EARLY}. Both are taken in turn, so that a busy machine "
            "slows both alike.",
        ),
    ]


def in_browser(play: Play, seed: int) -> Quantity:
    """From a key to the pixels that answer it, in the player; without a value where it cannot be measured here."""
    values: list[Estimate | None] = [None] * len(PERCENTILES)
    try:
        delays = np.array(play())
        values, note = _percentiles(delays, seed), f"{len(delays)} keys pressed or let go in Chromium on this machine: "
        note += "from the key's own time stamp until the frame that answers it was drawn, the real environment beside."
    except NotPlayedError as error:
        note = f"Not measured: {error}"
    return Quantity(
        "browser_latency",
        "Latency from a key to its pixels in the browser",
        "ms",
        {MODEL: values},
        axis="% of keys",
        x=PERCENTILES,
        headline=1,
        higher_is_better=False,
        needs_controls=False,
        level=GAMES,
        note=note,
    )


def step_seconds(simulation: Simulation, start: Start, *, seed: int, calls: int = CALLS) -> np.ndarray:
    """Seconds of single steps, warm. Where an episode ends in between, its futures begin again."""
    num = len(start.is_first)
    actions = any_action(simulation.action_spec, (calls + WARM, num), seed=seed)
    state, outcome = simulation.begin(start, seed=seed)
    seconds = []
    for action in actions:
        if outcome.truncated.any() or (outcome.continue_prob == 0).any():
            state, outcome = simulation.begin(start, seed=seed)
        began = time.perf_counter()
        state, outcome = simulation.step(state, action)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - began)
    return np.array(seconds[WARM:])


def cost_ratio(simulation: Simulation, start: Start, *, seed: int, late: int, calls: int = CALLS) -> np.ndarray:
    """Seconds of a late and of an early step, `[calls, 2]`, taken in turn."""
    actions = any_action(simulation.action_spec, (1, len(start.is_first)), seed=seed)
    state, _ = simulation.begin(start, seed=seed)
    early = state
    for count in range(late):
        if count == EARLY:
            early = state
        state, _ = simulation.step(state, actions[0])
    seconds = np.zeros((calls, 2))
    for call in range(calls):
        for column in (call % 2, 1 - call % 2):
            began = time.perf_counter()
            jax.block_until_ready(simulation.step((state, early)[column], actions[0])[0])
            seconds[call, column] = time.perf_counter() - began
    return seconds


def median_ratio(seconds: np.ndarray) -> float:
    """Of the medians of both columns."""
    late, early = np.median(seconds, axis=0)
    return float(late / early)


def _percentiles(milliseconds: np.ndarray, seed: int) -> list[Estimate | None]:
    def percentile(of: int) -> Estimate | None:
        def statistic(rows: np.ndarray) -> float:
            return float(np.percentile(rows, of))

        return bootstrap(milliseconds, seed=seed, statistic=statistic)

    return [percentile(of) for of in PERCENTILES]


def _of_all(bench: Bench, contestants: dict[str, Simulation]) -> dict[str, np.ndarray]:
    """Seconds of steps with all starts together."""
    return {
        name: step_seconds(simulation, bench.start, seed=bench.seed, calls=30)
        for name, simulation in contestants.items()
    }
