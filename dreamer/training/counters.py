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

    @property
    def position(self) -> int:
        """How far the run is on its way: agent steps, or updates where it learns from a dataset and has no steps."""
        return self.agent_steps or self.updates

    @property
    def axis(self) -> int:
        """Where TensorBoard draws: at env frames, or at updates where there are none."""
        return self.env_frames or self.updates

    def __str__(self) -> str:
        return (
            f"{self.updates:,} updates"
            if self.updates and not self.agent_steps
            else f"{self.agent_steps:,} agent steps"
        )


START = Counters()
