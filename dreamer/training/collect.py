"""Acting: the policy steps the environments, and replay gets what happened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from dreamer.training.state import Definition, Params
from dreamer.training.step import PolicyCarry, initial_carry
from dreamer.types import CompactLatent
from envs.spaces import Timestep

POLICY_KEY = 0x706F6C69  # sub-seed of the policy's randomness
MANY_SHORT = 1000  # episodes of one step after which a reset that ends at once is suspected
BFLOAT16_EXPONENT = 0x7F80
PATIENCE, GLANCE = 2.0, 0.05  # seconds until an environment is slow, and between looks at one that is
TIMESTEP, EPISODE, ENVIRONMENT = "timestep/", "episode/", "environment/"  # prefixes in a checkpoint


class Environment(Protocol):
    """What acting needs of `envs.Environment`."""

    num_envs: int
    can_fork: bool

    def reset(self) -> Timestep:
        """Start episodes."""
        ...

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong so far."""
        ...

    def begin(self, action: np.ndarray) -> None:
        """Announce a step."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for it, at most so long; whether it is there."""
        ...

    def step(self, action: np.ndarray) -> Timestep:
        """Act."""
        ...

    def get_state(self) -> dict[str, np.ndarray]:
        """What the future depends on."""
        ...

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from there."""
        ...


class Sink(Protocol):
    """Where steps go: a replay."""

    def add(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> None:
        """Store one step of every environment."""
        ...


class NonFiniteActionError(RuntimeError):
    """The policy computed a NaN or an infinity."""


class Episode(NamedTuple):
    """A finished episode: undiscounted return, and length in agent steps."""

    score: float
    length: int


class Collecting(Protocol):
    """What the trainer needs of whoever acts: `Collector` in this process, or `dreamer.remote` in many.

    Attributes:
        num_envs: environments that step together.
        carry: of the policy, for the checkpoint.
    """

    num_envs: int
    carry: PolicyCarry

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong with the environments so far."""
        ...

    @property
    def open_episode(self) -> Episode:
        """The longest of the episodes under way, as it stands."""
        ...

    def step(self, params: Params, sink: Sink, *, meanwhile: Callable[[], bool]) -> list[Episode]:
        """One step of every environment goes into the sink; returns the episodes that ended."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Everything else that the next step depends on, as named arrays."""
        ...

    def restore(self, arrays: dict[str, np.ndarray], carry: PolicyCarry) -> None:
        """Continues where `state` was taken, as far as the environments can."""
        ...


class Collector:
    """Steps N environments with the newest parameters. Its state and the replay's make a resumed run exact.

    Args:
        env: the environments; reset by the first step unless `restore` comes before it.
        definition: the networks.
        policy_step: the jitted policy step.
        seed: root of the policy's randomness; step n uses `fold_in(key, n)`.
    """

    def __init__(self, env: Environment, *, definition: Definition, policy_step: Callable[..., Any], seed: int) -> None:
        self.num_envs = env.num_envs
        self.carry = initial_carry(definition, env.num_envs)
        self.num_steps = 0  # of the vector of environments
        self._env, self._policy_step = env, policy_step
        self._key = jax.random.fold_in(jax.random.key(seed), POLICY_KEY)
        self._timestep: Timestep | None = None
        self._scores = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._short = 0  # episodes of at most one step, in a row

    def step(self, params: Params, sink: Sink, *, meanwhile: Callable[[], bool]) -> list[Episode]:
        """One step of every environment: choose actions, store what was seen, act. Returns the episodes that ended.

        Args:
            params: of the policy.
            sink: gets the steps.
            meanwhile: called again and again while an environment is slow; False: wait no longer, the run ends.

        Raises:
            NonFiniteActionError: the policy gave what must not enter replay; nothing of this step did.
        """
        timestep = self._env.reset() if self._timestep is None else self._timestep
        ended = self._count(timestep)
        self.carry, action, latent = self._policy_step(
            params, self.carry, timestep.observation, timestep.is_first, self._key, np.uint32(self.num_steps)
        )
        host_action, host_latent = jax.device_get((action, latent))  # one wait for the device per step
        require_finite(host_action, host_latent)
        sink.add(timestep, action=host_action, latent=host_latent)
        self._timestep, self.num_steps = None, self.num_steps + 1  # if the step fails, the next one begins with a reset
        self._env.begin(host_action)
        patience = PATIENCE
        while not self._env.wait(patience):
            if not meanwhile():
                return ended
            patience = GLANCE
        self._timestep = self._env.step(host_action)
        return ended

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong with the environments so far."""
        return self._env.incidents

    @property
    def open_episode(self) -> Episode:
        """The longest of the episodes under way, as it stands."""
        longest = int(np.argmax(self._lengths))
        return Episode(float(self._scores[longest]), int(self._lengths[longest]))

    def state(self) -> dict[str, np.ndarray]:
        """Everything on the host that the next step depends on, as named arrays; the carry is kept apart.

        The environments' own state is in it where they can give it.
        """
        arrays = {EPISODE + "scores": self._scores, EPISODE + "lengths": self._lengths}
        arrays[EPISODE + "steps"] = np.asarray(self.num_steps)
        if self._timestep is not None and self._env.can_fork:
            arrays |= {ENVIRONMENT + name: value for name, value in self._env.get_state().items()}
            arrays |= {f"{TIMESTEP}observation/{key}": value for key, value in self._timestep.observation.items()}
            arrays |= {TIMESTEP + name: getattr(self._timestep, name) for name in Timestep._fields[1:]}
        return arrays

    def restore(self, arrays: dict[str, np.ndarray], carry: PolicyCarry) -> None:
        """Continues where `state` was taken.

        Environments that cannot be set to a state are reset; replay closes the episode that was open as truncated.
        """
        self.num_steps = int(arrays[EPISODE + "steps"])
        environment = _below(arrays, ENVIRONMENT)
        if not environment:
            return
        self._env.set_state(environment)
        self.carry = carry
        self._scores, self._lengths = arrays[EPISODE + "scores"].copy(), arrays[EPISODE + "lengths"].copy()
        timestep = _below(arrays, TIMESTEP)
        flags = {name: timestep[name] for name in Timestep._fields[1:]}
        self._timestep = Timestep(_below(timestep, "observation/"), **flags)

    def _count(self, timestep: Timestep) -> list[Episode]:
        """Adds up scores and lengths; an episode of T + 1 observations has T steps."""
        self._scores = np.where(timestep.is_first, 0.0, self._scores + timestep.reward)
        self._lengths = np.where(timestep.is_first, 0, self._lengths + 1)
        ended = np.flatnonzero(timestep.is_last)
        self._warn_of_short(self._lengths[ended])
        return [Episode(float(self._scores[index]), int(self._lengths[index])) for index in ended]

    def _warn_of_short(self, lengths: np.ndarray) -> None:
        for length in lengths:
            self._short = self._short + 1 if length <= 1 else 0
            if self._short == MANY_SHORT:
                print(
                    f"WARNING: the last {MANY_SHORT:,} episodes ended at their first step; is that meant?",
                    file=sys.stderr,
                    flush=True,
                )


def require_finite(action: np.ndarray, latent: CompactLatent) -> None:
    """Keeps NaN and infinity out of replay.

    Raises:
        NonFiniteActionError: an action or a latent is not finite.
    """
    # As bits, in a tenth of the time: a bfloat16 is not finite where all bits of its exponent are set.
    poisoned = (latent.deter.view(np.uint16) & BFLOAT16_EXPONENT) == BFLOAT16_EXPONENT
    for what, faults in (("action", ~np.isfinite(action)), ("latent", poisoned)):
        if faults.any():
            number = int(np.flatnonzero(faults.any(axis=-1))[0])
            raise NonFiniteActionError(
                f"the policy's {what} for environment {number} is not finite; it did not enter replay, and the "
                "checkpoints are as they were: the same command goes on from the newest. If this comes again, start a "
                "new run with a smaller --optimizer.learning-rate."
            )


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
