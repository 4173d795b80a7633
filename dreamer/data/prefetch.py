"""The replay as the trainer sees it: the next batch is always on its way to the device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from dreamer.data.layout import OBSERVATION, StepLayout, native, portable
from dreamer.data.replay import FLAGS, Positions, Replay
from dreamer.data.storage import ReplayState, RestoreReport
from dreamer.types import Batch, CompactLatent
from envs.spaces import Timestep

DeviceBatch = TypeVar("DeviceBatch")
PENDING = "pending/"


@dataclass(frozen=True)
class _Prepared(Generic[DeviceBatch]):
    host: Batch
    device: DeviceBatch
    positions: Positions


class ReplayStream(Generic[DeviceBatch]):
    """A replay and the one batch that is fetched ahead.

    `take` hands out a batch, draws the next one at once, and lets a thread copy it to the device while the trainer goes
    on. `add` and `write_back` wait for that thread first. So the order of calls alone, never the timing of the thread,
    decides what a batch holds, and a checkpoint includes the batch that is on its way. An error in the thread is raised
    by every later call.

    Args:
        replay: from now on used through this object only.
        to_device: moves a batch, `jax.device_put` for example; called in the thread, on arrays that never change.
    """

    def __init__(self, replay: Replay, *, to_device: Callable[[Batch], DeviceBatch]) -> None:
        self._replay = replay
        self._to_device = to_device
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay-prefetch")
        self._pending: Future[_Prepared[DeviceBatch]] | None = None

    @property
    def num_steps(self) -> int:
        """Steps in the replay."""
        return self._replay.num_steps

    @property
    def capacity(self) -> int:
        """Steps that the replay may hold, see `Replay.capacity`."""
        return self._replay.capacity

    @property
    def ready(self) -> bool:
        """Whether training may begin, see `Replay.ready`."""
        return self._replay.ready

    def add(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> None:
        """Stores one step of every environment, see `Replay.add`."""
        self._wait()
        self._replay.add(timestep, action=action, latent=latent)

    def take(self) -> tuple[DeviceBatch, Positions]:
        """Returns the next batch, on the device, with its positions for `write_back`, and starts the one after it."""
        prepared = self._wait() or self._start().result()
        self._start()
        return prepared.device, prepared.positions

    def write_back(self, positions: Positions, latent: CompactLatent) -> None:
        """Stores the refreshed latents of a batch, see `Replay.write_back`; the batch under way does not see them."""
        self._wait()
        self._replay.write_back(positions, latent)

    def state(self) -> ReplayState:
        """The replay's state with the batch under way; see `Replay.state` for errors."""
        prepared = self._wait()
        state = self._replay.state()
        pending = {} if prepared is None else _flatten(prepared.host, prepared.positions)
        return state._replace(arrays=state.arrays | pending)

    def restore(self, state: ReplayState) -> RestoreReport:
        """Continues where a saved stream was; see `Replay.restore` for errors."""
        report = self._replay.restore(state)
        if PENDING + "env" in state.arrays:
            self._pending = self._worker.submit(self._deliver, *_unflatten(state.arrays, self._replay.layout))
        return report

    def remove_unlisted(self, kept: list[dict[str, Any]]) -> int:
        """Removes chunk files that nobody needs any more, see `Replay.remove_unlisted`."""
        return self._replay.remove_unlisted(kept)

    def close(self) -> None:
        """Ends both threads after what they are doing."""
        self._worker.shutdown()
        self._replay.close()

    def _wait(self) -> _Prepared[DeviceBatch] | None:
        return None if self._pending is None else self._pending.result()

    def _start(self) -> Future[_Prepared[DeviceBatch]]:
        self._pending = self._worker.submit(self._fetch, self._replay.draw())
        return self._pending

    def _fetch(self, positions: Positions) -> _Prepared[DeviceBatch]:
        return self._deliver(self._replay.gather(positions), positions)

    def _deliver(self, batch: Batch, positions: Positions) -> _Prepared[DeviceBatch]:
        return _Prepared(batch, self._to_device(batch), positions)


def _flatten(batch: Batch, positions: Positions) -> dict[str, np.ndarray]:
    """A host batch and its positions as plain arrays by name."""
    arrays: dict[str, Any] = {OBSERVATION + key: value for key, value in batch.observation.items()}
    arrays |= {name: getattr(batch, name) for name in FLAGS}
    arrays |= {"action": batch.previous_action, **batch.context._asdict(), **positions._asdict()}
    return {PENDING + name: portable(array) for name, array in arrays.items()}


def _unflatten(arrays: dict[str, np.ndarray], layout: StepLayout) -> tuple[Batch, Positions]:
    """Undoes `_flatten`."""
    fields: dict[str, Any] = {
        name: native(arrays[PENDING + name], field.dtype) for name, field in layout.fields.items()
    }
    batch = Batch(
        observation={key: fields[OBSERVATION + key] for key in layout.observation_keys},
        previous_action=fields["action"],
        context=CompactLatent(fields["deter"], fields["stoch"]),
        **{name: fields[name] for name in FLAGS},
    )
    return batch, Positions(arrays[PENDING + "env"], arrays[PENDING + "start"])
