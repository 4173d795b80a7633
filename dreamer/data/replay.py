"""Replay: sequences of stored steps, drawn uniformly after every fresh one has been used once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.config import ReplayConfig, least_capacity
from dreamer.data.layout import OBSERVATION, StepLayout
from dreamer.data.storage import ReplayState, RestoreReport, Storage
from dreamer.types import Batch, CompactLatent
from envs.spaces import Timestep

DRAWS = 0x64726177  # sub-seed of the draws
FLAGS = ("reward", "is_first", "is_last", "is_terminal")


class Positions(NamedTuple):
    """Where the sequences of a batch lie in the replay.

    Attributes:
        env: number of the environment, int64 `[B]`.
        start: number of the first trained step among that environment's steps, int64 `[B]`.
    """

    env: np.ndarray
    start: np.ndarray


class Replay:
    """Steps of `N` environments in host memory, sampled as sequences of T trained steps after one context step.

    A sequence may cross episode ends; it never crosses the newest step, a dropped chunk or a damaged one. Batch number
    n is drawn from the seed and n alone, hence a resumed run draws what the uninterrupted one would.

    Not safe for threads: `dreamer.data.prefetch.ReplayStream` orders the calls.

    Args:
        layout: the fields of a step.
        num_envs: environments N that step together.
        config: sizes, in steps.
        seed: root of the draws.
        directory: where full chunks are written, so that `state` and `restore` work; None keeps memory only.
        memory_is_short: whether this process should not grow further, see `Storage`.

    Raises:
        ValueError: the capacity cannot hold what a batch needs.
    """

    def __init__(
        self,
        layout: StepLayout,
        *,
        num_envs: int,
        config: ReplayConfig,
        seed: int,
        directory: Path | None,
        memory_is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        least = least_capacity(config, num_envs=num_envs)
        if config.capacity < least:
            raise ValueError(
                f"replay.capacity is {config.capacity} steps, but {num_envs} environments, chunks of {config.chunk} "
                f"and batches of {config.batch_size} x {config.batch_length} need at least {least}; "
                "raise it, or lower replay.chunk."
            )
        self.layout = layout
        self._config = config
        self._seed = seed
        self._num_envs = num_envs
        self._storage = Storage(
            layout,
            num_envs=num_envs,
            length=config.chunk,
            capacity=config.capacity,
            least=least,
            directory=directory,
            memory_is_short=memory_is_short,
        )
        self._fresh: deque[tuple[int, int]] = deque()  # (env, context step) of windows not trained on yet
        self._batches = 0  # drawn so far

    @property
    def num_steps(self) -> int:
        """Steps held, over all environments."""
        return self._storage.num_steps

    @property
    def capacity(self) -> int:
        """Steps that it may hold now: as configured, or less where memory ran short."""
        return self._storage.capacity

    @property
    def num_starts(self) -> int:
        """Places where a sequence can start."""
        return sum(count for _, _, count in self._starts())

    @property
    def ready(self) -> bool:
        """Whether there are as many starts as a batch has trained steps; training begins then."""
        return self.num_starts >= self._config.batch_size * self._config.batch_length

    def add(self, timestep: Timestep, *, action: np.ndarray, latent: CompactLatent) -> None:
        """Stores a copy of one step of every environment. An episode whose next step is first is closed (`is_last`).

        Args:
            timestep: what the environments returned, `[N, ...]`.
            action: flat actions chosen after it, float32 `[N, A]`.
            latent: posterior after it, bfloat16 `[N, D]` and uint8 `[N, S]`.

        Raises:
            ValueError: an array is missing, or has another shape or dtype than the layout says.
        """
        values = self.layout.pack(timestep, action=action, latent=latent)
        self.layout.check(values, leading=(self._num_envs,))
        self._storage.append(values)
        if self._config.online:
            self._note_fresh()

    def draw(self) -> Positions:
        """Chooses the next batch: fresh windows first, oldest first, then uniformly over all starts.

        Raises:
            RuntimeError: there is no complete sequence yet.
        """
        starts = self._starts()
        if not starts:
            raise RuntimeError("The replay holds no complete sequence yet; draw once it is ready.")
        env, begin, count = np.array(starts, np.int64).T
        below = count.cumsum() - count  # starts in the segments before
        fresh = np.array(self._take_fresh(), np.int64).reshape(-1, 2)
        rng = np.random.default_rng([self._seed, DRAWS, self._batches])
        pick = rng.integers(count.sum(), size=self._config.batch_size - len(fresh))
        segment = np.searchsorted(below, pick, side="right") - 1
        context = begin[segment] + pick - below[segment]
        self._batches += 1
        return Positions(np.append(fresh[:, 0], env[segment]), np.append(fresh[:, 1], context) + 1)

    def gather(self, positions: Positions) -> Batch:
        """Copies the sequences at the given places into new arrays, which nobody touches afterwards.

        Raises:
            LookupError: a sequence has been dropped since it was drawn.
        """
        shape = len(positions.env), self._config.batch_length
        steps = {name: self._empty(name, *shape) for name in self._trained_fields()}
        action = self._empty("action", *shape)
        context = {name: self._empty(name, shape[0], 1) for name in ("deter", "stoch")}
        for row, (env, start) in enumerate(zip(positions.env.tolist(), positions.start.tolist(), strict=True)):
            self._storage.read(env, start, {name: array[row] for name, array in steps.items()})
            self._storage.read(env, start - 1, {"action": action[row]})
            self._storage.read(env, start - 1, {name: array[row] for name, array in context.items()})
        return Batch(
            observation={key: steps[OBSERVATION + key] for key in self.layout.observation_keys},
            previous_action=action,
            context=CompactLatent(**{name: array[:, 0] for name, array in context.items()}),
            **{name: steps[name] for name in FLAGS},
        )

    def sample(self) -> tuple[Batch, Positions]:
        """Draws and gathers the next batch."""
        positions = self.draw()
        return self.gather(positions), positions

    def write_back(self, positions: Positions, latent: CompactLatent) -> None:
        """Replaces the latents of a batch's trained steps; those dropped meanwhile are left out.

        Args:
            positions: where the batch came from.
            latent: new posteriors, bfloat16 `[B, T, D]` and uint8 `[B, T, S]`.
        """
        deter, stoch = np.asarray(latent.deter), np.asarray(latent.stoch)
        for row, (env, start) in enumerate(zip(positions.env.tolist(), positions.start.tolist(), strict=True)):
            self._storage.refresh(env, start, {"deter": deter[row], "stoch": stoch[row]})

    def state(self) -> ReplayState:
        """Copies what is not in a chunk file, and lists those files; waits until they are written.

        Refreshed latents of full chunks are included if all of them fit in `save_latents_limit`. If not, a restored
        replay starts from the latents in the chunk files, and training refreshes them anew.

        Raises:
            OSError: a chunk file cannot be written; nothing is lost, and the next call tries again.
            ValueError: the replay has no directory.
        """
        state = self._storage.state(latents_limit=self._config.save_latents_limit)
        fresh = np.array(self._fresh, np.int64).reshape(-1, 2)
        return ReplayState(state.arrays | {"fresh": fresh}, state.manifest | {"batches": self._batches})

    def restore(self, state: ReplayState) -> RestoreReport:
        """Fills a new replay from a checkpoint and the chunk files of the directory, as `Storage.restore` describes.

        Raises:
            ValueError: the checkpoint holds other fields, environments or chunk lengths, or there is no directory.
        """
        report = self._storage.restore(state)
        self._fresh = deque((env, begin) for env, begin in state.arrays["fresh"].tolist())
        self._batches = state.manifest["batches"]
        return report

    def remove_unlisted(self, kept: Iterable[dict[str, Any]]) -> int:
        """Removes chunk files held neither by the replay nor by a kept checkpoint (its manifest); returns how many."""
        return self._storage.remove_unlisted(kept)

    def close(self) -> None:
        """Waits for the chunk files under way."""
        self._storage.close()

    def _starts(self) -> list[tuple[int, int, int]]:
        """Possible context steps: environment, the first one, how many, for each segment that is long enough."""
        length = self._config.batch_length
        return [
            (env, begin, end - begin - length)
            for env, timeline in enumerate(self._storage.timelines)
            for begin, end in timeline.segments
            if end - begin > length
        ]

    def _note_fresh(self) -> None:
        """Queues the windows completed by the newest step, and forgets those that were dropped unused."""
        window = self._config.batch_length + 1
        for env, timeline in enumerate(self._storage.timelines):
            if timeline.end % window == 0:
                self._fresh.append((env, timeline.end - window))
        while self._fresh and not self._is_whole(*self._fresh[0]):
            self._fresh.popleft()

    def _take_fresh(self) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        while self._fresh and len(taken) < self._config.batch_size:
            place = self._fresh.popleft()
            if self._is_whole(*place):
                taken.append(place)
        return taken

    def _is_whole(self, env: int, context: int) -> bool:
        return self._storage.timelines[env].holds(context, context + self._config.batch_length + 1)

    def _trained_fields(self) -> list[str]:
        return [*(OBSERVATION + key for key in self.layout.observation_keys), *FLAGS]

    def _empty(self, name: str, *leading: int) -> Any:  # a host array where `Batch` says device array
        field = self.layout.fields[name]
        return np.empty((*leading, *field.shape), field.dtype)
