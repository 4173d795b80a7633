"""All metrics, as data: a new one is a file with `measure(bench)` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dreamer.dream.report import causal, execution, interactive, persistent, physical, realtime, trustworthy, useful
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import Quantity


class Metric(NamedTuple):
    """One property of a world model.

    Attributes:
        name: for `--only`.
        question: what a reader wants to know.
        measure: gives the quantities.
        is_timed: they are times of this machine, and differ from run to run.
        needs: what to do where it gives nothing.
    """

    name: str
    question: str
    measure: Callable[[Bench], list[Quantity]]
    is_timed: bool = False
    needs: str = ""


METRICS = (
    Metric("causal", "Does it know what an action changes?", causal.measure),
    Metric("interactive", "For how long do the actions matter?", interactive.measure),
    Metric(
        "persistent",
        "Is what was out of view still there?",
        persistent.measure,
        needs=f"It needs a world in which something is left behind: train on --env {persistent.WORLDS}.",
    ),
    Metric("realtime", "Is it fast enough to be played?", realtime.measure, is_timed=True),
    Metric(
        "physical",
        "Does it know the laws of motion?",
        physical.measure,
        needs="It needs a world whose laws are known, --env dreamer/Uniform-v0, dreamer/Parabola-v0 or "
        "dreamer/Collision-v0, or can be changed: a task of DeepMind Control from vectors, as dmc_cartpole_swingup. Of "
        "dmc_vision_ tasks it is not measured, since the state is not observed.",
    ),
    Metric("useful", "Can policies be compared in it?", useful.measure),
    Metric("execution", "Do its plans work in reality?", execution.measure),
    Metric("trustworthy", "Does it know what it does not know?", trustworthy.measure),
)
