"""Initial kernels: truncated normals, all cut from one draw."""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

TRUNCATED_STD = 1.1368  # 1 / standard deviation of a normal truncated at two sigma, rounded as in the reference


class Rngs(Protocol):
    """Where the initial kernels of a module come from: `Draws` in a run, or any `nnx.Rngs`."""

    def truncated_normal(self, lower: float, upper: float, shape: tuple[int, ...], /) -> Array:
        """Standard normals between two bounds."""
        ...


class Draws:
    """One draw for all kernels of a model, handed out piece by piece.

    A draw for each of sixty kernels is the same distribution, and takes XLA half a minute to compile.
    """

    def __init__(self, numbers: Float[Array, " P"] | None = None):
        """`numbers` from `Draws.numbers`; None gives zeros and counts what is asked for."""
        self.source, self.count = numbers, 0

    @staticmethod
    def numbers(key: Array, count: int) -> Float[Array, " P"]:
        """The draw itself, for kernels of `count` numbers together."""
        return jax.random.truncated_normal(key, -2.0, 2.0, (count,))

    def truncated_normal(self, lower: float, upper: float, shape: tuple[int, ...], /) -> Array:
        """The next numbers of the draw."""
        assert (lower, upper) == (-2.0, 2.0), "what was drawn"
        start, self.count = self.count, self.count + math.prod(shape)
        return jnp.zeros(shape) if self.source is None else self.source[start : self.count].reshape(shape)


def init_kernel(rngs: Rngs, shape: tuple[int, ...], *, scale: float = 1.0) -> nnx.Param:
    """Truncated normal with standard deviation `scale / sqrt(fan_in)`; fan_in is the product of all axes but the last.

    For block-diagonal kernels `[blocks, in / blocks, out / blocks]` that is the whole input width, as in the reference.
    """
    std = TRUNCATED_STD * scale / math.sqrt(math.prod(shape[:-1]))
    return nnx.Param(std * rngs.truncated_normal(-2.0, 2.0, shape))
