"""Simulators in worker processes that import neither JAX nor the program that started them."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import pickle
import signal
import sys
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from gymnasium import spaces
from typing_extensions import override

from envs.environment import EnvironmentFault, NonFinite, Simulator, SimulatorCrash, Transition
from envs.spaces import ActionSpec, ObservationSpec

HOME = str(Path(__file__).resolve().parent.parent)  # the folder that holds our `envs` package
START_SECONDS = 180.0  # imports and the making of a large simulator
FAULT, CRASH, NONFINITE, RESULT = "fault", "crash", "nonfinite", "result"
HINTS = {
    -signal.SIGKILL: "mostly memory that ran out",
    -signal.SIGSEGV: "a segmentation fault in native code",
}  # by exit code


class Description(NamedTuple):
    """What the parent process needs to know of a worker's simulator; names are those of `Simulator`."""

    native_observation_space: spaces.Space
    native_action_space: spaces.Space
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    action_repeat: int
    frame_rate: float
    action_names: list[str] | None
    protocol: dict[str, Any]


class WorkerSimulator(Simulator):
    """A simulator in a process of its own. Cannot fork.

    Its attributes are there after `wait_until_ready`, which raises what the factory raised. `begin` starts what the
    next `reset` or `step` waits for, so that several work at the same time.

    Args:
        factory: makes the simulator, in the worker.
        step_timeout: seconds after which a worker that does not answer is killed.

    Raises:
        EnvironmentFault: the factory cannot be sent to another process.
    """

    def __init__(self, factory: Callable[[], Simulator], *, step_timeout: float) -> None:
        self._step_timeout, self._has_begun, self._deadline = step_timeout, False, math.inf
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        try:
            pickled = cloudpickle.dumps(factory)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise EnvironmentFault(
                f"the environment cannot be sent to a worker process ({error}); use --environment.workers none"
            ) from error
        self._process = context.Process(target=_serve, args=(theirs, pickled), daemon=True)
        with _clean_start():
            self._process.start()
        theirs.close()
        weakref.finalize(self, self._process.kill)  # also at the end of a program that forgets to close

    @override
    def wait_until_ready(self) -> None:
        description: Description = self._receive(START_SECONDS, allowed=START_SECONDS)
        for name, value in description._asdict().items():
            setattr(self, name, value)

    @override
    def begin(self, action: np.ndarray | None) -> None:
        with contextlib.suppress(SimulatorCrash):  # whoever waits for the answer will hear of it
            self._send("reset") if action is None else self._send("step", action)
            self._has_begun = True

    @override
    def wait(self, seconds: float) -> bool:
        left = self._deadline - time.monotonic()  # `step` and `reset` say what it means that this is over
        with contextlib.suppress(OSError):
            return not self._has_begun or self._connection.poll(max(0.0, min(seconds, left))) or left <= seconds
        return True

    @override
    def reset(self) -> dict[str, np.ndarray]:
        return self._ask("reset")

    @override
    def step(self, action: np.ndarray) -> Transition:
        return self._ask("step", action)

    @override
    def render(self) -> np.ndarray:
        return self._ask("render")

    @override
    def close(self) -> None:
        with contextlib.suppress(SimulatorCrash):
            self._send("close")
            self._process.join(timeout=2)
        self._kill()
        self._connection.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        if not self._has_begun:
            self._send(method, *arguments)
        self._has_begun = False
        return self._receive(max(0.0, self._deadline - time.monotonic()), allowed=self._step_timeout)

    def _send(self, method: str, *arguments: Any) -> None:
        self._deadline = time.monotonic() + self._step_timeout
        try:
            self._connection.send((method, arguments))
        except OSError as error:
            raise SimulatorCrash(self._obituary()) from error

    def _receive(self, timeout: float, *, allowed: float) -> Any:
        """Waits `timeout` more seconds of those that are allowed."""
        try:
            if not self._connection.poll(timeout):
                self._kill()
                raise SimulatorCrash(f"gave no answer within {allowed:g} s and was killed (--environment.step-timeout)")
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise SimulatorCrash(self._obituary()) from error
        if kind == FAULT:
            raise EnvironmentFault(value)
        if kind == CRASH:
            raise SimulatorCrash(value)
        if kind == NONFINITE:
            raise NonFinite(value)
        return value

    def _obituary(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        hint = f": {HINTS[code]}" if code in HINTS else ""
        return f"its process died (exit code {code}{hint})"

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, pickled: bytes) -> None:
    """The life of a worker: make the simulator, then answer until the other side closes or is gone."""
    sys.path.remove(HOME)  # `_clean_start` put it there; our package is imported by now
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # they reach the whole terminal or job; the trainer decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        simulator = pickle.loads(pickled)()
        connection.send((RESULT, Description(*(getattr(simulator, name) for name in Description._fields))))
        while (request := connection.recv())[0] != "close":
            method, arguments = request
            try:
                answer = RESULT, getattr(simulator, method)(*arguments)
            except NonFinite as error:  # of this step only
                answer = NONFINITE, str(error)
            connection.send(answer)
        simulator.close()
    except (EOFError, BrokenPipeError):  # the trainer is gone
        return
    except EnvironmentFault as error:
        connection.send((FAULT, str(error)))
    except Exception as error:
        traceback.print_exc()
        connection.send((CRASH, f"raised {type(error).__name__}: {error}"))


@contextlib.contextmanager
def _clean_start() -> Iterator[None]:
    """Start processes that find our `envs` package first and do not import the main module again.

    Importing it again is what spawned processes do to find the functions of a script; ours arrive by value
    (cloudpickle). So a script needs no `if __name__ == "__main__"` guard, and its `import jax` does not reach them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.path.insert(0, HOME)  # a user's own folder `envs` in the working directory must not hide ours
    try:
        yield
    finally:
        sys.path.remove(HOME)
        sys.modules["__main__"] = main
