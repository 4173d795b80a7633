"""Weights' gradients taken after a loop equal those that JAX adds up inside it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamer.nets import deferred
from tests.model import scans
from tests.model.tiny import random_batch, tiny_definition


def plain_scan(step: Callable, nets: object, carry: object, inputs: object) -> tuple:
    return jax.lax.scan(lambda carry, x: step(nets, carry, x), carry, inputs)


def gradients(monkeypatch: pytest.MonkeyPatch, scan: Callable, **overrides: object) -> tuple:
    definition = tiny_definition(**overrides)
    params, batch = definition.init(0).params, random_batch(definition)
    uniform = jax.random.uniform(jax.random.key(3), (*batch.reward.shape, definition.config.world.rssm.stoch))
    monkeypatch.setattr(deferred, "scan", scan)

    def loss(params: dict, context: jax.Array) -> jax.Array:
        changed = batch._replace(context=batch.context._replace(deter=context))
        return definition.bind(params).world.loss(changed, uniform).total

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, batch.context.deter)


def test_gradients_are_those_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch):
    """Of all parameters and of the latents that the sequences start from."""
    mine, theirs = gradients(monkeypatch, deferred.scan), gradients(monkeypatch, plain_scan)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for (path, one), two in zip(jax.tree_util.tree_leaves_with_path(mine), jax.tree.leaves(theirs), strict=True):
        size = float(jnp.abs(two.astype(jnp.float32)).max())
        np.testing.assert_allclose(
            one.astype(jnp.float32),
            two.astype(jnp.float32),
            atol=2e-5 * size + 1e-9,
            err_msg=jax.tree_util.keystr(path),
        )
    rssm = mine[1][0]["world"]["rssm"]
    assert all(np.any(leaf) for leaf in jax.tree.leaves(rssm["gru_hidden"]))


def test_no_gradient_of_a_kernel_is_added_up_in_a_loop():
    """Of all that the loops of the gradient carry, nothing has the shape of a kernel of the recurrence."""
    definition = tiny_definition()
    params, batch = definition.init(0).params, random_batch(definition)
    kernels = {leaf.shape for leaf in jax.tree.leaves(params["world"]["rssm"]) if leaf.ndim > 1}
    jaxpr = jax.make_jaxpr(jax.grad(lambda params: definition.bind(params).world.loss(batch, None).total))(params)
    carried = scans.carried(jaxpr)
    assert carried
    assert not kernels & carried
