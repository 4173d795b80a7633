"""Features back to observations: the mirror of the encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dreamer.config import DecoderConfig
from dreamer.nets.convolution import UpsampleConv, unfold
from dreamer.nets.distributions import ImageMSE, OneHot, SymlogMSE
from dreamer.nets.init import Rngs
from dreamer.nets.layers import MLP, BlockLinear, Layer, Linear, RMSNorm
from dreamer.nets.parts import few_at_a_time
from dreamer.types import Latent
from dreamer.world.images import ImageGroup, group_images
from envs.spaces import DiscreteSpec, ImageSpec, ObservationSpec, VectorSpec, vector_width


class Prediction(Protocol):
    """What is predicted for one observation key."""

    def mode(self) -> Array:
        """The most likely observation, in the environment's units and dtype."""
        ...

    def loss(self, target: Array) -> Float[Array, "*N"]:
        """Reconstruction loss of an observation."""
        ...


class Classes(NamedTuple):
    """Discrete components, each a categorical distribution."""

    parts: tuple[OneHot, ...]

    def mode(self) -> Array:
        """Class indices, int32 `[*N, C]`."""
        return jnp.stack([jnp.argmax(part.log_probs, axis=-1) for part in self.parts], axis=-1).astype(jnp.int32)

    def loss(self, target: Array) -> Float[Array, "*N"]:
        """Cross-entropy, summed over components."""
        losses = [
            -part.log_prob(jax.nn.one_hot(target[..., index], part.log_probs.shape[-1]))
            for index, part in enumerate(self.parts)
        ]
        return sum(losses[1:], start=losses[0])


class Decoder(nnx.Module):
    """Decodes latents `[*N]` into one prediction per observation key."""

    def __init__(self, config: DecoderConfig, spec: ObservationSpec, *, latent: tuple[int, int, int], rngs: Rngs):
        """`latent`: widths of deter and flat stoch, and the number of blocks of the recurrent state."""
        deter, flat_stoch, _ = latent
        self.vector_spec = {key: part for key, part in sorted(spec.items()) if not isinstance(part, ImageSpec)}
        self.groups = group_images(spec, depth=config.depth, multipliers=config.multipliers)
        if self.vector_spec:
            self.mlp = MLP(deter + flat_stoch, config.units, layers=config.layers, rngs=rngs)
            self.vectors = nnx.Dict(
                {key: Linear(config.units, vector_width(part), rngs=rngs) for key, part in self.vector_spec.items()}
            )
        for name, group in self.groups.items():
            setattr(self, f"cnn_{name}", ImageDecoder(group, latent=latent, units=config.units, rngs=rngs))

    def __call__(self, latent: Latent) -> Mapping[str, Prediction]:
        """Predictions by key; the losses and modes of each have the leading axes of the latent."""
        flat_stoch = latent.stoch.reshape(*latent.stoch.shape[:-2], -1)
        predictions: dict[str, Prediction] = {}
        if self.vector_spec:
            hidden = self.mlp(jnp.concatenate([flat_stoch, latent.deter], axis=-1))
            for key, part in self.vector_spec.items():
                predictions[key] = _vector_prediction(self.vectors[key](hidden).astype(jnp.float32), part)
        lead = latent.deter.shape[:-1]
        for name, group in self.groups.items():
            deter = latent.deter.reshape(-1, latent.deter.shape[-1])
            image = getattr(self, f"cnn_{name}")(deter, flat_stoch.reshape(-1, flat_stoch.shape[-1]))
            image, start = image.reshape(*lead, *image.shape[1:]), 0
            for key, channels in zip(group.keys, group.channels, strict=True):
                predictions[key] = ImageMSE(image[..., start : start + channels])
                start += channels
        return predictions


class ImageDecoder(nnx.Module):
    """A small map from the latent, then stages of upsampling, convolution, RMSNorm and SiLU."""

    def __init__(self, group: ImageGroup, *, latent: tuple[int, int, int], units: int, rngs: Rngs):
        self.group = group
        deter, flat_stoch, blocks = latent
        channels = (sum(group.channels), *group.stages)
        self.blocks = math.gcd(blocks, channels[-1])  # every block makes a whole number of channels
        map_width = math.prod(group.map_size) * channels[-1]
        self.deter_map = BlockLinear(deter, map_width, blocks=self.blocks, rngs=rngs)
        self.stoch_in = Layer(flat_stoch, 2 * units, rngs=rngs)
        self.stoch_map = Linear(2 * units, map_width, rngs=rngs)
        self.map_norm = RMSNorm(channels[-1])
        for index in reversed(range(1, len(group.stages))):
            setattr(self, f"conv{index}", UpsampleConv(channels[index + 1], channels[index], rngs=rngs))
            setattr(self, f"norm{index}", RMSNorm(channels[index]))
        self.output = UpsampleConv(channels[1], channels[0], rngs=rngs)

    def __call__(self, deter: Float[Array, "N D"], flat_stoch: Float[Array, "N SK"]) -> Float[Array, "N H W C"]:
        """Images on [0, 1]. The blocks of the recurrent state lie side by side on the channels of the first map."""
        height, width = self.group.map_size
        blocks = self.deter_map(deter).reshape(deter.shape[0], self.blocks, height, width, -1)
        x = blocks.transpose(0, 2, 3, 1, 4).reshape(deter.shape[0], height, width, -1)
        x = x + self.stoch_map(self.stoch_in(flat_stoch)).reshape(x.shape)
        stages = [(f"conv{index}", f"norm{index}") for index in reversed(range(1, len(self.group.stages)))]
        taps = {name: getattr(self, name).taps for name in [*(conv for conv, _ in stages), "output"]}

        def enlarge(x: Array) -> Array:
            x = jax.nn.silu(self.map_norm(x))
            for conv, norm in stages:
                x = unfold(jax.nn.silu(getattr(self, norm)(getattr(self, conv)(x, taps[conv]))))
            return unfold(jax.nn.sigmoid(self.output(x, taps["output"]).astype(jnp.float32)))

        return few_at_a_time(enlarge, x)[:, : self.group.size[0], : self.group.size[1]]


def _vector_prediction(output: Float[Array, "*N W"], part: VectorSpec | DiscreteSpec) -> Prediction:
    if isinstance(part, VectorSpec):
        return SymlogMSE(output)
    edges = [sum(part.num_classes[:index]) for index in range(1, len(part.num_classes))]
    return Classes(tuple(OneHot.from_logits(logits, unimix=0.0) for logits in jnp.split(output, edges, axis=-1)))
