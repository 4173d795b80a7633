"""One measurement as a process with a time limit, and the GPU beside it."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

STATIC = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory")
CHANGING = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "memory.used")
GLANCE = 5.0  # seconds between looks at the GPU
PATIENCE = 3.0  # seconds for its answer
LAST_LINES = 15


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
        status: `ok`, `failed` or `timeout`.
        exit_code: None where it was killed for its time.
        seconds: that it took.
        last_lines: of what it printed.
        gpu: least and largest of what `nvidia-smi` said meanwhile, by its names; empty without a GPU.
    """

    status: str
    exit_code: int | None
    seconds: float
    last_lines: str
    gpu: dict[str, tuple[float, float]]


def run(command: Sequence[str], *, seconds: float, environment: Mapping[str, str]) -> Outcome:
    """Runs a command to its end, or for so many seconds; whatever it has started by then is killed with it."""
    start, looks = time.monotonic(), []
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        code = None
        try:
            while code is None and (left := start + seconds - time.monotonic()) > 0:
                try:
                    code = process.wait(timeout=min(GLANCE, left))
                except subprocess.TimeoutExpired:
                    looks.append(gpu_facts(CHANGING))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        lines = log.read().splitlines()[-LAST_LINES:]
    status = "timeout" if code is None else "failed" if code else "ok"
    return Outcome(status, code, time.monotonic() - start, "\n".join(lines), _ranges(looks))


def gpu_facts(names: Sequence[str]) -> dict[str, Any]:
    """What `nvidia-smi` says of the first GPU, by its own names; empty where it says nothing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = next(csv.reader(answer.splitlines(), skipinitialspace=True), [])
    return {name: _number(value) for name, value in zip(names, values, strict=False)}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def _ranges(looks: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    numbers: dict[str, list[float]] = {}
    for look in looks:
        for name, value in look.items():
            if isinstance(value, float):
                numbers.setdefault(name, []).append(value)
    return {name: (min(values), max(values)) for name, values in numbers.items()}
