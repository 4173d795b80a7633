"""Networks on images, a few images at a time, for a machine whose cache is small and whose memory is slow."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
from jaxtyping import Array

AT_A_TIME = 8
KEPT = "kept"  # name (`jax.ad_checkpoint.checkpoint_name`) of what the backward pass does not compute again


def few_at_a_time(function: Callable[..., Array], *arrays: Array) -> Array:
    """`function` of arrays `[N, ...]`, on a CPU a few images at a time.

    What one layer leaves is still in the cache when the next one reads it. The backward pass finds what is named `KEPT`
    (the results of convolutions) and computes the rest again, which is faster than to fetch it from memory.
    """
    number = arrays[0].shape[0]
    if not isinstance(number, int):  # a program for any N, see `dreamer.exchange.stablehlo`
        return function(*arrays)
    count = math.gcd(number, AT_A_TIME)
    if jax.default_backend() != "cpu" or count == number:
        return function(*arrays)
    part = jax.checkpoint(function, policy=jax.checkpoint_policies.save_only_these_names(KEPT))
    # Every part takes images from all over the batch, so that a batch that lies on several devices stays where it is.
    parts = [array.reshape(count, -1, *array.shape[1:]).swapaxes(0, 1) for array in arrays]
    results = jax.lax.map(lambda part_of: part(*part_of), parts)
    return results.swapaxes(0, 1).reshape(number, *results.shape[2:])
