"""Whether the thousandth update costs what the first did, in time and in memory."""

from __future__ import annotations

import contextlib
import statistics
import time

import jax

from dreamer.training.state import Definition
from experiments.benchmark.replay import Updates

EARLY = 100  # update with which the last one is compared


def measure_long_run(definition: Definition, *, updates: int, seconds: float) -> dict[str, float]:
    """Step time and memory at update 100 and at the last one; replay is full and fixed, so nothing has to grow.

    A step time is the median over the updates before it, half as many as there are until the early one.

    Args:
        definition: networks and configuration.
        updates: how many to make; where there are fewer than 200, the half stands for the hundredth.
        seconds: after which the run ends early, if it has come to twice the early update.
    """
    early = min(EARLY, updates // 2)
    times: list[float] = []
    with contextlib.closing(Updates(definition)) as run:
        start = time.perf_counter()
        while len(times) < updates and (len(times) < 2 * early or sum(times) < seconds):
            run.learner.update()  # waits for the latents of the update before it
            now = time.perf_counter()
            times.append(now - start)
            start = now
            if len(times) == early:
                before = _memory()
        after = _memory()
    window = early // 2
    begin, end = (1000 * statistics.median(times[last - window : last]) for last in (early, len(times)))
    return {
        "early_update": early,
        "last_update": len(times),
        "early_ms": begin,
        "last_ms": end,
        "growth": end / begin - 1.0,
        **{f"early_{name}_gb": value / 1e9 for name, value in before.items()},
        **{f"last_{name}_gb": value / 1e9 for name, value in after.items()},
    }


def _memory() -> dict[str, int]:
    """Bytes of this process and of the device."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * 4096
    device = (jax.devices()[0].memory_stats() or {}).get("bytes_in_use", 0)
    return {"host": resident, "device": device}
