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

REFRESHED, SKIPPED = "refreshed/", "skipped"  # names in a checkpoint


class NonFiniteError(RuntimeError):
    """Loss, gradient or new parameters were not finite in too many updates, one after the other.

    Attributes:
        batch: of the last of them, on the host.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


class Refreshed(NamedTuple):
    """Latents of an update that replay does not have yet, and whether the update was skipped."""

    positions: Positions
    latent: CompactLatent
    skipped: jax.Array | np.ndarray
    batch: Batch | None  # none after a restore


class Learner:
    """Makes updates one after the other without waiting for the device.

    The latents of an update return to replay after the next one has been started, so that the device never waits for
    the host. That order, not timing, decides what replay holds; the latents under way are part of a checkpoint.

    Args:
        state: the first.
        train_step: the update.
        stream: of batches; gets the latents.
        max_skipped: updates in a row.
        here: gives what this host holds of arrays over several, see `Placement.here`.

    Attributes:
        state: the train state.
        updates: made so far.
        metrics: of the last update, on the device.
        batch: of the last update, on the device, as far as this host holds it.
        skipped: updates since the start of this process whose loss, gradient or new parameters were not finite.
    """

    def __init__(
        self,
        state: TrainState,
        *,
        train_step: Callable[..., Any],
        stream: ReplayStream[Batch],
        max_skipped: int,
        here: Callable[[Any], Any] = lambda tree: tree,
    ) -> None:
        self.state, self.updates, self.skipped = state, 0, 0
        self._max_skipped, self._here = max_skipped, here
        self.metrics: dict[str, jax.Array] = {}
        self.batch: Batch | None = None
        self._train_step, self._stream = train_step, stream
        self._refreshed: Refreshed | None = None

    def update(self) -> None:
        """One update.

        Raises:
            NonFiniteError: as many updates in a row as are allowed have been skipped.
        """
        batch, positions = self._stream.take()
        self.state, latent, self.metrics = self._train_step(self.state, batch)
        self.batch, latent = self._here((batch, latent))
        self._hand_back()
        self._refreshed = Refreshed(positions, latent, self.metrics["skipped"], self.batch)
        self.updates += 1

    def saved_arrays(self) -> dict[str, np.ndarray]:
        """The latents under way, as named arrays on the host."""
        if self._refreshed is None:
            return {}
        positions, latent, skipped, _ = self._refreshed
        arrays = positions._asdict() | latent._asdict() | {SKIPPED: skipped}
        return {REFRESHED + name: np.asarray(array) for name, array in arrays.items()}

    def restore(self, state: TrainState, arrays: dict[str, np.ndarray]) -> None:
        """Continues from a saved state."""
        self.state, self.updates = state, int(state.step)
        if REFRESHED + "env" in arrays:
            self._refreshed = Refreshed(
                Positions(*(arrays[REFRESHED + name] for name in Positions._fields)),
                CompactLatent(*(jnp.asarray(arrays[REFRESHED + name]) for name in CompactLatent._fields)),
                arrays[REFRESHED + SKIPPED],
                None,
            )

    def _hand_back(self) -> None:
        if self._refreshed is None:
            return
        positions, batch = self._refreshed.positions, self._refreshed.batch
        latent, in_a_row = jax.device_get((self._refreshed.latent, self._refreshed.skipped))  # one wait for the device
        self._refreshed = None
        if not in_a_row:
            self._stream.write_back(positions, latent)
            return
        self.skipped += 1  # what such an update says of its latents is no news for replay
        if in_a_row >= self._max_skipped and batch is not None:
            raise NonFiniteError(
                f"loss, gradient or new parameters were not finite in {int(in_a_row)} updates in a row, up to update "
                f"{self.updates:,}; these updates changed nothing",
                jax.device_get(batch),
            )
