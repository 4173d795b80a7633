"""What the machine can do at best, measured in the same call as the workloads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def matrix_rate(dtype: jnp.dtype) -> float:
    """Operations per second of the best square matrix product in `dtype`, on random numbers.

    A GPU multiplies an array of ones or zeros faster than it will ever multiply data.
    """
    sizes = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192)
    best = 0.0
    for size in sizes:
        left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
        best = max(best, 2 * size**3 / _fastest(jax.jit(jnp.matmul), left, right))
    return best


def memory_rate() -> float:
    """Bytes per second of a pass that reads and writes an array far larger than any cache."""
    array = jnp.ones(2**26 if jax.default_backend() == "cpu" else 2**29)
    return 2 * array.nbytes / _fastest(jax.jit(lambda x: x + 1.0), array)


def _fastest(call: Callable[..., Any], *arguments: Any, repeats: int = 8) -> float:
    jax.block_until_ready(call(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
