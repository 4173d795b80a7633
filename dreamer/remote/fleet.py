"""All workers together: what they are, the round under way, and who takes the place of one that is lost."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from dreamer.config import Config
from dreamer.remote.worker import Description, Round, Worker
from dreamer.training.collect import GLANCE, PATIENCE, NonFiniteActionError
from dreamer.training.state import Params
from envs.environment import EnvironmentFault, SimulatorCrash, env_seeds
from envs.loop import require_alike
from envs.restarts import Restarts
from envs.worker import START_SECONDS


class Processes(Protocol):
    """What a fleet needs of `dreamer.remote.cluster.Cluster`."""

    def start(self, kind: type, *arguments: Any, **named: Any) -> Any:
        """Makes an object in another process."""
        ...

    def put(self, value: Any) -> Any:
        """Shares arrays."""
        ...

    def call(self, handle: Any, method: str, *arguments: Any, **named: Any) -> Any:
        """Begins a call."""
        ...

    def wait(self, promises: list[Any], *, seconds: float) -> list[Any]:
        """Those that are kept or broken."""
        ...

    def get(self, promise: Any) -> Any:
        """Its result."""
        ...

    def kill(self, handle: Any) -> None:
        """Ends a process."""
        ...


@dataclasses.dataclass
class _Place:
    """A worker's place in the fleet, whoever holds it.

    Attributes:
        index: of its rows in the whole.
        handle: of its process.
        restarts: in this place.
        described: promise of its description.
        acting: promise of its round under way.
        result: that round, once it is received.
        deadline: when it counts as hung.
        host: its machine; empty before its first round, for which it has to start and to compile.
        incidents: of its environments so far.
    """

    index: int
    handle: Any
    restarts: Restarts
    described: Any
    acting: Any = None
    result: Round | None = None
    deadline: float = 0.0
    host: str = ""
    incidents: dict[str, int] = dataclasses.field(default_factory=dict)


class Fleet:
    """As many workers as `--ray.collectors`, which share the environments of the run evenly.

    A worker that dies with its process or its machine, that raises what its environment is not to blame for, or that
    hangs is replaced by a new one with another seed, which makes the round under way again, from fresh episodes. What
    was received before is not touched. As many failures are forgiven as `--environment.max-restarts` allows.

    Args:
        processes: where the workers live.
        config: of the run.
        env: a name, or a function that makes the environment.

    Attributes:
        description: of all environments together, as `envs.Environment` would have it.

    Raises:
        EnvironmentFault: a worker cannot make its environments, or they differ.
    """

    def __init__(self, processes: Processes, config: Config, env: str | Callable[[], Any]) -> None:
        self._processes, self._config, self._env = processes, config, env
        self._order: tuple[Any, dict[str, int]] | None = None  # of the round under way: parameters, and which steps
        self._past: Counter[str] = Counter()  # incidents of workers that were replaced
        self._places: list[_Place] = []
        try:
            for index, seed in enumerate(env_seeds(config.seed, config.ray.collectors)):
                restarts = Restarts(limit=config.environment.max_restarts, seed=seed)
                handle = self._start(seed)
                described = processes.call(handle, "describe")
                self._places.append(_Place(index, handle, restarts, described))
            self.description = self._meet()
        except BaseException:
            self.close()
            raise

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong so far: with environments as their workers tell, and with workers."""
        environments = sum((Counter(place.incidents) for place in self._places), self._past)
        names = {name: 0 for place in self._places for name in place.incidents}
        return names | environments | {"collector_restarts": sum(place.restarts.total for place in self._places)}

    def begin(self, params: Params, *, first: int) -> None:
        """Orders a round of `--ray.round` steps.

        Args:
            params: as host arrays.
            first: number of its first step.
        """
        self._order = self._processes.put(params), {"first": first, "steps": self._config.ray.round}
        for place in self._places:
            self._ask(place)

    def receive(self, *, meanwhile: Callable[[], bool]) -> list[Round] | None:
        """Waits for the round that was ordered; one entry for each worker, in order.

        Args:
            meanwhile: called again and again while it takes long; False: wait no longer.

        Returns:
            None if it was not waited for.

        Raises:
            EnvironmentFault: an environment is at fault, or workers have failed too often.
            NonFiniteActionError: the policy gave what must not enter replay.
        """
        patience = PATIENCE
        while waiting := [place for place in self._places if place.result is None]:
            ready = self._processes.wait([place.acting for place in waiting], seconds=patience)
            if not ready:
                if not meanwhile():
                    return None
                patience = GLANCE
            for place in waiting:
                if place.acting in ready:
                    self._take(place)
                elif time.monotonic() > place.deadline:
                    seconds = self._config.ray.timeout
                    self._replace(place, SimulatorCrash(f"gave no round within {seconds:g} s (--ray.timeout)"))
        return [place.result for place in self._places if place.result is not None]

    def close(self) -> None:
        """Ends the workers."""
        for place in self._places:
            self._processes.kill(place.handle)

    def _start(self, seed: int) -> Any:
        share = self._config.environment.num_envs // self._config.ray.collectors
        return self._processes.start(Worker, self._config, self._env, seed=seed, num_envs=share)

    def _meet(self) -> Description:
        """Waits for all descriptions, and puts them together."""
        until = time.monotonic() + START_SECONDS
        for place in self._places:
            if not self._processes.wait([place.described], seconds=max(0.0, until - time.monotonic())):
                raise EnvironmentFault(
                    f"collector {place.index} was not ready within {START_SECONDS:g} s: either the cluster has no core "
                    "free for it (ray status tells), or its environment takes long to make"
                )
        first, *others = [self._processes.get(place.described) for place in self._places]
        for other in others:
            require_alike(other, first)
        hosts = Counter(description.host for description in (first, *others))
        num_envs = self._config.environment.num_envs
        where = ", ".join(f"{count} on {host}" for host, count in hosts.items())
        return dataclasses.replace(
            first, num_envs=num_envs, protocol=first.protocol | {"num_envs": num_envs, "collectors": where}
        )

    def _ask(self, place: _Place) -> None:
        assert self._order is not None
        params, which = self._order
        place.acting = self._processes.call(place.handle, "act", params, **which)
        seconds = self._config.ray.timeout + (0.0 if place.host else START_SECONDS)
        place.result, place.deadline = None, time.monotonic() + seconds

    def _take(self, place: _Place) -> None:
        """Receives a round, or what became of it."""
        try:
            description = self._processes.get(place.described)
            require_alike(description, self.description)
            result: Round = self._processes.get(place.acting)
            place.result, place.host, place.incidents = result, description.host, result.incidents
        except NonFiniteActionError:
            raise
        except Exception as error:
            self._replace(place, error)

    def _replace(self, place: _Place, error: Exception) -> None:
        """Puts a new worker in the place of one that failed, and orders the round again."""
        if isinstance(error, EnvironmentFault) and not isinstance(error, SimulatorCrash):
            raise error  # its worker has forgiven what can be forgiven
        assert self._order is not None
        first, steps = self._order[1].values()
        who = f"{self.description.protocol['env']}: collector {place.index}{place.host and f' on {place.host}'} "
        seed = place.restarts.renew(error, who=who, doing=f"in the round of steps {first} to {first + steps - 1}")
        self._processes.kill(place.handle)
        self._past.update(place.incidents)
        place.host, place.incidents = "", dict.fromkeys(place.incidents, 0)
        place.handle = self._start(seed)
        place.described = self._processes.call(place.handle, "describe")
        self._ask(place)
