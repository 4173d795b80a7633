"""Open-loop prediction: watch a while, close the eyes, and compare."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dreamer.training.state import Definition, Params
from dreamer.types import Batch, Latent

VIDEO_KEY = 0x76696465  # sub-seed
CONTEXT = 5  # observed steps before imagination takes over
SEQUENCES = 6  # rows of the batch that are shown


def make_open_loop(definition: Definition) -> Callable[[Params, Batch, Array], dict[str, Array]]:
    """The jitted function `open_loop`, with its definition closed over; it takes the number of the update for a key."""

    def predict(params: Params, batch: Batch, update: Array) -> dict[str, Array]:
        return open_loop(definition, params, batch, jax.random.fold_in(jax.random.key(VIDEO_KEY), update))

    return jax.jit(predict)


def open_loop(definition: Definition, params: Params, batch: Batch, key: Array) -> dict[str, Array]:
    """Predicted observations by key, `[SEQUENCES, T, ...]`: the first `CONTEXT` observed, the others imagined.

    The actions are those that were taken; resets within a sequence are not told to the imagination.
    """
    world, rssm = definition.bind(params).world, definition.config.world.rssm
    batch = jax.tree.map(lambda x: x[:SEQUENCES], batch)
    num, length = batch.reward.shape
    noise = jax.random.uniform(key, (length, num, rssm.stoch))
    seen = jax.tree.map(lambda x: x[:, :CONTEXT], batch._replace(context=None))  # pyright: ignore[reportArgumentType]
    observed, _ = world.observe(
        world.expand(batch.context),
        seen.observation,
        seen.previous_action,
        seen.is_first,
        noise[:CONTEXT].swapaxes(0, 1),
    )

    def step(latent: Latent, inputs: tuple[Array, Array]) -> tuple[Latent, Latent]:
        latent = world.imagine(latent, *inputs)
        return latent, latent

    actions = batch.previous_action[:, CONTEXT:].swapaxes(0, 1)
    _, imagined = jax.lax.scan(step, jax.tree.map(lambda x: x[:, -1], observed), (actions, noise[CONTEXT:]))
    latents = jax.tree.map(lambda a, b: jnp.concatenate([a, b.swapaxes(0, 1)], axis=1), observed, imagined)
    return {key: prediction.mode() for key, prediction in world.decode(latents).items()}
