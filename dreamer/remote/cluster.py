"""Ray, as far as the workers need it. The only importer of Ray, and that only once a cluster is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dreamer.config import RayConfig, host_and_port
from envs.environment import SimulatorCrash

CONNECT_SECONDS = 10.0
LOCAL, AUTO = "local", "auto"
ON_ONE_CORE = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}  # environment of a worker
COLLECTING = MappingProxyType({"num_cpus": 1, "runtime_env": {"env_vars": ON_ONE_CORE}})


class ClusterError(RuntimeError):
    """Ray is not installed, or the cluster cannot be used; the message names the remedy."""


class Cluster:
    """A connection to Ray. One that the program has made itself is used as it is, and stays open.

    Connect before JAX has started its threads: Ray starts its own processes by fork. When Ray on this machine or the
    cluster's head is lost, Ray ends this process as a kill would; the run goes on from its newest checkpoint.

    Args:
        settings: where, and for how many workers.
        asked_by: flags of the command line that ask for workers and name the address.
        echo: whether what the workers print is printed here, too.

    Raises:
        ClusterError: there is no Ray, no cluster, or not enough of it.
    """

    def __init__(
        self,
        settings: RayConfig,
        *,
        asked_by: tuple[str, str] = ("--ray.collectors", "--ray.address"),
        echo: bool = True,
    ) -> None:
        self._asked_by, self._echo = asked_by, echo
        self._ray = _installed(asked_by[0])
        self._is_mine = not self._ray.is_initialized()
        if self._is_mine:
            with _own_signal_handlers():
                self._connect(settings)
        cpus = int(self.resources().get("CPU", 0))
        if cpus < settings.collectors:
            self.close()
            raise ClusterError(
                f"{asked_by[0]} {settings.collectors} need a CPU core each, and the Ray cluster has {cpus}: ask for "
                "fewer, or join more machines to it (ray start --address=HOST:PORT)."
            )

    def resources(self) -> dict[str, float]:
        """All that the machines of the cluster have now, such as `CPU` and `GPU`."""
        return self._ray.cluster_resources()

    def start(self, kind: type, *arguments: Any, options: Mapping[str, Any] = COLLECTING, **named: Any) -> Any:
        """Makes an object in a process of its own, as far from the others as there are machines; returns a handle.

        It does not wait: whatever goes wrong is raised by the first result.

        Args:
            kind: class of the object.
            arguments: of the class.
            options: of Ray, for the process.
            named: further arguments of the class.
        """
        return self._ray.remote(kind).options(scheduling_strategy="SPREAD", **options).remote(*arguments, **named)

    def put(self, value: Any) -> Any:
        """Shares arrays with all processes; every machine fetches them once. Returns what to pass as an argument."""
        return self._ray.put(value)

    def call(self, handle: Any, method: str, *arguments: Any, **named: Any) -> Any:
        """Begins a call, after those begun before on the same handle; returns the promise of its result."""
        return getattr(handle, method).remote(*arguments, **named)

    def wait(self, promises: Sequence[Any], *, seconds: float) -> list[Any]:
        """Waits until one of them is kept or broken; returns those that are."""
        look = {"fetch_local": False}  # what is there but not on this machine yet is kept, too
        self._ray.wait(list(promises), timeout=seconds, **look)
        ready, _ = self._ray.wait(list(promises), num_returns=len(promises), timeout=0, **look)
        return ready

    def get(self, promise: Any) -> Any:
        """The result, on this machine.

        Raises:
            SimulatorCrash: the process or its machine is lost.
            Exception: what the call itself raised.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(promise)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayError as error:
            found = re.search(r"The actor is dead because ([^.]+)", str(error))
            reason = found[1] if found else f"its process or its machine does not answer ({type(error).__name__})"
            raise SimulatorCrash(f"is lost: {reason}") from error

    def kill(self, handle: Any) -> None:
        """Ends a process, whatever it is doing."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(handle)

    def close(self) -> None:
        """Leaves the cluster; a local one ends."""
        if self._is_mine:
            self._ray.shutdown()

    def _connect(self, settings: RayConfig) -> None:
        quiet = {"logging_level": "error", "log_to_driver": self._echo}
        if settings.address == LOCAL:
            self._ray.init(address=LOCAL, num_cpus=settings.collectors, include_dashboard=False, **quiet)
            return
        if settings.address != AUTO:
            _require_answer(settings.address, flag=self._asked_by[1])
        try:
            self._ray.init(address=settings.address, **quiet)
        except Exception as error:  # of many kinds: no node here, other versions, a lost token
            reason = " ".join(str(error).split())[:300]
            raise ClusterError(
                f"{self._asked_by[1]} {settings.address}: {reason} This machine has to be part of the cluster: `ray "
                "start --head` begins one, `ray start --address=HOST:PORT` joins it (with token authentication also "
                "set RAY_AUTH_MODE=token); or leave the flag out for a cluster of this machine alone."
            ) from error


def _installed(flag: str) -> Any:
    """The package. A folder of that name in the working directory is not it."""
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        raise ClusterError(f"{flag} needs Ray: pip install -e '.[ray]', or leave the flag out.")
    import ray  # pyright: ignore[reportMissingImports]  # an extra

    return ray


def _require_answer(address: str, *, flag: str) -> None:
    """Ray itself tries for minutes."""
    try:
        socket.create_connection(host_and_port(address), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"{flag} {address}: nobody answers there ({error}). `ray start --head` begins a cluster and says "
            "its address."
        ) from error


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it saves the run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):  # not the main thread, where Ray could not do it either
                signal.signal(number, handler)
