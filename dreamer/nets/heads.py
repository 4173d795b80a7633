"""Output heads that predict one scalar from features."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dreamer.nets.distributions import NUM_BINS, Bernoulli, TwoHot
from dreamer.nets.init import Rngs
from dreamer.nets.layers import MLP, Linear


class TwoHotHead(nnx.Module):
    """A scalar predicted over symexp bins; the output starts at zero, so that the first predictions are exactly 0."""

    def __init__(self, in_size: int, units: int, *, layers: int, rngs: Rngs):
        self.mlp = MLP(in_size, units, layers=layers, rngs=rngs)
        self.output = Linear(units, NUM_BINS, scale=0.0, rngs=rngs)

    def __call__(self, features: Float[Array, "*N F"]) -> TwoHot:
        """Distribution of the scalar."""
        return TwoHot.over_symexp(self.output(self.mlp(features)))


class ContinueHead(nnx.Module):
    """Whether the episode goes on."""

    def __init__(self, in_size: int, units: int, *, layers: int, rngs: Rngs):
        self.mlp = MLP(in_size, units, layers=layers, rngs=rngs)
        self.output = Linear(units, 1, rngs=rngs)

    def __call__(self, features: Float[Array, "*N F"]) -> Bernoulli:
        """Distribution of "continues"."""
        return Bernoulli(self.output(self.mlp(features))[..., 0].astype(jnp.float32))
