"""Learning: batches in, better parameters out, refreshed latents back to replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.data.prefetch import ReplayStream
from dreamer.data.replay import Positions
from dreamer.training.state import TrainState
from dreamer.types import Batch, CompactLatent

REFRESHED = "refreshed/"  # prefix in a checkpoint


class Refreshed(NamedTuple):
    """Latents of an update that replay does not have yet."""

    positions: Positions
    latent: CompactLatent


class Learner:
    """Makes updates one after the other without waiting for the device.

    The latents of an update return to replay after the next one has been started, so that the device never waits for
    the host. That order, not timing, decides what replay holds; the latents under way are part of a checkpoint.

    Attributes:
        state: the train state.
        updates: made so far.
        metrics: of the last update, on the device.
        batch: of the last update, on the device.
    """

    def __init__(self, state: TrainState, *, train_step: Callable[..., Any], stream: ReplayStream[Batch]) -> None:
        self.state, self.updates = state, 0
        self.metrics: dict[str, jax.Array] = {}
        self.batch: Batch | None = None
        self._train_step, self._stream = train_step, stream
        self._refreshed: Refreshed | None = None

    def update(self) -> None:
        """One update."""
        self.batch, positions = self._stream.take()
        self.state, latent, self.metrics = self._train_step(self.state, self.batch)
        self._hand_back()
        self._refreshed = Refreshed(positions, latent)
        self.updates += 1

    def saved_arrays(self) -> dict[str, np.ndarray]:
        """The latents under way, as named arrays on the host."""
        if self._refreshed is None:
            return {}
        positions, latent = self._refreshed
        return {REFRESHED + name: np.asarray(a) for name, a in (positions._asdict() | latent._asdict()).items()}

    def restore(self, state: TrainState, arrays: dict[str, np.ndarray]) -> None:
        """Continues from a saved state."""
        self.state, self.updates = state, int(state.step)
        if REFRESHED + "env" in arrays:
            self._refreshed = Refreshed(
                Positions(*(arrays[REFRESHED + name] for name in Positions._fields)),
                CompactLatent(*(jnp.asarray(arrays[REFRESHED + name]) for name in CompactLatent._fields)),
            )

    def _hand_back(self) -> None:
        if self._refreshed is not None:
            self._stream.write_back(self._refreshed.positions, jax.device_get(self._refreshed.latent))
            self._refreshed = None
