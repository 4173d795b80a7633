"""One interface for all that predicts what follows from actions: a world model, the environment itself, and controls.

What measures or plays takes any of them, so that a figure of the model always has the truth and a control beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Num

from envs.spaces import ActionSpec, ObservationSpec


class Start(NamedTuple):
    """Where `N` futures begin: what was seen until now, in encoded form, as `envs.Environment` gives it.

    Attributes:
        observation: by key, `[N, T, ...]`; the last is the present.
        previous_action: flat actions that led to them, `[N, T, A]`.
        is_first: which of them come from a reset, `[N, T]`.
        forks: for each of the `N` a snapshot of its own environment (`Environment.fork_state`) at the present; None
            where there is none, as in replay: then the truth is not known.
    """

    observation: dict[str, Num[np.ndarray, "N T ..."]]
    previous_action: Float[np.ndarray, "N T A"]
    is_first: Bool[np.ndarray, "N T"]
    forks: tuple[Any, ...] | None = None


class Outcome(NamedTuple):
    """What an action led to, for each of `N` futures.

    Attributes:
        observation: by key, `[N, ...]`, encoded: images uint8, vectors float32, discrete int32.
        reward: `[N]`.
        continue_prob: that the task goes on, without the discount, `[N]`; of the truth 0 or 1.
        truncated: ended by a time limit, which only the truth knows, `[N]`.
        info: further arrays `[N, ...]` by name, such as `prior_entropy`, in nats.
    """

    observation: dict[str, Num[np.ndarray, "N ..."]]
    reward: Float[np.ndarray, " N"]
    continue_prob: Float[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    info: dict[str, np.ndarray]


class Simulation(Protocol):
    """Futures under actions. A state stays usable: to rewind is to keep it, to fork is to use it twice."""

    observation_spec: ObservationSpec
    action_spec: ActionSpec

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        """The state in which `N` futures begin, and how the present looks in it (reward 0).

        Raises:
            SimulationError: it cannot begin there; the message says what is missing.
        """
        ...

    def step(self, state: Any, action: Float[np.ndarray, "N A"]) -> tuple[Any, Outcome]:
        """One agent step of every future."""
        ...


class SimulationError(ValueError):
    """A future cannot be simulated so; the message says what to do."""
