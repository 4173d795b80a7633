"""Simulations that know nothing of what follows from actions: the negative controls of every measurement."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from dreamer.dream.simulation import Outcome, Simulation, Start, require_action, require_start
from dreamer.training.state import Params
from envs.spaces import ActionSpec, ObservationSpec


class ActionBlind:
    """Another simulation, told at every step that nothing is done: the flat action is zero."""

    def __init__(self, simulation: Simulation) -> None:
        self.observation_spec, self.action_spec = simulation.observation_spec, simulation.action_spec
        self._simulation = simulation

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        """As the other does, past actions included."""
        return self._simulation.begin(start, seed=seed)

    def step(self, state: Any, action: Float[np.ndarray, "N A"]) -> tuple[Any, Outcome]:
        """As the other does, whatever the action."""
        action = require_action(action, num=len(action), simulation=self)
        return self._simulation.step(state, np.zeros_like(action))


class Frozen:
    """The last observation for ever, with reward 0 and no end.

    Constants rank no action above another, which is all that a control needs: of a mean reward a start tells nothing.
    """

    def __init__(self, *, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
        self.observation_spec, self.action_spec = observation_spec, action_spec

    def begin(self, start: Start, *, seed: int) -> tuple[Outcome, Outcome]:
        """The present; the state is the outcome that every step repeats."""
        num = require_start(start, self)
        observation = {key: np.array(array[:, -1]) for key, array in start.observation.items()}
        outcome = Outcome(observation, np.zeros(num, np.float32), np.ones(num, np.float32), np.zeros(num, bool), {})
        return outcome, outcome

    def step(self, state: Outcome, action: Float[np.ndarray, "N A"]) -> tuple[Outcome, Outcome]:
        """The present again."""
        require_action(action, num=len(state.reward), simulation=self)
        return state, state


def shuffle_weights(params: Params, *, seed: int) -> Params:
    """The same numbers in every array, in a random order: a model of the same size and scale that has learned nothing.

    For `ModelSimulation(agent, params=...)`.
    """
    rng = np.random.default_rng(seed)

    def shuffle(leaf: jax.Array) -> jax.Array:
        return jax.device_put(rng.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape), leaf.sharding)

    return jax.tree.map(shuffle, params)
