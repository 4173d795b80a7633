"""The world model of DreamerV3: encoder, RSSM, decoder, reward and continue heads, and the loss that trains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from dreamer.config import WorldConfig
from dreamer.nets.distributions import OneHot
from dreamer.nets.heads import ContinueHead, TwoHotHead
from dreamer.nets.init import Rngs
from dreamer.types import Batch, CompactLatent, Latent
from dreamer.world.decoder import Decoder, Prediction
from dreamer.world.encoder import Encoder
from dreamer.world.rssm import RSSM
from envs.spaces import ActionSpec, ObservationSpec, action_width


class WorldLoss(NamedTuple):
    """What `WorldModel.loss` returns.

    Attributes:
        total: scalar, the scaled sum of the means of all terms.
        terms: unscaled loss terms `[B, T]` by name.
        latents: posterior samples `[B, T]`, through which gradients flow.
        metrics: scalars to log.
    """

    total: Float[Array, ""]
    terms: dict[str, Float[Array, "B T"]]
    latents: Latent
    metrics: dict[str, Float[Array, ""]]


class WorldModel(nnx.Module):
    """Learns what happens next. Behaviour sees it through `imagine`, `features`, `reward` and `continue_prob` only."""

    def __init__(
        self,
        config: WorldConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        *,
        discount: float,
        dtype: jnp.dtype,
        rngs: Rngs,
    ):
        """`discount` is carried by the continue head; `dtype` is that of the computation (parameters are float32)."""
        self.config, self.discount, self.dtype = config, discount, dtype
        rssm = config.rssm
        flat_stoch = rssm.stoch * rssm.classes
        self.encoder = Encoder(config.encoder, observation_spec, rngs=rngs)
        token_size, action_size = self.encoder.token_size, action_width(action_spec)
        self.rssm = RSSM(rssm, token_size=token_size, action_size=action_size, rngs=rngs)
        latent_sizes = (rssm.deter, flat_stoch, rssm.blocks)
        self.decoder = Decoder(config.decoder, observation_spec, latent=latent_sizes, rngs=rngs)
        self.feature_size = rssm.deter + flat_stoch
        self.reward_head = TwoHotHead(self.feature_size, config.reward.units, layers=config.reward.layers, rngs=rngs)
        self.continue_head = ContinueHead(
            self.feature_size, config.continuation.units, layers=config.continuation.layers, rngs=rngs
        )

    def loss(self, batch: Batch, uniform: Float[Array, "B T S"] | None) -> WorldLoss:
        """Reconstruction, reward and continuation on posterior features, and both sides of the KL.

        Source: Nature 2025, "World model learning".

        Args:
            batch: replayed sequences.
            uniform: noise of the posterior samples; None takes their modes.
        """
        carry = self.expand(batch.context) if self.config.replay_latents else self.initial(len(batch.reward))
        latents, posterior = self.observe(carry, batch.observation, batch.previous_action, batch.is_first, uniform)
        prior = self.rssm.prior(latents.deter)
        features = self.features(latents)
        will_continue = (1.0 - batch.is_terminal.astype(jnp.float32)) * self.discount

        predictions, scales = self.decode(latents), self.config.scales
        terms = {f"reconstruction/{key}": predictions[key].loss(batch.observation[key]) for key in predictions}
        weights = dict.fromkeys(terms, scales.reconstruction)
        terms["reward"] = self.reward_head(features).loss(batch.reward)
        terms["continuation"] = self.continue_head(features).loss(will_continue)
        terms["dynamics"] = self._limited_kl(jax.tree.map(stop_gradient, posterior), prior)
        terms["representation"] = self._limited_kl(posterior, jax.tree.map(stop_gradient, prior))
        weights |= {name: getattr(scales, name) for name in terms if name not in weights}

        total = sum(weights[name] * jnp.mean(term) for name, term in terms.items())
        metrics = {
            "prior_entropy": jnp.mean(jnp.sum(prior.entropy(), axis=-1)),
            "posterior_entropy": jnp.mean(jnp.sum(posterior.entropy(), axis=-1)),
        }
        return WorldLoss(jnp.asarray(total), terms, latents, metrics)

    def initial(self, batch_size: int) -> Latent:
        """The latent before an episode, `[B]`."""
        return self.rssm.initial(batch_size, dtype=self.dtype)

    def observe(
        self,
        carry: Latent,
        observation: dict[str, Array],
        previous_action: Float[Array, "B T A"],
        is_first: Bool[Array, "B T"],
        uniform: Float[Array, "B T S"] | None,
    ) -> tuple[Latent, OneHot]:
        """Filters observed sequences: latents and posteriors `[B, T]`; see `RSSM.observe`."""
        tokens = self.encoder(observation, dtype=self.dtype)
        return self.rssm.observe(carry, tokens, previous_action.astype(self.dtype), is_first, uniform)

    def imagine(self, latent: Latent, action: Float[Array, "N A"], uniform: Float[Array, "N S"] | None) -> Latent:
        """The next latent `[N]` under an action, without an observation."""
        return self.rssm.imagine(latent, action, uniform)[0]

    def features(self, latent: Latent) -> Float[Array, "*N F"]:
        """What heads and behaviour see: deter and flat stoch side by side."""
        return jnp.concatenate([latent.deter, latent.stoch.reshape(*latent.stoch.shape[:-2], -1)], axis=-1)

    def decode(self, latent: Latent) -> Mapping[str, Prediction]:
        """Predicted observations by key."""
        return self.decoder(latent)

    def reward(self, features: Float[Array, "*N F"]) -> Float[Array, "*N"]:
        """Expected reward on arriving at these features."""
        return self.reward_head(features).mean()

    def continue_prob(self, features: Float[Array, "*N F"]) -> Float[Array, "*N"]:
        """Probability that the episode goes on, times the discount."""
        return self.continue_head(features).prob

    def compact(self, latent: Latent) -> CompactLatent:
        """The latent as replay stores it."""
        return CompactLatent(latent.deter.astype(jnp.bfloat16), jnp.argmax(latent.stoch, axis=-1).astype(jnp.uint8))

    def expand(self, latent: CompactLatent) -> Latent:
        """Inverse of `compact`, up to the rounding of bfloat16."""
        stoch = jax.nn.one_hot(latent.stoch, self.config.rssm.classes, dtype=self.dtype)
        return Latent(latent.deter.astype(self.dtype), stoch)

    def _limited_kl(self, left: OneHot, right: OneHot) -> Float[Array, "B T"]:
        """Free nats: the KL, summed over latents, counts only above the limit."""
        return jnp.maximum(self.config.free_nats, jnp.sum(left.kl(right), axis=-1))
