"""Persistent: is what was seen still there after a time out of view (G4)?

Asked of the built-in `needle` corridor, whose facts can be read from a frame, and of Memory Maze, whose views can be
returned to.
"""

from __future__ import annotations

from dreamer.dream.report import mazes, needles
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import Quantity

WORLDS = f"{needles.NEEDLE}, or a Memory Maze"


def measure(bench: Bench) -> list[Quantity]:
    """Of needles or of views; nothing in a world of another kind."""
    return needles.measure(bench) + mazes.measure(bench)
