"""The report card of a run that is being trained, as its `ScheduledReports` ask for it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamer.dream.report.card import PROTOCOL, chosen, report
from dreamer.dream.report.estimate import FEWEST, Quantity
from dreamer.dream.report.watched import WatchedAgent
from dreamer.dream.simulation import SimulationError
from dreamer.evaluation import make_environment
from dreamer.training.counters import START, Counters
from dreamer.training.scheduled_report import QUANTITIES, UnmeasurableError
from dreamer.training.state import Definition, Params
from envs.environment import Environment
from envs.space_json import Interface


class DuringTraining:
    """A `Measure` with the metrics of `dreamer.report`, environments of its own, and the same starts' seed every time.

    Args:
        definition: networks of the run.
        interface: how they and the environment speak.
        env: a name, or a function that makes the environment.
        path: of the run.
        only: names of properties.
        num_starts: start states.

    Raises:
        SimulationError: a property is unknown, or there are too few starts.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        interface: Interface,
        env: str | Callable[[], Any],
        path: Path,
        only: list[str],
        num_starts: int,
    ) -> None:
        chosen(only)
        if num_starts < FEWEST:
            raise SimulationError(f"{num_starts} starts give no interval; take at least {FEWEST}")
        self._env, self._only, self._num_starts = env, only, num_starts
        self._seed = definition.config.seed
        # One agent for all reports, so that they compile once; it has parameters only while one is made.
        self._agent = WatchedAgent(
            definition, interface=interface, params={}, counters=START, path=path, seed=self._seed
        )

    def __call__(
        self, params: Params, *, counters: Counters, show: Callable[[str], None], look: Callable[[], None]
    ) -> dict[str, Any]:
        """One report; see `Measure`."""
        began = time.monotonic()
        agent = copy.copy(self._agent)
        agent.params, agent.counters, agent.look = params, counters, look

        def on_progress(name: str, text: str) -> None:
            show(name)
            look()

        def make(seed: int) -> Environment:
            return make_environment(agent, self._env, seed=seed)

        try:
            _, measured = report(
                agent,
                make,
                only=self._only,
                num_starts=self._num_starts,
                seed=self._seed,
                on_progress=on_progress,
                look=look,
            )
        except SimulationError as error:
            raise UnmeasurableError(str(error)) from error
        found = {f"{metric.name}/{one.key}": _headline(one) for metric, many in measured for one in many}
        if not found:
            raise UnmeasurableError(" ".join(dict.fromkeys(metric.needs for metric, _ in measured)))
        seconds = round(time.monotonic() - began, 1)
        return {"protocol": PROTOCOL, "num_starts": self._num_starts, "report_seconds": seconds, QUANTITIES: found}


def _headline(quantity: Quantity) -> dict[str, Any]:
    """A quantity at one place of its axis."""
    contestants = {name: quantity.at(name) for name in quantity.values}
    return {
        "title": quantity.title,
        "unit": quantity.unit,
        "at": f"{quantity.x[quantity.headline]:g} {quantity.axis}" if quantity.axis else "",
        "higher_is_better": quantity.higher_is_better,
        "ideal": quantity.ideal,
        "values": {name: None if one is None else one._asdict() for name, one in contestants.items()},
    }
