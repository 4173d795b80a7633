"""Physical: does what moves move as it should, also where nothing like it was seen (G6)?

Asked of the built-in suite of balls, whose laws are known, and of bodies in MuJoCo, whose laws can be changed.
"""

from __future__ import annotations

from dreamer.dream.report import balls, perturbed
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import Quantity


def measure(bench: Bench) -> list[Quantity]:
    """Of balls or of bodies; nothing in a world of another kind."""
    return balls.measure(bench) + perturbed.measure(bench)
