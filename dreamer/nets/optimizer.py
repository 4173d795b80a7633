"""One optimizer for all modules: adaptive gradient clipping, then LaProp (Nature 2025, "Implementation details")."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dreamer.config import OptimizerConfig

Tree = dict[str, Any]  # nested dict of arrays


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """AGC, RMS scaling, momentum on the scaled gradient (this order is LaProp), learning rate with linear warm-up.

    The first update is zero; the full rate is reached after `warmup` updates.
    """
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup) if config.warmup else config.learning_rate
    return optax.chain(
        clip_by_tensor_norm(config.clip, floor=config.clip_floor),
        optax.scale_by_rms(config.beta2, eps=config.epsilon, eps_in_sqrt=False, bias_correction=True),
        optax.ema(config.beta1, debias=True),
        optax.scale_by_learning_rate(warmup),
    )


def descend(
    optimizer: optax.GradientTransformation, gradient: Tree, state: optax.OptState, params: Tree
) -> tuple[Tree, optax.OptState]:
    """One step down the gradient: the new parameters and the new state of the optimizer."""
    updates, state = optimizer.update(gradient, state, params)
    return jax.tree.map(jnp.add, params, updates), state


def moving_average(new: Tree, old: Tree, *, rate: float) -> Tree:
    """`rate * new + (1 - rate) * old`, leaf by leaf: how a slow copy follows."""
    return jax.tree.map(lambda a, b: rate * a + (1.0 - rate) * b, new, old)


def clip_by_tensor_norm(clip: float, *, floor: float) -> optax.GradientTransformation:
    """Limits every gradient's norm to `clip` times its parameter's norm, tensor by tensor.

    `optax.adaptive_grad_clip` compares row by row; DreamerV3 compares whole tensors, biases and norm gains too.
    """

    def clip_one(gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        limit = clip * jnp.maximum(floor, jnp.linalg.norm(parameter.reshape(-1)))
        return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient.reshape(-1)) / limit)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(clip_one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
