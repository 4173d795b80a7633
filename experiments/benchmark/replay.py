"""What replay costs: bytes against the information in them, and the time that hides behind an update or does not."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import tracemalloc
from typing import Any, NamedTuple

import jax

from dreamer.data.prefetch import ReplayStream
from dreamer.data.replay import Replay
from dreamer.training.learn import Learner
from dreamer.training.state import Definition
from dreamer.training.step import make_train_step
from dreamer.types import CompactLatent
from envs.spaces import DiscreteSpec, ImageSpec, Timestep, VectorSpec
from experiments.benchmark.loop import Stopwatch
from experiments.benchmark.workloads import placement, random_steps

FLAG_BITS = 3
NUMBER_BITS, RECURRENT_BITS = 32, 16  # the precisions that replay promises: float32, and bfloat16 for latents
CHUNKS = 2  # filled to weigh them
LONGEST_BLOCK = 50  # updates
BLOCK_SECONDS = 2.0


class Information(NamedTuple):
    """Bytes without which a step could not be given back.

    Attributes:
        stored: of a step in replay.
        replayed: of a step of a batch, which brings one latent for a whole sequence.
    """

    stored: float
    replayed: float


def information(definition: Definition) -> Information:
    """Counted from the spaces, not from what replay does: an index of n classes has log2(n) bits, a flag has one."""
    rssm, length = definition.config.world.rssm, definition.config.replay.batch_length
    parts = [*definition.observation_spec.values(), *definition.action_spec.values()]
    step = sum(_bits(part) for part in parts) + NUMBER_BITS + FLAG_BITS  # with the reward
    latent = rssm.deter * RECURRENT_BITS + rssm.stoch * math.log2(rssm.classes)
    return Information((step + latent) / 8, (step + latent / length) / 8)


def _bits(part: ImageSpec | VectorSpec | DiscreteSpec) -> float:
    if isinstance(part, ImageSpec):
        return 8 * part.height * part.width * part.channels
    if isinstance(part, VectorSpec):
        return NUMBER_BITS * part.size
    return sum(math.log2(classes) for classes in part.num_classes)


def filled_replay(definition: Definition, *, steps: int, num_envs: int = 1) -> Replay:
    """A replay in memory with at least so many random steps over all environments."""
    replay = Replay(definition.layout, num_envs=num_envs, config=definition.config.replay, seed=0, directory=None)
    row: dict[str, Any] = random_steps(definition, num_envs)
    observation = {key: row[f"observation/{key}"] for key in definition.observation_spec}
    flags = [row[name] for name in Timestep._fields[1:]]
    for _ in range(math.ceil(steps / num_envs)):
        latent = CompactLatent(row["deter"], row["stoch"])
        replay.add(Timestep(observation, *flags), action=row["action"], latent=latent)
    return replay


def held_bytes(definition: Definition) -> float:
    """Bytes of memory that full chunks take, per step, everything that keeps them in order included."""
    steps = CHUNKS * definition.config.replay.chunk
    tracemalloc.start()
    try:
        replay = filled_replay(definition, steps=steps)
        return tracemalloc.get_traced_memory()[0] / replay.num_steps
    finally:
        tracemalloc.stop()


def replayed_bytes(definition: Definition) -> float:
    """Bytes that travel to the device for each step of a batch."""
    replay = filled_replay(definition, steps=training_steps(definition))
    batch, _ = replay.sample()
    return sum(leaf.nbytes for leaf in jax.tree.leaves(batch)) / batch.reward.size


def training_steps(definition: Definition, *, num_envs: int = 1) -> int:
    """Steps after which a batch can be drawn, and a chunk more."""
    replay = definition.config.replay
    return replay.chunk + (replay.batch_size + num_envs) * replay.batch_length


def measure_sampling(definition: Definition, *, num_envs: int, repeats: int) -> float:
    """Microseconds for drawing and copying a batch, per replayed step."""
    replay = filled_replay(definition, steps=training_steps(definition, num_envs=num_envs), num_envs=num_envs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        batch, _ = replay.sample()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times) / batch.reward.size


def measure_replay(definition: Definition, *, seconds: float) -> dict[str, float]:
    """Bytes and hidden time of replay, as the trainer uses it.

    Returns:
        `stored_bytes` and `replayed_bytes` per step, each with its `..._information`; `exposed_share`, by how much an
        update takes longer with replay than without (drawing, copying, transfer both ways, writing latents back);
        `wait_share` and `write_back_share`, the part of a step in which the learner's thread gets its batch or stores
        latents. Only `exposed_share` is lost time: the device may be busy during the others.
    """
    least = information(definition)
    return {
        "stored_bytes": held_bytes(definition),
        "stored_information": least.stored,
        "replayed_bytes": replayed_bytes(definition),
        "replayed_information": least.replayed,
        **measure_hidden(definition, seconds=seconds),
    }


def measure_hidden(definition: Definition, *, seconds: float) -> dict[str, float]:
    """Blocks of updates with replay and without, in alternation: at least three of each, then as time allows."""
    watch = Stopwatch(wait=False)
    with contextlib.closing(Updates(definition)) as updates:
        updates.stream.take = watch.timed("wait", updates.stream.take)
        updates.stream.write_back = watch.timed("write_back", updates.stream.write_back)
        updates.learn(2)
        block = min(LONGEST_BLOCK, max(2, int(BLOCK_SECONDS / updates.learn(2))))
        watch.seconds.clear()
        with_replay, without = [], []
        while len(with_replay) < 3 or block * sum(with_replay + without) < seconds:
            with_replay.append(updates.learn(block))
            without.append(updates.repeat(block))
    total = block * sum(with_replay)
    bare = statistics.median(without)
    return {
        "update_ms": 1000 * bare,
        "exposed_share": statistics.median(with_replay) / bare - 1.0,
        **{f"{name}_share": watch.seconds[name] / total for name in ("wait", "write_back")},
    }


class Updates:
    """Updates without acting: the learner on a replay that is filled, with its stream.

    Attributes:
        learner: as in a run.
        stream: as in a run.
    """

    def __init__(self, definition: Definition) -> None:
        replay = filled_replay(definition, steps=training_steps(definition))
        where = placement(definition)
        self.stream: Any = ReplayStream(replay, to_device=where.put_batch)
        self._step = make_train_step(definition, where)
        self.learner = Learner(
            definition.init(0, where.state(definition.abstract())),
            train_step=self._step,
            stream=self.stream,
            max_skipped=definition.config.optimizer.max_skipped,
        )

    def learn(self, count: int) -> float:
        """Seconds for each of so many updates, made as the trainer makes them."""
        start = time.perf_counter()
        for _ in range(count):
            self.learner.update()
        jax.block_until_ready(self.learner.state)
        return (time.perf_counter() - start) / count

    def repeat(self, count: int) -> float:
        """The same on the last batch again and again: no replay, latents stay on the device."""
        start, latent = time.perf_counter(), None
        for _ in range(count):
            self.learner.state, refreshed, _ = self._step(self.learner.state, self.learner.batch)
            jax.block_until_ready(latent)  # of the update before, as the learner does
            latent = refreshed
        jax.block_until_ready(self.learner.state)
        return (time.perf_counter() - start) / count

    def close(self) -> None:
        """Ends the stream's threads."""
        self.stream.close()
