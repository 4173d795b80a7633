"""Two-hot scalars: what is computed otherwise than `jax.nn` does it stays the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.nets.distributions import NUM_BINS, TwoHot


def logits(*, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(scale=scale, size=(5, NUM_BINS)), jnp.float32)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_cross_entropy_and_its_gradient_are_those_of_a_log_softmax(scale: float, shift: float):
    """Also where every logit is negative, or far beyond what an exponential can hold."""
    code = jnp.asarray(np.random.default_rng(1).uniform(size=(5, NUM_BINS)), jnp.float32)

    def ours(x: jax.Array) -> jax.Array:
        return jnp.sum(TwoHot.over_symexp(x).cross_entropy(code))

    def plain(x: jax.Array) -> jax.Array:
        return -jnp.sum(code * jax.nn.log_softmax(x))

    x = logits(scale=scale) + shift
    np.testing.assert_allclose(ours(x), plain(x), rtol=3e-4)
    np.testing.assert_allclose(jax.grad(ours)(x), jax.grad(plain)(x), rtol=1e-4, atol=1e-4)


def test_a_value_that_is_not_finite_shows():
    """The update's test of finiteness looks at the loss: nothing may hide on the way there."""
    for wrong in (jnp.nan, -jnp.nan, jnp.inf):
        x = logits().at[2, 7].set(wrong)
        losses = TwoHot.over_symexp(x).loss(jnp.zeros(5))
        assert np.isfinite(losses).tolist() == [True, True, False, True, True]
        assert np.isfinite(TwoHot.over_symexp(x).mean()).tolist() == [True, True, False, True, True]
