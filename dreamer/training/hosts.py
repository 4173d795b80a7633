"""Several hosts: processes, on one machine or on many, that train one run together, each started with the same command.

Every host has its own environments, its own share of replay and of every batch; the train state is one array over all
their devices, and host 0 alone prints, logs and saves. All hosts go through the same places in the same order, which
is what keeps the same updates on the same state: whatever one clock, one signal or one environment decides is said
to all first (`Hosts.agree`, once in a step of the environments).

A run of one process is one host: everything here then returns what it was given.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from dreamer.config import HostsConfig, ReplayConfig
from dreamer.training.collect import Episode
from dreamer.training.line import FAULT, Line, accept, connect

HOST_SEED = 0x686F7374  # sub-seed of the hosts beside host 0
JOIN_SECONDS = 300
GOODBYE_SECONDS = 60  # that JAX waits at the end of a process for the others to end, too
NEWS_SECONDS = 5.0  # from a collective that fails to the news which host is gone
INTRODUCTION_BYTES = 512


class Round(NamedTuple):
    """What a host says after a step of its environments; and, put together, what all do next.

    Attributes:
        episodes: that have ended.
        ready: replay has enough to train on.
        save: it is time to save, by the clock of host 0.
        stop: a signal has come.
        failed: the environments have; the run is saved and ends.
    """

    episodes: Sequence[Episode] = ()
    ready: bool = False
    save: bool = False
    stop: bool = False
    failed: bool = False


class Hosts:
    """The hosts of a run as one of them sees them; a context manager that takes leave.

    Args:
        line: to the others; None where there are none.
        count: of all.
        index: number of this one.
    """

    def __init__(self, line: Line | None = None, *, count: int = 1, index: int = 0) -> None:
        self.count, self.index = count, index
        self._line = line

    @property
    def is_first(self) -> bool:
        """Whether this one prints, logs and saves."""
        return self.index == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def exchange(self, value: Any, *, at: str) -> list[Any]:
        """What every host says at this place; see `Line.exchange`."""
        return [value] if self._line is None else self._line.exchange(value, at=at)

    def agree(self, mine: Round) -> Round:
        """Puts together what all hosts say after a step.

        Raises:
            HostLostError: a host has gone.
        """
        rounds = [Round(*said) for said in self.exchange(mine, at="step")]
        return Round(
            episodes=[Episode(*episode) for said in rounds for episode in said.episodes],
            ready=all(said.ready for said in rounds),
            save=rounds[0].save,
            stop=any(said.stop for said in rounds),
            failed=any(said.failed for said in rounds),
        )

    @contextmanager
    def all_or_none(self, failure: type[Exception]) -> Iterator[None]:
        """A block that every host runs: where it raises on one, it has failed on all.

        Raises:
            failure: on the hosts on which nothing was raised; it names those on which something was.
        """
        try:
            yield
        except Exception as error:
            self.exchange(str(error) or type(error).__name__, at="end of a block")
            raise
        problems = self.exchange("", at="end of a block")
        if any(problems):
            raise failure("; ".join(f"on host {index}: {text}" for index, text in enumerate(problems) if text))

    def require_all(self) -> None:
        """For an error that the loss of another host may have caused.

        Raises:
            HostLostError: a host has gone.
        """
        if self._line is not None:
            self._line.require_all(within=NEWS_SECONDS)

    def share(self, replay: ReplayConfig) -> ReplayConfig:
        """This host's share of replay and of a batch; both divide, see `dreamer.validation`."""
        return dataclasses.replace(
            replay, capacity=replay.capacity // self.count, batch_size=replay.batch_size // self.count
        )

    def seed(self, seed: int) -> int:
        """Root of what is random on this host alone: environments, draws from replay, actions. Host 0 keeps `seed`."""
        if self.is_first:
            return seed
        return int(np.random.SeedSequence([seed, HOST_SEED, self.index]).generate_state(1)[0] >> 1)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failure=f"{error or kind.__name__}" if kind else "")

    def close(self, *, failure: str = "") -> None:
        """Takes leave of the others, with the reason where this one fails; they end then, too."""
        if self._line is None:
            return
        self._line.close(failure=failure)
        self._line = None
        if failure:
            atexit.register(_leave_at_once)


def join(config: HostsConfig) -> Hosts:
    """Waits for the other hosts and makes JAX see the devices of all; before anything else uses JAX.

    A process joins JAX once. Another call, of `dreamer.Dreamer.learn` say, opens another line between the same hosts.

    Raises:
        HostLostError: a host cannot be reached over the line.
        HostsError: JAX finds no others, or runs already.
    """
    if config.count == 1:
        return Hosts()
    if not jax.distributed.is_initialized():
        _initialize(config)
    count, index = jax.process_count(), jax.process_index()
    return Hosts(_open_line(config, count=count, index=index), count=count, index=index) if count > 1 else Hosts()


class HostsError(RuntimeError):
    """Hosts that do not find each other."""


def _initialize(config: HostsConfig) -> None:
    address = config.coordinator or None
    where = f"host 0 at {address}" if address else "the others, as Slurm, Open MPI or the TPU tells"
    who = f"host {config.index} of {config.count}" if config.count else "this host"
    print(f"{who} joins {where}; waits at most {JOIN_SECONDS} s", file=sys.stderr, flush=True)
    jax.config.update("jax_enable_preemption_service", val=False)  # it would take SIGTERM from us
    # A program from the cache of one host and the same one compiled on another did not meet in their collectives: on
    # CPUs both waited for ever. JAX keeps only what host 0 compiles, so the others would always differ from it.
    jax.config.update("jax_enable_compilation_cache", val=False)
    try:
        jax.distributed.initialize(
            address,
            num_processes=config.count or None,
            process_id=config.index if config.count else None,
            initialization_timeout=JOIN_SECONDS,
            shutdown_timeout_seconds=GOODBYE_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise HostsError(
            f"the hosts do not find each other: {error} Give every one the same --hosts.count and "
            "--hosts.coordinator HOST:PORT, and its own --hosts.index."
        ) from error


def _open_line(config: HostsConfig, *, count: int, index: int) -> Line:
    """Host 0 says over JAX where it listens, and what one has to know to be let in."""
    if index:
        told = _broadcast({})
        host = config.coordinator.rpartition(":")[0] or told["host"]
        return Line({0: connect((host, told["port"]), secret=told["secret"], index=index)}, index=index)
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=count) as server:
        told = {"host": socket.gethostname(), "port": server.getsockname()[1], "secret": secrets.token_hex(16)}
        _broadcast(told)
        return Line(accept(server, secret=told["secret"], count=count), index=0)


def _broadcast(document: dict[str, Any]) -> dict[str, Any]:
    """What host 0 gives, at every host."""
    text = json.dumps(document).encode()
    letters = np.frombuffer(text.ljust(INTRODUCTION_BYTES), np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(letters)).tobytes())


def _leave_at_once() -> None:
    """At the end of a process that has failed: JAX would wait for the others, and then abort with pages of C++."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAULT)
