"""Probability distributions as NamedTuples of arrays.

Randomness comes in as explicit noise, drawn outside of loops: `sample(noise)` is a pure function, and `noise=None` asks
for the mode. Everything is computed in float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamer.nets.layers import along_last, symexp, symlog

NUM_BINS = 255  # of a two-hot code


class OneHot(NamedTuple):
    """A categorical distribution over one-hot vectors `[*N, K]`."""

    log_probs: Float[Array, "*N K"]

    @staticmethod
    def from_logits(logits: Float[Array, "*N K"], *, unimix: float) -> OneHot:
        """Mixes a share `unimix` of the uniform distribution into softmax(logits), so that no probability vanishes."""
        logits = logits.astype(jnp.float32)
        if unimix == 0:
            return OneHot(jax.nn.log_softmax(logits))
        return OneHot(jnp.log((1 - unimix) * jax.nn.softmax(logits) + unimix / logits.shape[-1]))

    @property
    def probs(self) -> Float[Array, "*N K"]:
        """Probabilities of the classes."""
        return jnp.exp(self.log_probs)

    def sample(self, uniform: Float[Array, "*N"] | None) -> Float[Array, "*N K"]:
        """One-hot sample by inversion of the cumulative distribution, from noise uniform on [0, 1); None: the mode.

        One random number per variable instead of one per class. The triangular product is a cumulative sum that every
        device does in one operation.
        """
        num_classes = self.log_probs.shape[-1]
        if uniform is None:
            index = jnp.argmax(self.log_probs, axis=-1)
        else:
            triangle = jnp.triu(jnp.ones((num_classes, num_classes), jnp.float32))
            cumulative = jnp.matmul(self.probs, triangle, precision="highest")
            index = jnp.sum(cumulative[..., :-1] <= uniform[..., None], axis=-1)
        return jax.nn.one_hot(index, num_classes)

    def sample_straight_through(self, uniform: Float[Array, "*N"] | None) -> Float[Array, "*N K"]:
        """A sample whose gradient is that of the probabilities."""
        probs = self.probs
        return jax.lax.stop_gradient(self.sample(uniform) - probs) + probs

    def log_prob(self, one_hot: Float[Array, "*N K"]) -> Float[Array, "*N"]:
        """Log-probability of a one-hot vector."""
        return jnp.sum(self.log_probs * one_hot, axis=-1)

    def entropy(self) -> Float[Array, "*N"]:
        """Entropy in nats."""
        return -jnp.sum(self.probs * self.log_probs, axis=-1)

    def kl(self, other: OneHot) -> Float[Array, "*N"]:
        """KL(self || other) in nats."""
        return jnp.sum(self.probs * (self.log_probs - other.log_probs), axis=-1)


class Normal(NamedTuple):
    """Independent normal variables `[*N, A]`, neither squashed nor clipped."""

    mean: Float[Array, "*N A"]
    std: Float[Array, "*N A"]

    @staticmethod
    def bounded(mean: Float[Array, "*N A"], std: Float[Array, "*N A"], *, min_std: float, max_std: float) -> Normal:
        """The actor's: `tanh(mean)`, and a standard deviation between `min_std` and `max_std`."""
        mean, std = mean.astype(jnp.float32), std.astype(jnp.float32)
        return Normal(jnp.tanh(mean), (max_std - min_std) * jax.nn.sigmoid(std + 2.0) + min_std)

    def sample(self, noise: Float[Array, "*N A"] | None) -> Float[Array, "*N A"]:
        """`mean + std * noise` from standard normal noise; None: the mean."""
        return self.mean if noise is None else self.mean + self.std * noise

    def log_prob(self, value: Float[Array, "*N A"]) -> Float[Array, "*N A"]:
        """Log-density of every component."""
        z = (value - self.mean) / self.std
        return -0.5 * jnp.square(z) - jnp.log(self.std) - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Float[Array, "*N A"]:
        """Entropy of every component, in nats."""
        return jnp.log(self.std) + 0.5 * math.log(2 * math.pi * math.e)


class Bernoulli(NamedTuple):
    """A yes-or-no variable."""

    logit: Float[Array, "*N"]

    @property
    def prob(self) -> Float[Array, "*N"]:
        """Probability of yes."""
        return jax.nn.sigmoid(self.logit)

    def loss(self, target: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """Cross-entropy against a probability in [0, 1]."""
        return -(target * jax.nn.log_sigmoid(self.logit) + (1 - target) * jax.nn.log_sigmoid(-self.logit))


def symexp_bins(num_bins: int = NUM_BINS) -> np.ndarray:
    """Bins `symexp(-20 .. 20)`, the upper half mirrored from the lower so that they are exactly antisymmetric."""
    half = np.linspace(-20.0, 0.0, num_bins // 2 + 1, dtype=np.float32)
    half = np.asarray(np.sign(half) * np.expm1(np.abs(half)), np.float32)
    return np.concatenate([half, -half[:-1][::-1]])


class TwoHot(NamedTuple):
    """A scalar as a categorical distribution over fixed bins (Nature 2025, "Critic learning").

    Attributes:
        logits: `[*N, J]`.
        bins: `[J]` in increasing order, antisymmetric, J odd.
    """

    logits: Float[Array, "*N J"]
    bins: Float[Array, " J"]

    @staticmethod
    def over_symexp(logits: Float[Array, "*N J"]) -> TwoHot:
        """Over the bins `symexp(-20 .. 20)`."""
        return TwoHot(logits.astype(jnp.float32), jnp.asarray(symexp_bins(logits.shape[-1])))

    def mean(self) -> Float[Array, "*N"]:
        """Expected value. Bins reach 5e8, so a plain sum would not be 0 at init.

        Probabilities of mirrored bins are subtracted before they are weighted: equal ones then cancel exactly, also
        where the compiler contracts a product and a sum into one rounding.
        """
        exponentials, _ = _exponentials(self.logits)
        probs = exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)
        middle = self.bins.shape[0] // 2
        excess = probs[..., middle + 1 :] - probs[..., :middle][..., ::-1]
        return jnp.sum(excess * along_last(self.bins[middle + 1 :], excess), axis=-1)

    def encode(self, target: Float[Array, "*N"]) -> Float[Array, "*N J"]:
        """The two bins around the target share the weight in proportion to nearness, in raw (not symlog) space."""
        target = jnp.clip(target, self.bins[0], self.bins[-1])
        below = jnp.clip(jnp.searchsorted(self.bins, target, side="right") - 1, 0, self.bins.shape[0] - 2)
        low, high = self.bins[below], self.bins[below + 1]
        share = ((target - low) / (high - low))[..., None]
        offset = jnp.arange(self.bins.shape[0]).reshape((1,) * target.ndim + (-1,)) - below[..., None]
        return jnp.where(offset == 0, 1.0 - share, jnp.where(offset == 1, share, 0.0))

    def cross_entropy(self, code: Float[Array, "*N J"]) -> Float[Array, "*N"]:
        """Cross-entropy against a code, or a weighted sum of codes, through which no gradient flows."""
        code = jax.lax.stop_gradient(code)
        exponentials, largest = _exponentials(self.logits)
        log_sum = jnp.log(jnp.sum(exponentials, axis=-1)) + largest[..., 0]
        return jnp.sum(code, axis=-1) * log_sum - jnp.sum(code * self.logits, axis=-1)

    def loss(self, target: Float[Array, "*N"]) -> Float[Array, "*N"]:
        """Cross-entropy against the two-hot code of the target."""
        return self.cross_entropy(self.encode(target))


class SymlogMSE(NamedTuple):
    """A vector predicted in symlog space; the loss is a squared error without a factor 1/2."""

    mean: Float[Array, "*N C"]

    def mode(self) -> Float[Array, "*N C"]:
        """The prediction in the units of the observation."""
        return symexp(self.mean)

    def loss(self, target: Float[Array, "*N C"]) -> Float[Array, "*N"]:
        """Squared error to `symlog(target)`, summed over components."""
        return jnp.sum(jnp.square(self.mean - symlog(target)), axis=-1)


class ImageMSE(NamedTuple):
    """An image predicted on [0, 1]."""

    mean: Float[Array, "*N H W C"]

    def mode(self) -> Array:
        """The prediction as uint8 `[*N, H, W, C]`."""
        return jnp.round(self.mean * 255).astype(jnp.uint8)

    def loss(self, target: Array) -> Float[Array, "*N"]:
        """Squared error to `target / 255` (uint8), summed over height, width and channels."""
        return jnp.sum(jnp.square(self.mean - target.astype(jnp.float32) / 255), axis=(-3, -2, -1))


def _exponentials(logits: Float[Array, "*N J"]) -> tuple[Float[Array, "*N J"], Float[Array, "*N 1"]]:
    """`exp(logits - largest)`, and the largest, through which no gradient flows; a NaN shows in its exponential.

    The bits of floats, with all but the sign of negative ones flipped, are integers in the same order. XLA on a CPU
    finds the largest integer with vectors, and the largest float, which may be NaN, one by one: four times as slowly.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(logits), jnp.int32)

    def flip(x: Array) -> Array:  # its own inverse
        return x ^ ((x >> 31) & 0x7FFFFFFF)

    largest = jax.lax.bitcast_convert_type(flip(jnp.max(flip(bits), axis=-1, keepdims=True)), jnp.float32)
    return jnp.exp(logits - largest), largest
