"""Convolutions of the image encoder and decoder, with the rewrites that leave the function as it is and cost less.

Few channels are what convolutions do worst: on a CPU, a 5x5 kernel on three channels reaches a tenth of the rate of a
matrix product. So the encoder's first layer works on pixels folded 2x2 into channels, and the decoder's layers on the
small image before it is enlarged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dreamer.nets.init import Rngs, init_kernel
from dreamer.nets.layers import along_last

# Up to here, images are folded before they are convolved. With more outputs the gradient of the weights, a convolution
# that XLA does slowly on a CPU, costs more than the rest gains (`experiments/benchmark/NOTES.md`).
FEW_INPUTS, FEW_OUTPUTS = 4, 16


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
        if x.shape[-1] > FEW_INPUTS or kernel.shape[-1] > FEW_OUTPUTS:
            return self.add_bias(max_pool(convolve(x, kernel)))
        first, second, third, fourth = jnp.split(convolve(fold(x), fold_kernel(kernel)), 4, axis=-1)
        return self.add_bias(jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth)))


class UpsampleConv(Conv):
    """Doubles height and width by repeating pixels, then convolves with a 5x5 kernel.

    Computed as a 3x3 convolution at the low resolution with one output map for each of the four pixel positions: after
    repetition the five taps of a row fall on only three different pixels, so their weights can be summed beforehand.
    The function is the same; the arithmetic is 2.8 times less and the few-channel convolution at full size disappears.
    """

    def __init__(self, in_channels: int, out_channels: int, *, rngs: Rngs):
        super().__init__(in_channels, out_channels, kernel=5, rngs=rngs)

    def __call__(self, x: Float[Array, "N H W I"]) -> Float[Array, "N H2 W2 O"]:
        """Images of twice the size."""
        taps = jnp.asarray(_fold_taps(5).sum(axis=-1))  # both pixels of a pair hold the same value
        kernel = jnp.einsum("paq,rbs,abio->qsipro", taps, taps, self.kernel[...], precision="highest")
        maps = convolve(x, kernel.reshape(3, 3, x.shape[-1], -1))
        return self.add_bias(unfold(maps))


def fold(x: Float[Array, "N H W C"]) -> Float[Array, "N H2 W2 4C"]:
    """Squares of 2x2 pixels become one pixel with four times the channels."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // 2, width // 2, 4 * channels)


def unfold(x: Float[Array, "N H W 4C"]) -> Float[Array, "N 2H 2W C"]:
    """Inverse of `fold`."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height, width, 2, 2, channels // 4)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * height, 2 * width, channels // 4)


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


def convolve(x: Float[Array, "N H W I"], kernel: Float[Array, "K K I O"]) -> Float[Array, "N H W O"]:
    """Stride 1, zero padding that keeps the size."""
    return jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: Float[Array, "N H W C"]) -> Float[Array, "N H2 W2 C"]:
    """Maximum over non-overlapping 2x2 windows; slices beat a window reduction, most of all backwards."""
    rows = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, 0::2], rows[:, :, 1::2])
