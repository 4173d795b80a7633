"""Lambda-returns and the percentile range by which they are scaled: pure functions."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamer.config import ReturnNormConfig


def lambda_return(
    reward: Float[Array, "T N"],
    terminal: Float[Array, "T N"],
    last: Float[Array, "T N"],
    bootstrap: Float[Array, "T N"],
    *,
    discount: float,
    lam: float,
) -> Float[Array, "T1 N"]:
    """Returns `R_0 .. R_{T-2}` (Nature 2025, "Critic learning"), for imagination and replay alike.

    `R_t = r_{t+1} + discount (1 - terminal_{t+1}) ((1 - k_{t+1}) bootstrap_{t+1} + k_{t+1} R_{t+1})` with
    `k_t = lam (1 - last_t)` and `R_{T-1} = bootstrap_{T-1}`. Index t is a point in time: reward, terminal and last came
    together with state t, so their first entries are never used. A truncation (last, not terminal) bootstraps, a
    termination does not. `terminal` may be a probability.
    """
    live = discount * (1.0 - terminal[1:])
    mix = lam * (1.0 - last[1:])
    base = reward[1:] + live * (1.0 - mix) * bootstrap[1:]
    slope = live * mix

    def step(following: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        base_t, slope_t = inputs
        value = base_t + slope_t * following
        return value, value

    _, returns = jax.lax.scan(step, bootstrap[-1], (base, slope), reverse=True)
    return returns


class ReturnRange(NamedTuple):
    """Moving averages of a low and a high percentile of the returns; both start at zero, uncorrected."""

    low: Float[Array, ""]
    high: Float[Array, ""]

    @staticmethod
    def initial() -> ReturnRange:
        """The state before the first batch."""
        return ReturnRange(jnp.zeros(()), jnp.zeros(()))

    def update(self, returns: Float[Array, "*N"], config: ReturnNormConfig) -> ReturnRange:
        """Takes in the percentiles of a batch."""
        low, high = jnp.percentile(returns, jnp.asarray([config.low, config.high]))
        rate = config.rate
        return ReturnRange((1 - rate) * self.low + rate * low, (1 - rate) * self.high + rate * high)

    def scale(self, config: ReturnNormConfig) -> Float[Array, ""]:
        """What advantages are divided by: the range, but never less than the limit (small returns stay small)."""
        return jnp.maximum(config.limit, self.high - self.low)
