"""Observations to tokens: vectors and discrete values through an MLP, images through CNNs."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from dreamer.config import EncoderConfig
from dreamer.nets.convolution import PooledConv
from dreamer.nets.init import Rngs
from dreamer.nets.layers import MLP, RMSNorm, symlog
from dreamer.nets.parts import few_at_a_time
from dreamer.world.images import ImageGroup, group_images
from envs.spaces import DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, vector_width


class Encoder(nnx.Module):
    """Encodes observations step by step into tokens `[*N, E]`: first those of the vectors, then those of the images."""

    def __init__(self, config: EncoderConfig, spec: ObservationSpec, *, rngs: Rngs):
        self.vector_spec = {key: part for key, part in sorted(spec.items()) if not isinstance(part, ImageSpec)}
        self.groups = group_images(spec, depth=config.depth, multipliers=config.multipliers)
        self.token_size = 0
        if self.vector_spec:
            width = sum(vector_width(part) for part in self.vector_spec.values())
            self.mlp = MLP(width, config.units, layers=config.layers, rngs=rngs)
            self.token_size += config.units
        for name, group in self.groups.items():
            cnn = ImageEncoder(group, kernel=config.kernel, rngs=rngs)
            setattr(self, f"cnn_{name}", cnn)
            self.token_size += cnn.token_size

    def __call__(self, observation: dict[str, Array], *, dtype: DTypeLike = jnp.float32) -> Float[Array, "*N E"]:
        """Tokens of a batch of observations, computed in `dtype`."""
        tokens = []
        if self.vector_spec:
            parts = [_embed(observation[key], part) for key, part in self.vector_spec.items()]
            tokens.append(self.mlp(jnp.concatenate(parts, axis=-1).astype(dtype)))
        for name, group in self.groups.items():
            image = jnp.concatenate([observation[key] for key in group.keys], axis=-1)
            flat = image.reshape(-1, *image.shape[-3:]).astype(dtype) / 255 - 0.5
            tokens.append(few_at_a_time(getattr(self, f"cnn_{name}"), flat).reshape(*image.shape[:-3], -1))
        return jnp.concatenate(tokens, axis=-1)


class ImageEncoder(nnx.Module):
    """Stages of convolution, 2x2 max-pooling, RMSNorm over channels and SiLU."""

    def __init__(self, group: ImageGroup, *, kernel: int, rngs: Rngs):
        self.group = group
        self.token_size = math.prod(group.map_size) * group.stages[-1]
        channels = (sum(group.channels), *group.stages)
        for index in range(len(group.stages)):
            setattr(self, f"conv{index}", PooledConv(channels[index], channels[index + 1], kernel=kernel, rngs=rngs))
            setattr(self, f"norm{index}", RMSNorm(channels[index + 1]))

    def __call__(self, image: Float[Array, "N H W C"]) -> Float[Array, "N E"]:
        """Tokens of images on [-0.5, 0.5], read out row by row."""
        (height, width), (padded_height, padded_width) = self.group.size, self.group.padded_size
        x = jnp.pad(image, ((0, 0), (0, padded_height - height), (0, padded_width - width), (0, 0)))
        for index in range(len(self.group.stages)):
            x = jax.nn.silu(getattr(self, f"norm{index}")(getattr(self, f"conv{index}")(x)))
        return x.reshape(x.shape[0], -1)


def _embed(value: Array, part: VectorSpec | DiscreteSpec) -> Float[Array, "*N W"]:
    """Vectors in symlog space, discrete components as one-hot vectors side by side."""
    if isinstance(part, VectorSpec):
        return symlog(value.astype(jnp.float32))
    hots = [jax.nn.one_hot(value[..., index], classes) for index, classes in enumerate(part.num_classes)]
    return jnp.concatenate(hots, axis=-1)
