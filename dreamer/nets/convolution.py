"""Convolutions of the image encoder and decoder, with the rewrites that leave the function as it is and cost less.

Few channels are what convolutions do worst: on a CPU, a 5x5 kernel on three channels reaches a tenth of the rate of a
matrix product. So the encoder's first layer works on pixels folded 2x2 into channels, and the decoder's layers on the
small image before it is enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, UInt8

from dreamer.nets.init import Rngs, init_kernel
from dreamer.nets.layers import along_last
from dreamer.nets.parts import KEPT

FEW_PIXEL_CHANNELS = 4  # up to here, images are folded before they are convolved
FEW_INPUTS = 16  # up to here, the gradient of a kernel is a matrix product of rows rather than a convolution


class Conv(nnx.Module):
    """Cross-correlation, stride 1, zero padding that keeps the size; images NHWC, weights HWIO."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, rngs: Rngs):
        self.kernel = init_kernel(rngs, (kernel, kernel, in_channels, out_channels))
        self.bias = nnx.Param(jnp.zeros(out_channels))

    def __call__(self, x: Float[Array, "N H W I"]) -> Float[Array, "N H W O"]:
        """Convolves images."""
        return self.add_bias(convolve(x, self.kernel[...]))

    def add_bias(self, y: Float[Array, "N H W O"]) -> Float[Array, "N H W O"]:
        """The last step of a convolution."""
        return y + along_last(self.bias[...], y)


class PooledConv(Conv):
    """Convolution, then the maximum over windows of 2x2 pixels, which may as well be taken before the bias is added."""

    def __call__(self, x: Float[Array, "N H W I"]) -> Float[Array, "N H2 W2 O"]:
        """Images of half the size; height and width must be even."""
        kernel = self.kernel[...]
        few = x.shape[-1] <= FEW_PIXEL_CHANNELS
        maps = convolve(fold(x), fold_kernel(kernel)) if few else fold(convolve(x, kernel))
        return self.add_bias(checkpoint_name(largest(*jnp.split(maps, 4, axis=-1)), KEPT))


class UpsampleConv(Conv):
    """Doubles height and width by repeating pixels, then convolves with a 5x5 kernel; the result is still folded.

    Computed as a 3x3 convolution at the low resolution with one output map for each of the four pixel positions: after
    repetition the five taps of a row fall on only three different pixels, so their weights can be summed beforehand.
    The function is the same; the arithmetic is 2.8 times less and the few-channel convolution at full size disappears.
    """

    def __init__(self, in_channels: int, out_channels: int, *, rngs: Rngs):
        super().__init__(in_channels, out_channels, kernel=5, rngs=rngs)

    @property
    def taps(self) -> Float[Array, "3 3 I 4O"]:
        """The kernel as it is used, at the low resolution."""
        pairs = jnp.asarray(_fold_taps(5).sum(axis=-1))  # both pixels of a pair hold the same value
        kernel = jnp.einsum("paq,rbs,abio->qsipro", pairs, pairs, self.kernel[...], precision="highest")
        return kernel.reshape(3, 3, self.kernel.shape[2], -1)

    def __call__(self, x: Float[Array, "N H W I"], taps: Array | None = None) -> Float[Array, "N H W 4 O"]:
        """The four pixels that each pixel becomes; `unfold` puts them in their places.

        What follows for each pixel by itself (norm, activation) is cheaper before: it runs through memory in order.
        `taps`: computed before, for use in a loop.
        """
        maps = checkpoint_name(convolve(x, self.taps if taps is None else taps), KEPT)
        return self.add_bias(maps.reshape(*x.shape[:3], 4, -1))


def fold(x: Float[Array, "N H W C"]) -> Float[Array, "N H2 W2 4C"]:
    """Squares of 2x2 pixels become one pixel with four times the channels."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // 2, width // 2, 4 * channels)


def unfold(x: Float[Array, "N H W 4 C"]) -> Float[Array, "N 2H 2W C"]:
    """Inverse of `fold`, with the four pixels on an axis of their own."""
    n, height, width, _, channels = x.shape
    squares = x.reshape(n, height, width, 2, 2, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * height, 2 * width, channels)


def fold_kernel(kernel: Float[Array, "K K I O"]) -> Float[Array, "Q Q 4I 4O"]:
    """The kernel that does to folded images what `kernel` does to plain ones: convolving commutes with folding."""
    taps = jnp.asarray(_fold_taps(kernel.shape[0]))
    folded = jnp.einsum("paqx,rbsy,abio->qsxyipro", taps, taps, kernel, precision="highest")
    return folded.reshape(taps.shape[2], taps.shape[2], 4 * kernel.shape[2], 4 * kernel.shape[3])


def _fold_taps(size: int) -> np.ndarray:
    """`[2, size, Q, 2]`: seen from each pixel of a pair, on which pair and which pixel of it every tap falls."""
    before = (size - 1) // 2
    reach = (before + 1) // 2, (size - before) // 2  # pairs before and behind
    taps = np.zeros((2, size, sum(reach) + 1, 2), np.float32)
    for position in range(2):
        for tap in range(size):
            pair, pixel = divmod(position + tap - before, 2)
            taps[position, tap, pair + reach[0], pixel] = 1.0
    return taps


@jax.custom_vjp
def convolve(x: Float[Array, "N H W I"], kernel: Float[Array, "K K I O"]) -> Float[Array, "N H W O"]:
    """Stride 1, zero padding that keeps the size. Its gradient for the kernel is written for a CPU's cache."""
    return _convolve(x, kernel.astype(x.dtype))


def _convolve(x: Array, kernel: Array, padding: str | Sequence[tuple[int, int]] = "SAME") -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolve_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    shape = jax.ShapeDtypeStruct(kernel.shape, x.dtype)
    before, after = (kernel.shape[0] - 1) // 2, kernel.shape[0] // 2
    turned = jnp.flip(kernel.astype(x.dtype), (0, 1)).swapaxes(2, 3)
    for_x = _convolve(gradient, turned, [(after, before)] * 2)
    for_kernel = jax.lax.platform_dependent(
        x,
        gradient,
        cpu=partial(_kernel_gradient_cpu, size=kernel.shape[0]),
        default=lambda x, gradient: jax.linear_transpose(lambda kernel: _convolve(x, kernel), shape)(gradient)[0],
    )
    return for_x, for_kernel.astype(kernel.dtype)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _kernel_gradient_cpu(
    x: Float[Array, "N H W I"], gradient: Float[Array, "N H W O"], *, size: int
) -> Float[Array, "K K I O"]:
    """For the few images of `few_at_a_time`: over a whole batch XLA needs up to seven times as long for each."""
    rule = _kernel_gradient_of_rows if x.shape[-1] <= FEW_INPUTS else _kernel_gradient_as_convolution
    return rule(x, gradient, size)


def _kernel_gradient_as_convolution(x: Array, gradient: Array, size: int) -> Array:
    """Batch and channels change places. Written out, because inside a loop XLA leaves other layouts to a slow path."""
    before, after = (size - 1) // 2, size // 2
    images, kernel = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
    padding = [(before, after)] * 2
    return _convolve(images, kernel, padding).transpose(1, 2, 0, 3)


def _kernel_gradient_of_rows(x: Array, gradient: Array, size: int) -> Array:
    """One matrix product for each row of the kernel: with few channels a convolution is mostly overhead."""
    (_, height, width, _), before, after = x.shape, (size - 1) // 2, size // 2
    padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    neighbours = jnp.concatenate([padded[:, :, tap : tap + width] for tap in range(size)], axis=-1)
    rows = [neighbours[:, tap : tap + height].reshape(-1, size * x.shape[-1]) for tap in range(size)]
    flat = gradient.reshape(-1, gradient.shape[-1])
    return jnp.stack([row.T @ flat for row in rows]).reshape(size, size, x.shape[-1], -1)


@jax.custom_vjp
def largest(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The maximum of four, like nested `jnp.maximum`; its gradient needs one byte of each element, not the four."""
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _largest_forward(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    first, second = jnp.maximum(a, b), jnp.maximum(c, d)
    code = _compare(a, b) + 3 * _compare(c, d) + 9 * _compare(first, second)
    return jnp.maximum(first, second), checkpoint_name(code, KEPT)


def _largest_backward(code: Array, gradient: Array) -> tuple[Array, Array, Array, Array]:
    of_pair = gradient * (code // 9).astype(gradient.dtype) / 2
    other = gradient - of_pair
    a, c = of_pair * (code % 3).astype(gradient.dtype) / 2, other * (code // 3 % 3).astype(gradient.dtype) / 2
    return a, of_pair - a, c, other - c


def _compare(first: Array, second: Array) -> UInt8[Array, "*N"]:
    """Twice the share that the first of two gets of the gradient of their maximum: equals share it."""
    return (first > second).astype(jnp.uint8) + (first >= second).astype(jnp.uint8)


largest.defvjp(_largest_forward, _largest_backward)
