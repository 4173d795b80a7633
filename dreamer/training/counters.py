"""The three named counters of a run. Every log line and every axis says which one it shows."""

from __future__ import annotations

from typing import NamedTuple


class Counters(NamedTuple):
    """How far a run is.

    Attributes:
        agent_steps: steps of all environments together, resets included.
        env_frames: frames of the simulator, `agent_steps` times the action repeat.
        updates: gradient updates.
    """

    agent_steps: int = 0
    env_frames: int = 0
    updates: int = 0


START = Counters()
