"""One interface for all that predicts what follows from actions: a world model, the environment itself, and controls.

What measures or plays takes any of them, so that a figure of the model always has the truth and a control beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Num

from envs.codec import observation_space
from envs.spaces import ActionSpec, ObservationSpec, action_width


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
    """Futures under actions. A state stays usable: to rewind is to keep it, to fork is to use it twice.

    What is simulated after an end (`continue_prob` 0, or `truncated`) means nothing; the truth repeats the end.

    Attributes:
        observation_spec: kinds of the observation's arrays.
        action_spec: kinds of the action's parts.
    """

    observation_spec: ObservationSpec
    action_spec: ActionSpec

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        """The state in which `N` futures begin, and how the present looks in it (reward 0).

        Args:
            start: where they begin.
            seed: root of all randomness of these futures; row i draws the same numbers whatever `N` is.

        Raises:
            SimulationError: it cannot begin there; the message says what is missing.
        """
        ...

    def step(self, state: Any, action: Float[np.ndarray, "N A"]) -> tuple[Any, Outcome]:
        """One agent step of every future, under flat actions as `envs.Environment` takes them."""
        ...


class SimulationError(ValueError):
    """A future cannot be simulated so; the message says what to do."""


class NotForkedError(SimulationError):
    """What would have happened is known to nobody, since there is no fork of the environment."""


def require_start(start: Start, simulation: Simulation) -> int:
    """The number of futures that begin there.

    Raises:
        SimulationError: an array is missing, or not of the shape and dtype that the simulation takes.
    """
    flags = np.asarray(start.is_first)
    if flags.ndim != 2 or 0 in flags.shape:
        raise SimulationError(f"the start's is_first has shape {flags.shape}; give [N, T], with a step at least")
    spaces = observation_space(simulation.observation_spec)
    wanted = {key: (tuple(space.shape or ()), np.dtype(space.dtype)) for key, space in spaces.items()}
    if start.observation.keys() != wanted.keys():
        raise SimulationError(f"the start observes {sorted(start.observation)}; this model takes {sorted(wanted)}")
    wanted["previous_action"] = ((action_width(simulation.action_spec),), np.dtype(np.float32))
    for key, array in {**start.observation, "previous_action": start.previous_action}.items():
        shape, dtype = (*flags.shape, *wanted[key][0]), wanted[key][1]
        if array.shape != shape or array.dtype != dtype:
            raise SimulationError(
                f"the start's {key!r} is {array.dtype.name} {list(array.shape)}; give {dtype} {list(shape)}, "
                "encoded as `envs.Environment` does"
            )
        if not np.isfinite(array).all():
            raise SimulationError(f"the start's {key!r} holds a NaN or an infinity; give finite numbers")
    return len(flags)


def require_action(action: np.ndarray, *, num: int, simulation: Simulation) -> Float[np.ndarray, "N A"]:
    """The actions as float32.

    Raises:
        SimulationError: they are not finite flat actions of so many futures.
    """
    action, wanted = np.asarray(action, np.float32), (num, action_width(simulation.action_spec))
    if action.shape != wanted:
        raise SimulationError(f"the action has shape {list(action.shape)}; give flat actions {list(wanted)}")
    if not np.isfinite(action).all():
        raise SimulationError("the action holds a NaN or an infinity; give finite numbers")
    return action
