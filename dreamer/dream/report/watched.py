"""Simulations and agents that can be interrupted: somebody looks up before every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from dreamer.agent import Agent, AgentState
from dreamer.dream.simulation import Outcome, Simulation, Start


class Watched:
    """Another simulation, as it is.

    Args:
        simulation: the other.
        look: called before each of its steps; what it raises comes out.
    """

    def __init__(self, simulation: Simulation, look: Callable[[], None]) -> None:
        self.observation_spec, self.action_spec = simulation.observation_spec, simulation.action_spec
        self._simulation, self._look = simulation, look

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        """As the other does."""
        return self._simulation.begin(start, seed=seed)

    def step(self, state: Any, action: Float[np.ndarray, "N A"]) -> tuple[Any, Outcome]:
        """As the other does."""
        self._look()
        return self._simulation.step(state, action)


class WatchedAgent(Agent):
    """An agent in front of whose actions somebody looks up."""

    look: Callable[[], None]

    @override
    def act(
        self, observation: dict[str, np.ndarray], *, state: AgentState | None, is_first: np.ndarray, deterministic: bool
    ) -> tuple[np.ndarray, AgentState]:
        """As every agent does."""
        self.look()
        return super().act(observation, state=state, is_first=is_first, deterministic=deterministic)
