"""The compiled programs alone: the update and the policy step, and what they leave in memory."""

from __future__ import annotations

import contextlib
import functools
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.training.state import Definition
from dreamer.training.step import initial_carry, make_policy_step, make_train_step
from experiments.benchmark.workloads import placement, random_batch

WARM_UP = 20  # policy steps that are not counted


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles and extremes, in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4)
    values = {"median": median, "quartile_low": low, "quartile_high": high, "min": min(seconds), "max": max(seconds)}
    return {f"{name}_ms": 1000 * value for name, value in values.items()}


def measure_update(definition: Definition, *, repeats: int, seconds: float) -> dict[str, float]:
    """Compile time and times of single updates, each waiting for the one before.

    Ends after `repeats` updates, or after `seconds` if at least five have been made.
    """
    where = placement(definition)
    batch, step = random_batch(definition, where), make_train_step(definition, where)
    state = definition.init(0, where.state(definition.abstract()))
    start = time.perf_counter()
    compiled = step.lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start
    for _ in range(2):
        state, _, _ = compiled(state, batch)
    jax.block_until_ready(state)
    times: list[float] = []
    while len(times) < repeats and (len(times) < 5 or sum(times) < seconds):
        start = time.perf_counter()
        state, _, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    if not np.isfinite(float(metrics["loss/total"])):
        raise FloatingPointError("the loss of the measured update is not finite")
    memory = compiled.memory_analysis()
    return {
        **spread(times),
        "updates": len(times),
        "compile_seconds": compile_seconds,
        "replayed_steps_per_second": batch.reward.size / statistics.median(times),
        "program_memory_gb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9 if memory else 0.0,
    }


def measure_policy(definition: Definition, *, num_envs: int, repeats: int) -> dict[str, float]:
    """Latency of a policy step from host observations to host actions, and how much of it is overhead of the call.

    `overhead_p50_ms` is the time of the same call of a program that takes the same arguments, returns arrays of the
    same shapes and computes nothing: what host, dispatch and transfers cost. `dispatch_p50_ms` is the time until the
    call returns; on a CPU small programs run inside it, so that there it says nothing of the host.
    """
    step, params, key = make_policy_step(definition), definition.init(0).params, jax.random.key(0)
    batch = jax.device_get(random_batch(definition))
    rows = np.arange(num_envs) % batch.reward.shape[0]
    observation = {name: np.ascontiguousarray(array[rows, 0]) for name, array in batch.observation.items()}
    is_first, carry = np.zeros(num_envs, bool), initial_carry(definition, num_envs)
    shapes = jax.eval_shape(step, params, carry, observation, is_first, key, np.uint32(0))

    def nothing(*_: Any) -> Any:
        return jax.tree.map(lambda result: jnp.zeros(result.shape, result.dtype), shapes)

    def times(program: Callable[..., Any]) -> tuple[list[float], list[float]]:
        called, answered, latest = [], [], carry
        for count in range(repeats + WARM_UP):
            start = time.perf_counter()
            latest, action, latent = program(params, latest, observation, is_first, key, np.uint32(count))
            called.append(time.perf_counter() - start)
            jax.device_get((action, latent))
            answered.append(time.perf_counter() - start)
        return called[WARM_UP:], answered[WARM_UP:]

    dispatched, answered = times(step)
    _, overhead = times(jax.jit(nothing, keep_unused=True))
    cuts = statistics.quantiles(answered, n=100)
    return {
        "p50_ms": 1000 * cuts[49],
        "p95_ms": 1000 * cuts[94],
        "p99_ms": 1000 * cuts[98],
        "overhead_p50_ms": 1000 * statistics.median(overhead),
        "dispatch_p50_ms": 1000 * statistics.median(dispatched),
    }


@contextlib.contextmanager
def unrolled(steps: int) -> Iterator[None]:
    """Whatever is traced inside has `steps` steps of every scan in one turn of its loop."""
    scan = jax.lax.scan
    jax.lax.scan = functools.partial(scan, unroll=steps)
    try:
        yield
    finally:
        jax.lax.scan = scan


def peak_memory() -> dict[str, float]:
    """Peak of this process and of the device, in GB."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {"peak_host_gb": host / 1e9, "peak_device_gb": device / 1e9}
