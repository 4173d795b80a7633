"""One optimizer for all modules: adaptive gradient clipping, then LaProp (Nature 2025, "Implementation details")."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from dreamer.config import OptimizerConfig


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


def clip_by_tensor_norm(clip: float, *, floor: float) -> optax.GradientTransformation:
    """Limits every gradient's norm to `clip` times its parameter's norm, tensor by tensor.

    `optax.adaptive_grad_clip` compares row by row; DreamerV3 compares whole tensors, biases and norm gains too.
    """

    def clip_one(gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        limit = clip * jnp.maximum(floor, jnp.linalg.norm(parameter.reshape(-1)))
        return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient.reshape(-1)) / limit)

    def update(updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None):
        return jax.tree.map(clip_one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
