"""The checks in a process of their own: an environment that hangs, exits or dies becomes a finding."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from envs.check.catalogue import CHECKS, run_checks
from envs.check.evidence import Evidence, subject_of
from envs.check.finding import Finding, fail, unchecked

LEAST_PATIENCE = 5.0  # seconds that a single call may always take
LABEL_BYTES = 64


class Order(NamedTuple):
    """What to check, and how."""

    name: str
    seed: int = 0
    seconds: float = 40.0
    steps: int = 1_000_000
    action_bound: float | None = None


def watch(order: Order, *, progress: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Findings of all checks; `progress` is called several times a second with the running check."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    heart: Any = context.Value("d", time.time())
    label: Any = context.Array("c", LABEL_BYTES)
    label.value = b"making the environment"
    process = context.Process(target=_work, args=(order, sender, heart, label), daemon=True)
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    pending, stop = list(CHECKS), time.time() + order.seconds + _patience(order, "")
    try:
        while pending:
            progress(pending[0])
            if receiver.poll(0.1):
                try:
                    finding = receiver.recv()
                except EOFError:
                    process.join()
                    yield _obituary(process.exitcode, label.value.decode())._replace(name=pending.pop(0))
                    break
                pending.remove(finding.name)
                yield finding
                continue
            silence, call = time.time() - heart.value, label.value.decode()
            if silence > _patience(order, call):
                yield _hang(call, silence)._replace(name=pending.pop(0))
                break
            if time.time() > stop:
                break
    finally:
        process.kill()
        process.join()
    reason = "the process had to be ended" if time.time() < stop else "no time is left; raise --seconds"
    for name in pending:
        yield unchecked(reason)._replace(name=name)


def _patience(order: Order, call: str) -> float:
    """Seconds that one call may take; making an environment may take the whole budget."""
    share = 1.0 if call.startswith("making") else 1 / 3
    return max(LEAST_PATIENCE, share * order.seconds)


def _hang(call: str, silence: float) -> Finding:
    return fail(
        f"`{call}` has not returned for {silence:.0f} seconds",
        "look for an endless loop or a lost connection; if it is only slow, raise --seconds",
    )


def _obituary(exit_code: int | None, call: str) -> Finding:
    cause = f"exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        cause = signal.Signals(-exit_code).name + (", mostly out of memory" if exit_code == -signal.SIGKILL else "")
    return fail(
        f"the process died during `{call}` ({cause})",
        "run the environment alone under `python -X faulthandler` to find the native code that crashes",
    )


def _work(order: Order, sender: Any, heart: Any, label: Any) -> None:
    """The child: make the checks, send findings."""
    os.dup2(2, 1)  # what the environment prints must not end up in the table
    # The global generators are set so that a report can be repeated, not so that the environment is: the checks
    # run environments one after the other, which sets a user of np.random apart.
    random.seed(order.seed)
    np.random.seed(order.seed % 2**32)

    def beat(call: str) -> None:
        heart.value = time.time()
        label.value = call.encode()[: LABEL_BYTES - 1]

    beat("making the environment")
    evidence = Evidence(
        subject_of(order.name, action_bound=order.action_bound),
        seed=order.seed,
        seconds=order.seconds,
        steps=order.steps,
        beat=beat,
    )
    for finding in run_checks(evidence):
        sender.send(finding)
    sender.close()
    os._exit(0)  # simulators' threads and atexit handlers have nothing to say any more
