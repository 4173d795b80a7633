"""Layers: flax NNX holds the parameters, plain JAX does the arithmetic.

Computation follows the dtype of the input (parameters stay float32 and are cast where they are used), so precision is
decided once, where observations and latents enter the model. `*N` stands for any leading axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dreamer.nets.deferred import deferrable
from dreamer.nets.init import Rngs, init_kernel

EPSILON = 1e-4  # inside the root of RMSNorm


def along_last(vector: Array, like: Array) -> Array:
    """`vector` `[C]` in the dtype of `like` and with as many axes, so that it broadcasts without rank promotion."""
    return vector.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def product(x: Float[Array, "*N I"], kernel: Float[Array, "I O"]) -> Float[Array, "*N O"]:
    """`x @ kernel`, whose gradient for the kernel is the product that runs fastest on a CPU."""
    return deferrable(_product, _kernel_gradient, x, kernel)


@jax.custom_vjp
def _product(x: Float[Array, "*N I"], kernel: Float[Array, "I O"]) -> Float[Array, "*N O"]:
    return x @ kernel


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _product_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return gradient @ kernel.T, _kernel_gradient(x, gradient)


def _kernel_gradient(x: Float[Array, "*N I"], gradient: Float[Array, "*N O"]) -> Float[Array, "I O"]:
    rows = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return jax.lax.platform_dependent(*rows, cpu=_kernel_gradient_cpu, default=lambda x, gradient: x.T @ gradient)


def _kernel_gradient_cpu(x: Float[Array, "N I"], gradient: Float[Array, "N O"]) -> Float[Array, "I O"]:
    """XLA on a CPU multiplies fastest from the left by contiguous rows; the narrower factor is cheap to transpose."""
    if x.shape[-1] <= gradient.shape[-1]:
        return jax.lax.optimization_barrier(x.T) @ gradient
    return jax.lax.optimization_barrier(jax.lax.optimization_barrier(gradient.T) @ x).T


_product.defvjp(_product_forward, _product_backward)


class Linear(nnx.Module):
    """`x @ kernel + bias`."""

    def __init__(self, in_size: int, out_size: int, *, rngs: Rngs, scale: float = 1.0):
        self.kernel = init_kernel(rngs, (in_size, out_size), scale=scale)
        self.bias = nnx.Param(jnp.zeros(out_size))

    def __call__(self, x: Float[Array, "*N I"]) -> Float[Array, "*N O"]:
        """The affine map."""
        y = product(x, self.kernel[...].astype(x.dtype))
        return y + along_last(self.bias[...], y)

    def head(self, x: Float[Array, "*N H"]) -> Float[Array, "*N O"]:
        """The part of the product that the first rows of the kernel make, without bias."""
        return product(x, self.kernel[: x.shape[-1]].astype(x.dtype))

    def tail(self, x: Float[Array, "*N R"]) -> Float[Array, "*N O"]:
        """The rest: `linear(concat[a, b]) = linear.head(a) + linear.tail(b)`, so one of them can leave a loop."""
        y = product(x, self.kernel[-x.shape[-1] :].astype(x.dtype))
        return y + along_last(self.bias[...], y)


class BlockLinear(nnx.Module):
    """A block-diagonal linear layer: part g of the input gives part g of the output."""

    def __init__(self, in_size: int, out_size: int, *, blocks: int, rngs: Rngs):
        self.kernel = init_kernel(rngs, (blocks, in_size // blocks, out_size // blocks))
        self.bias = nnx.Param(jnp.zeros(out_size))

    def __call__(self, x: Float[Array, "*N I"]) -> Float[Array, "*N O"]:
        """The affine map, block by block."""
        return join_blocks(self.on_blocks(split_blocks(x, self.kernel.shape[0])))

    def on_blocks(self, parts: Float[Array, "G *N I_G"]) -> Float[Array, "G *N O_G"]:
        """The same with the blocks in front, the order in which the product needs no transposition."""
        y = _block_product(parts, self.kernel[...].astype(parts.dtype))
        bias = self.bias[...].astype(y.dtype).reshape(y.shape[0], *[1] * (y.ndim - 2), -1)
        return y + bias

    def with_shared(self, parts: Float[Array, "G *N I_G"], shared: Float[Array, "*N U"]) -> Float[Array, "*N O"]:
        """Block g takes in `concat[part g, shared]`: the shared rows of all blocks make one dense product."""
        kernel = self.kernel[...].astype(parts.dtype)
        own = parts.shape[-1]
        dense = kernel[:, own:].swapaxes(0, 1).reshape(shared.shape[-1], -1)
        y = join_blocks(_block_product(parts, kernel[:, :own])) + product(shared, dense)
        return y + along_last(self.bias[...], y)


def split_blocks(x: Float[Array, "*N D"], blocks: int) -> Float[Array, "G *N D_G"]:
    """Cuts the last axis into consecutive blocks and brings them to the front."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], blocks, -1), -2, 0)


def join_blocks(parts: Float[Array, "G *N D_G"]) -> Float[Array, "*N D"]:
    """Inverse of `split_blocks`, written so that XLA on a CPU still vectorises what it fuses with it."""
    return jnp.concatenate(tuple(parts), axis=-1)


def _block_product(parts: Float[Array, "G *N I_G"], kernel: Float[Array, "G I_G O_G"]) -> Float[Array, "G *N O_G"]:
    return deferrable(_multiply_blocks, _blocks_gradient, parts, kernel)


def _multiply_blocks(parts: Float[Array, "G *N I_G"], kernel: Float[Array, "G I_G O_G"]) -> Float[Array, "G *N O_G"]:
    return jnp.einsum("g...i,gio->g...o", parts, kernel)


def _blocks_gradient(
    parts: Float[Array, "T G N I_G"], gradient: Float[Array, "T G N O_G"]
) -> Float[Array, "G I_G O_G"]:
    return jnp.einsum("tgni,tgno->gio", parts, gradient)


class RMSNorm(nnx.Module):
    """`scale * x / sqrt(mean(x^2) + 1e-4)` over the last axis, computed in float32."""

    def __init__(self, size: int):
        self.scale = nnx.Param(jnp.ones(size))

    def __call__(self, x: Float[Array, "*N C"]) -> Float[Array, "*N C"]:
        """Normalises the last axis."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + EPSILON)
        return (y * along_last(self.scale[...], y)).astype(x.dtype)


class Layer(nnx.Module):
    """Linear, RMSNorm, SiLU: every hidden layer of the model."""

    def __init__(self, in_size: int, out_size: int, *, rngs: Rngs):
        self.linear = Linear(in_size, out_size, rngs=rngs)
        self.norm = RMSNorm(out_size)

    def __call__(self, x: Float[Array, "*N I"]) -> Float[Array, "*N O"]:
        """One hidden layer."""
        return self.activate(self.linear(x))

    def activate(self, x: Float[Array, "*N O"]) -> Float[Array, "*N O"]:
        """Norm and SiLU of what the linear part gave."""
        return jax.nn.silu(self.norm(x))


class MLP(nnx.Module):
    """A stack of hidden layers."""

    def __init__(self, in_size: int, units: int, *, layers: int, rngs: Rngs):
        self.num_layers = layers
        for index in range(layers):
            setattr(self, f"layer{index}", Layer(in_size if index == 0 else units, units, rngs=rngs))

    def __call__(self, x: Float[Array, "*N I"]) -> Float[Array, "*N O"]:
        """All layers in turn."""
        for index in range(self.num_layers):
            x = getattr(self, f"layer{index}")(x)
        return x


def symlog(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """`sign(x) log(1 + |x|)` (Nature 2025, "Robust predictions")."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))
