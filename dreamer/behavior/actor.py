"""The policy over any action space, as distributions over flat action vectors."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dreamer.config import ActorConfig
from dreamer.nets.distributions import Normal, OneHot
from dreamer.nets.init import Rngs
from dreamer.nets.layers import MLP, Linear
from envs.spaces import ActionSpec, DiscreteSpec, VectorSpec

OUTPUT_SCALE = 0.01  # nearly uniform policies to begin with

ActionNoise = tuple[Float[Array, "..."], ...]


class ActionDistribution(NamedTuple):
    """Independent parts side by side on the flat action vector `[*N, A]`, in the order of the sorted action keys."""

    parts: tuple[OneHot | Normal, ...]

    def sample(self, noise: ActionNoise | None) -> Float[Array, "*N A"]:
        """A flat action vector; None takes the mode."""
        if noise is None:
            return jnp.concatenate([part.sample(None) for part in self.parts], axis=-1)
        return jnp.concatenate([part.sample(n) for part, n in zip(self.parts, noise, strict=True)], axis=-1)

    def log_prob(self, action: Float[Array, "*N A"]) -> Float[Array, "*N"]:
        """Log-probability of a flat action vector."""
        total, start = jnp.zeros(action.shape[:-1]), 0
        for part in self.parts:
            width = (part.mean if isinstance(part, Normal) else part.log_probs).shape[-1]
            log_prob = part.log_prob(action[..., start : start + width])
            total += jnp.sum(log_prob, axis=-1) if isinstance(part, Normal) else log_prob
            start += width
        return total

    def entropy(self) -> Float[Array, "*N"]:
        """Entropy in nats, summed over parts."""
        entropies = [jnp.sum(p.entropy(), axis=-1) if isinstance(p, Normal) else p.entropy() for p in self.parts]
        return sum(entropies[1:], start=entropies[0])


def draw_action_noise(key: Array, spec: ActionSpec, lead: tuple[int, ...]) -> ActionNoise:
    """Noise for `ActionDistribution.sample` with leading axes `lead`: normal or uniform, part by part."""
    noise = []
    for index, (_, part) in enumerate(sorted(spec.items())):
        part_key = jax.random.fold_in(key, index)
        if isinstance(part, VectorSpec):
            noise.append(jax.random.normal(part_key, (*lead, part.size)))
        else:
            noise += list(jax.random.uniform(part_key, (len(part.num_classes), *lead)))
    return tuple(noise)


class Actor(nnx.Module):
    """Features to a distribution over actions: Normal for continuous parts, categorical for discrete ones."""

    def __init__(self, config: ActorConfig, feature_size: int, spec: ActionSpec, *, rngs: Rngs):
        self.config, self.spec = config, dict(sorted(spec.items()))
        self.mlp = MLP(feature_size, config.units, layers=config.layers, rngs=rngs)
        self.heads = nnx.Dict({key: ActionHead(config.units, part, rngs=rngs) for key, part in self.spec.items()})

    def __call__(self, features: Float[Array, "*N F"]) -> ActionDistribution:
        """The policy at these features."""
        hidden = self.mlp(features)
        parts: list[OneHot | Normal] = []
        for key in self.spec:
            parts += self.heads[key](hidden, self.config)
        return ActionDistribution(tuple(parts))


class ActionHead(nnx.Module):
    """Output layers of one action key."""

    def __init__(self, units: int, part: VectorSpec | DiscreteSpec, *, rngs: Rngs):
        self.part = part
        if isinstance(part, VectorSpec):
            self.mean = Linear(units, part.size, scale=OUTPUT_SCALE, rngs=rngs)
            self.std = Linear(units, part.size, scale=OUTPUT_SCALE, rngs=rngs)
        else:
            self.logits = Linear(units, sum(part.num_classes), scale=OUTPUT_SCALE, rngs=rngs)

    def __call__(self, hidden: Float[Array, "*N U"], config: ActorConfig) -> list[OneHot | Normal]:
        """One Normal for all continuous components, one categorical for each discrete one."""
        if isinstance(self.part, VectorSpec):
            mean, std = self.mean(hidden), self.std(hidden)
            return [Normal.bounded(mean, std, min_std=config.min_std, max_std=config.max_std)]
        classes = self.part.num_classes
        edges = [sum(classes[:index]) for index in range(1, len(classes))]
        logits = jnp.split(self.logits(hidden), edges, axis=-1)
        return [OneHot.from_logits(part, unimix=config.unimix) for part in logits]
