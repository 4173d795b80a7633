"""What acts in another process, perhaps on another machine: environments, and the policy on a CPU."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import numpy as np

import envs
from dreamer.config import Config
from dreamer.training.collect import Collector, Episode
from dreamer.training.compilation import cache_compilations
from dreamer.training.state import Definition, Params
from dreamer.training.step import make_policy_step
from dreamer.types import CompactLatent
from envs.environment import Described
from envs.spaces import Timestep


@dataclass
class Description(Described):
    """What the learner needs to know of environments that it does not hold.

    Attributes:
        host: the machine that holds them.
    """

    host: str


class Row(NamedTuple):
    """One step of the environments of a worker.

    Attributes:
        timestep: what they returned, `[N, ...]`.
        action: flat actions chosen after it, float32 `[N, A]`.
        latent: posterior after it, as replay keeps it.
        episodes: that ended in it.
        open_episode: the longest of those under way.
    """

    timestep: Timestep
    action: np.ndarray
    latent: CompactLatent
    episodes: list[Episode]
    open_episode: Episode


class Round(NamedTuple):
    """Rows that were acted with the same parameters, in order; and the environments' incidents so far."""

    rows: list[Row]
    incidents: dict[str, int]


class Worker:
    """Environments with a collector of their own. Everything is made by the first call, not before.

    Args:
        config: of the run.
        env: a name, or a function that makes the environment.
        seed: of its environments and its policy.
        num_envs: its share.
    """

    def __init__(self, config: Config, env: str | Callable[[], Any], *, seed: int, num_envs: int) -> None:
        self._config, self._env, self._seed, self._num_envs = config, env, seed, num_envs
        self._made: tuple[Any, Collector] | None = None

    def describe(self) -> Description:
        """What its environments are.

        Raises:
            EnvironmentFault: they cannot be made.
        """
        environment, _ = self._parts()
        values = {field.name: getattr(environment, field.name) for field in fields(Described)}
        return Description(host=socket.gethostname(), **values)

    def act(self, params: Params, *, first: int, steps: int) -> Round:
        """Acts for some steps with the same parameters.

        Args:
            params: of the policy, as host arrays.
            first: number of the first step among those of the run, which decides the policy's randomness.
            steps: of every environment.
        """
        environment, collector = self._parts()
        collector.num_steps = first
        on_device, sink = jax.device_put(params), _Kept()
        rows = []
        for _ in range(steps):
            episodes = collector.step(on_device, sink, meanwhile=lambda: True)
            rows.append(Row(*sink.newest, episodes, collector.open_episode))
        return Round(rows, environment.incidents)

    def _parts(self) -> tuple[Any, Collector]:
        if self._made is None:
            cache_compilations()
            settings = self._config.environment
            environment = envs.make(self._env, num_envs=self._num_envs, seed=self._seed, settings=settings)
            definition = Definition(self._config, environment.observation_spec, environment.action_spec)
            policy_step = make_policy_step(definition)
            collector = Collector(environment, definition=definition, policy_step=policy_step, seed=self._seed)
            self._made = environment, collector
        return self._made


class _Kept:
    """The sink of a worker's collector."""

    newest: tuple[Timestep, np.ndarray, CompactLatent]

    def add(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> None:
        self.newest = timestep, action, latent
