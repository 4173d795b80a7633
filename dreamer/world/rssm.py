"""The recurrent state-space model with a block-diagonal GRU (Nature 2025, "World model learning")."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from dreamer.config import RSSMConfig
from dreamer.nets import deferred
from dreamer.nets.distributions import OneHot
from dreamer.nets.init import Rngs
from dreamer.nets.layers import MLP, BlockLinear, Layer, Linear, RMSNorm, join_blocks, split_blocks
from dreamer.types import Latent


class RSSM(nnx.Module):
    """Sequence model, posterior and prior. Its state is a `Latent`; it knows nothing of rewards."""

    def __init__(self, config: RSSMConfig, *, token_size: int, action_size: int, rngs: Rngs):
        self.config = config
        deter, hidden, flat_stoch = config.deter, config.hidden, config.stoch * config.classes
        block_input = deter + config.blocks * 3 * hidden
        self.deter_in = Layer(deter, hidden, rngs=rngs)
        self.stoch_in = Layer(flat_stoch, hidden, rngs=rngs)
        self.action_in = Layer(action_size, hidden, rngs=rngs)
        self.gru_hidden = BlockLinear(block_input, deter, blocks=config.blocks, rngs=rngs)
        self.gru_norm = RMSNorm(deter)
        self.gru_gates = BlockLinear(deter, 3 * deter, blocks=config.blocks, rngs=rngs)
        self.prior_mlp = MLP(deter, hidden, layers=config.prior_layers, rngs=rngs)
        self.prior_out = Linear(hidden, flat_stoch, rngs=rngs)
        self.posterior_in = Layer(deter + token_size, hidden, rngs=rngs)
        self.posterior_mlp = MLP(hidden, hidden, layers=config.posterior_layers - 1, rngs=rngs)
        self.posterior_out = Linear(hidden, flat_stoch, rngs=rngs)

    def initial(self, batch_size: int, *, dtype: DTypeLike = jnp.float32) -> Latent:
        """The state before an episode: zeros."""
        config = self.config
        return Latent(
            jnp.zeros((batch_size, config.deter), dtype),
            jnp.zeros((batch_size, config.stoch, config.classes), dtype),
        )

    def prior(self, deter: Float[Array, "*N D"]) -> OneHot:
        """p(stoch | deter)."""
        return self._latents(self.prior_out(self.prior_mlp(deter)))

    def posterior(self, deter: Float[Array, "*N D"], tokens: Float[Array, "*N E"]) -> OneHot:
        """q(stoch | deter, tokens)."""
        return self._posterior(deter, self.posterior_in.linear.tail(tokens))

    def observe(
        self,
        carry: Latent,
        tokens: Float[Array, "B T E"],
        previous_action: Float[Array, "B T A"],
        is_first: Bool[Array, "B T"],
        uniform: Float[Array, "B T S"] | None,
    ) -> tuple[Latent, OneHot]:
        """Filters a sequence: latents `[B, T]` and the posteriors that they were drawn from.

        Where `is_first`, the state before and the action that led here are zeros. All that does not depend on the
        recurrent state (token and action projections) is computed before the loop.

        Args:
            carry: latents before the first step, `[B]`.
            tokens: encoded observations.
            previous_action: flat action vectors; entry t led to observation t.
            is_first: resets.
            uniform: sampling noise on [0, 1); None takes the mode.
        """
        keep = 1.0 - is_first.astype(tokens.dtype)[..., None]
        token_part = self.posterior_in.linear.tail(tokens)
        action_part = self.embed_action(previous_action * keep)

        def step(rssm: RSSM, latent: Latent, inputs: tuple) -> tuple[Latent, tuple[Latent, OneHot]]:
            token_part, action_part, keep, uniform = inputs
            latent = Latent(latent.deter * keep, latent.stoch * keep[..., None])
            deter = rssm.next_deter(latent, action_part)
            posterior = rssm._posterior(deter, token_part)
            latent = Latent(deter, posterior.sample_straight_through(uniform).astype(deter.dtype))
            return latent, (latent, posterior)

        inputs = jax.tree.map(_swap_batch_time, (token_part, action_part, keep, uniform))
        _, outputs = deferred.scan(step, self, carry, inputs)
        return jax.tree.map(_swap_batch_time, outputs)

    def imagine(
        self, latent: Latent, action: Float[Array, "N A"], uniform: Float[Array, "N S"] | None
    ) -> tuple[Latent, OneHot]:
        """One step without looking: the next latent `[N]` and the prior that it was drawn from."""
        deter = self.next_deter(latent, self.embed_action(action.astype(latent.deter.dtype)))
        prior = self.prior(deter)
        return Latent(deter, prior.sample_straight_through(uniform).astype(deter.dtype)), prior

    def embed_action(self, action: Float[Array, "*N A"]) -> Float[Array, "*N U"]:
        """First layer of the action; components beyond [-1, 1] are scaled back to it."""
        return self.action_in(action / jax.lax.stop_gradient(jnp.maximum(1.0, jnp.abs(action))))

    def next_deter(self, latent: Latent, action_part: Float[Array, "N U"]) -> Float[Array, "N D"]:
        """The block-diagonal GRU: h' = u * tanh(r * c) + (1 - u) * h, with block g seeing its own part of h.

        Every block also sees the projections of h, z and a.
        """
        flat_stoch = latent.stoch.reshape(*latent.stoch.shape[:-2], -1)
        shared = jnp.concatenate([self.deter_in(latent.deter), self.stoch_in(flat_stoch), action_part], axis=-1)
        deter = split_blocks(latent.deter, self.config.blocks)  # [G, N, D / G]
        hidden = jax.nn.silu(self.gru_norm(self.gru_hidden.with_shared(deter, shared)))
        gates = self.gru_gates.on_blocks(split_blocks(hidden, self.config.blocks))
        reset, candidate, update = jnp.split(gates, 3, axis=-1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        update = jax.nn.sigmoid(update - 1.0)
        return join_blocks(update * candidate + (1.0 - update) * deter)

    def _posterior(self, deter: Float[Array, "*N D"], token_part: Float[Array, "*N U"]) -> OneHot:
        hidden = self.posterior_in.activate(self.posterior_in.linear.head(deter) + token_part)
        return self._latents(self.posterior_out(self.posterior_mlp(hidden)))

    def _latents(self, logits: Float[Array, "*N SK"]) -> OneHot:
        logits = logits.reshape(*logits.shape[:-1], self.config.stoch, self.config.classes)
        return OneHot.from_logits(logits, unimix=self.config.unimix)


def _swap_batch_time(x: Array) -> Array:
    return jnp.swapaxes(x, 0, 1)
