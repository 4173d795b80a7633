"""DreamerV3 in JAX: a world model learns from gymnasium experience, and an agent learns inside it.

`python -m dreamer.train --env atari_pong` trains; `dreamer.Dreamer(env=..., size="1m").learn(steps=30_000)` does so
from Python; `dreamer.load("runs/x")` gives a trained agent. Importing the package loads no JAX; its attributes do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dreamer.own_envs import pin_own_envs

pin_own_envs()

if TYPE_CHECKING:
    from dreamer.agent import Agent, load
    from dreamer.api import Dreamer

__all__ = ["Agent", "Dreamer", "load"]

_HOME = {"Agent": "dreamer.agent", "load": "dreamer.agent", "Dreamer": "dreamer.api"}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'dreamer' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)
