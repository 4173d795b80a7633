"""Trials on a Ray cluster: one process for each, on whichever machine has the cores and GPUs that it asks for.

All machines need this project, its packages and a folder that they share, at the same paths: a trial that is lost with
its machine goes on from its newest checkpoint on another.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dreamer.config import RayConfig
from dreamer.remote.cluster import LOCAL, Cluster, ClusterError
from dreamer.training.run_lock import is_locked
from envs.environment import EnvironmentFault
from experiments.sweep.processes import Handle, Outcome, launch, outcome_of
from experiments.sweep.trials import Trial

FLAGS = ("--jobs", "--ray")
PATIENCE = 120.0  # seconds in which the remains of a lost process may still save
GLANCE = 0.2  # seconds


class Host:
    """What holds a trial's process, on its machine. Calls of `signal` come while `run` waits."""

    def __init__(self, *, directory: str, environment: dict[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._signal = 0  # that came before the process was there

    def where(self) -> str:
        """The machine, and its GPUs that the trial may use."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return socket.gethostname() + (f" gpu {gpus}" if gpus else "")

    def run(self, command: Sequence[str], folder: str, log: str) -> int:
        """Runs a command to its end; returns its code, negative for a signal."""
        os.chdir(self._directory)
        lock, deadline = Path(folder, "run.lock"), time.monotonic() + PATIENCE
        while is_locked(lock) and time.monotonic() < deadline and not self._signal:
            time.sleep(GLANCE)
        process = launch(command, Path(log), environment=self._environment)
        self._process = process
        if self._signal:
            process.send_signal(self._signal)
        return process.wait()

    def signal(self, number: int) -> None:
        """Passes a signal on to the process."""
        self._signal = number
        if self._process is not None:
            self._process.send_signal(number)


class _Remote:
    """A trial somewhere in the cluster."""

    def __init__(self, cluster: Cluster, host: object, trial: Trial) -> None:
        self._cluster, self._host = cluster, host
        self._where = cluster.call(host, "where")
        self._place, self._outcome = "", None
        self._ended = cluster.call(host, "run", trial.command, str(trial.folder.absolute()), str(trial.log.absolute()))

    @property
    def place(self) -> str:
        """Where it runs; empty until the cluster has found a machine."""
        if not self._place and self._cluster.wait([self._where], seconds=0):
            with contextlib.suppress(EnvironmentFault):  # it is lost already, as `poll` will say
                self._place = self._cluster.get(self._where)
        return self._place

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs, or waits for a machine."""
        if self._outcome is None and self._cluster.wait([self._ended], seconds=0):
            try:
                self._outcome = outcome_of(self._cluster.get(self._ended))
            except EnvironmentFault as error:
                self._outcome = Outcome(None, f"its machine or process {error}")
            self._cluster.kill(self._host)  # gives its cores and GPUs back
        return self._outcome

    def signal(self, number: int) -> None:
        """Passes a signal on; a trial that still waits for a machine is withdrawn."""
        if self.place:
            self._cluster.call(self._host, "signal", number)
        else:
            self._cluster.kill(self._host)


class RayRunner:
    """Trials in a Ray cluster.

    Args:
        address: `local` for a cluster of this machine alone, `auto`, or `HOST:PORT`.
        jobs: trials at once, as far as there is room; None: as many as there is room for.
        cpus: cores of a trial.
        gpus: of a trial; None: 1 if the cluster has any.
        device: `--device` of the trials.

    Raises:
        ClusterError: there is no Ray, no cluster, or not enough of it.
    """

    def __init__(self, address: str, *, jobs: int | None, cpus: float, gpus: float | None, device: str) -> None:
        cores = math.ceil(jobs * cpus) if jobs else os.cpu_count() or 1
        self._cluster = Cluster(
            RayConfig(collectors=cores if address == LOCAL else 0, address=address), asked_by=FLAGS, echo=False
        )
        there = self._cluster.resources()
        if gpus is None:
            gpus = float(device in ("auto", "gpu") and there.get("GPU", 0) > 0)
        if there.get("CPU", 0) < cpus or there.get("GPU", 0) < gpus:
            self.close()
            raise ClusterError(
                f"a trial asks for {cpus:g} cores (--cpus) and {gpus:g} GPUs (--gpus), and the Ray cluster has "
                f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}: ask for less, or join more machines to it."
            )
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": 2, "max_restarts": 0}
        self._environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        if 0 < gpus < 1:  # JAX would take three quarters of a GPU that others share
            self._environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * gpus:.2f}"
        self._jobs = jobs or math.inf
        self._running: list[_Remote] = []

    def has_room(self) -> bool:
        """Whether one more may be handed to Ray."""
        self._running = [handle for handle in self._running if handle.poll() is None]
        return len(self._running) < self._jobs

    def start(self, trial: Trial) -> Handle:
        """Hands a trial to Ray."""
        host = self._cluster.start(Host, directory=os.getcwd(), environment=self._environment, options=self._options)
        handle = _Remote(self._cluster, host, trial)
        self._running.append(handle)
        return handle

    def close(self) -> None:
        """Leaves the cluster; a local one ends."""
        with contextlib.suppress(EnvironmentFault):
            self._cluster.close()
