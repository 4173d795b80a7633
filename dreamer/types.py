"""Records that cross rooms, and the legend of axes.

Axes, everywhere: `B` batch, `T` time, `H` horizon, `N` any number of states or environments, `S` categorical latents,
`K` classes of a latent, `D` recurrent (deter) width, `E` token width, `F` feature width, `A` action width.
Sequences are `[B, T, ...]` outside of scans.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Num, UInt8


class Latent(NamedTuple):
    """State of the recurrent state-space model.

    Attributes:
        deter: recurrent state, `[*N, D]`.
        stoch: one-hot samples, `[*N, S, K]`.
    """

    deter: Float[Array, "*N D"]
    stoch: Float[Array, "*N S K"]


class CompactLatent(NamedTuple):
    """A latent as replay keeps it: bfloat16 and class indices."""

    deter: Float[Array, "*N D"]
    stoch: UInt8[Array, "*N S"]


class Batch(NamedTuple):
    """Replayed sequences. Entry t: the observation, what arrived with it, and the action that led to it.

    Attributes:
        observation: by key, `[B, T, ...]`; images uint8, vectors float32, discrete int32.
        previous_action: flat action vectors, `[B, T, A]`.
        reward: received on arriving at the observation, `[B, T]`.
        is_first: the observation comes from a reset.
        is_last: the episode ends here, by termination or truncation.
        is_terminal: it ends because the task is over.
        context: the latent of the step before the first.
    """

    observation: dict[str, Num[Array, "B T ..."]]
    previous_action: Float[Array, "B T A"]
    reward: Float[Array, "B T"]
    is_first: Bool[Array, "B T"]
    is_last: Bool[Array, "B T"]
    is_terminal: Bool[Array, "B T"]
    context: CompactLatent
