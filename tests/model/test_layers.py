"""Layers whose gradients are written by hand, against those that JAX derives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.nets.layers import product


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [((5,), 3, 7), ((4, 6), 9, 2), ((2, 3, 4), 5, 5), ((), 4, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_product(rows, inputs, outputs, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (*rows, inputs)).astype(dtype)
    kernel = jax.random.normal(keys[1], (inputs, outputs)).astype(dtype)
    weight = jax.random.normal(keys[2], (*rows, outputs)).astype(dtype)
    mine, derived = (
        jax.jit(jax.value_and_grad(lambda x, kernel, f=f: jnp.sum(f(x, kernel) * weight), argnums=(0, 1)))(x, kernel)
        for f in (product, jnp.matmul)
    )
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    for ours, expected in zip(jax.tree.leaves(mine), jax.tree.leaves(derived), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours.astype(np.float32), expected.astype(np.float32), rtol=tolerance, atol=tolerance)
