"""From a trained agent to its report: measures what was asked for, writes `report.json` and `report.html`."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from dreamer.agent import Agent
from dreamer.dream.report.bench import CONTEXT, NEEDS_FORKS, Bench, Play, make_bench
from dreamer.dream.report.estimate import FEWEST
from dreamer.dream.report.history import History
from dreamer.dream.report.page import Measured, render
from dreamer.dream.report.registry import METRICS, Metric
from dreamer.dream.report.watched import Watched
from dreamer.dream.simulation import NotForkedError, SimulationError
from envs.environment import Environment

PROTOCOL = "dreamer-report 3"  # a change of what is measured gets another number
STARTS = 32
TIMED = "seconds"  # in the document: all that differs between two runs with the same seed, besides timed metrics

Progress = Callable[[str, str], None]


def report(
    agent: Agent,
    make: Callable[[int], Environment],
    *,
    only: Sequence[str] = (),
    num_starts: int = STARTS,
    seed: int = 0,
    on_progress: Progress,
    play: Play | None = None,
    look: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], Measured]:
    """Measures an agent's world model.

    Args:
        agent: whose model.
        make: makes the single environment from a seed.
        only: names of properties; none: all.
        num_starts: start states.
        seed: root of all randomness: the same numbers again on a CPU, times excepted.
        on_progress: told the property and what is being done for it.
        play: measures the player in a browser; None: that is left out.
        look: called before every step of a model; what it raises ends the report.

    Returns:
        The document, as JSON holds it, and the quantities in it.

    Raises:
        SimulationError: a property is unknown, or there are too few starts.
    """
    metrics = chosen(only)
    if num_starts < FEWEST:
        raise SimulationError(f"{num_starts} starts give no interval; take at least {FEWEST}")
    now = ["starts"]
    bench = make_bench(
        agent, make, num_starts=num_starts, seed=seed, on_progress=lambda text: on_progress(now[0], text), play=play
    )
    if look is not None:
        bench.models = {name: Watched(simulation, look) for name, simulation in bench.models.items()}
    measured: Measured = []
    seconds: dict[str, float] = {}
    try:
        for metric in metrics:
            now[0], began = metric.name, time.monotonic()
            on_progress(metric.name, "")
            try:
                measured.append((metric, metric.measure(bench)))
            except NotForkedError:
                measured.append((metric._replace(needs=NEEDS_FORKS), []))
            seconds[metric.name] = round(time.monotonic() - began, 1)
    finally:
        bench.truth.close()
    return document(agent, bench, measured, seconds), measured


def chosen(only: Sequence[str]) -> list[Metric]:
    """Metrics by name.

    Raises:
        SimulationError: one is unknown.
    """
    known = [metric.name for metric in METRICS]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SimulationError(f"no property is called {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return [metric for metric in METRICS if not only or metric.name in only]


def document(agent: Agent, bench: Bench, measured: Measured, seconds: dict[str, float]) -> dict[str, Any]:
    """Everything, as JSON holds it."""
    return {
        "protocol": PROTOCOL,
        "run": agent.path.name,
        "env": bench.truth.protocol["env"],
        "agent_steps": agent.counters.agent_steps,
        "num_starts": len(bench.start.is_first),
        "context": CONTEXT,
        "seed": bench.seed,
        "device": f"{jax.devices()[0].platform} ({platform.machine()}, {os.cpu_count()} cores)",
        "jax": jax.__version__,
        "environment": {key: str(value) for key, value in bench.truth.protocol.items()},
        "properties": {
            metric.name: {
                "question": metric.question,
                "is_timed": metric.is_timed,
                "needs": "" if quantities else metric.needs,
                "quantities": {quantity.key: quantity.document() for quantity in quantities},
            }
            for metric, quantities in measured
        },
        TIMED: seconds,
    }


def write(folder: Path, document: dict[str, Any], measured: Measured, history: History) -> tuple[Path, Path]:
    """Writes both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**document, "through_training": history.document()}
    texts = {"report.json": json.dumps(whole, indent=1) + "\n", "report.html": render(document, measured, history)}
    for name, text in texts.items():
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, folder / name)
    return folder / "report.json", folder / "report.html"
