"""The prefetched replay: the order of calls decides what a batch holds, never the timing of the thread."""

from __future__ import annotations

import random
import threading
import time

import jax
import numpy as np
import pytest

from dreamer.data.layout import BFLOAT16
from dreamer.data.prefetch import ReplayStream
from dreamer.data.replay import Replay
from dreamer.types import CompactLatent


class SlowReplay(Replay):
    """Gathers after a random while, so that a change meanwhile would show."""

    delays = random.Random(0)

    def gather(self, positions):
        time.sleep(self.delays.choice([0, 0.002, 0.01]))
        return super().gather(positions)


def to_host(batch):
    return jax.tree.map(np.copy, batch)


def advance(stream, source, *, until, delays=None):
    """A training loop whose latents depend on the batch, with updates of any duration; returns every batch's bytes."""
    seen = []
    while source.step < until:
        stream.add(**source.next())
        if not stream.ready or source.step % 5:
            continue
        for _ in range(1 + source.step % 2):
            batch, positions = stream.take()
            seen.append(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((batch, positions))))
            time.sleep(delays.choice([0, 0.005, 0.01]) if delays else 0)
            deter = np.repeat(np.asarray(batch.context.deter)[:, None], 8, 1) + np.asarray(source.step % 7, BFLOAT16)
            stream.write_back(positions, CompactLatent(deter, np.asarray(batch.observation["camera"])[:, :, 0, :2, 0]))
    return seen


def test_batches_do_not_depend_on_the_timing_of_the_thread(make_replay, feed):
    plain = advance(ReplayStream(make_replay(num_envs=2, capacity=300), to_device=to_host), feed(2), until=400)
    for seed in range(3):
        SlowReplay.delays = random.Random(seed)
        slow = make_replay(SlowReplay, num_envs=2, capacity=300)
        stream = ReplayStream(slow, to_device=to_host)
        assert advance(stream, feed(2), until=400, delays=random.Random(-seed)) == plain
    assert len(plain) > 80


def test_the_stream_trains_on_what_the_replay_would_draw(make_replay, feed):
    """Without updates in between, prefetching changes nothing but the time."""
    replay, twin = make_replay(online=False), make_replay(online=False)
    for each, source in ((replay, feed()), (twin, feed())):
        for _ in range(100):
            each.add(**source.next())
    stream = ReplayStream(replay, to_device=to_host)
    for _ in range(10):
        (batch, positions), (expected, places) = stream.take(), twin.sample()
        np.testing.assert_array_equal(positions.start, places.start)
        np.testing.assert_array_equal(batch.observation["place"], expected.observation["place"])


def test_a_restored_stream_continues_bitwise_with_the_batch_under_way(make_replay, feed, tmp_path):
    whole = advance(ReplayStream(make_replay(num_envs=2, capacity=300), to_device=to_host), feed(2), until=400)
    stream = ReplayStream(make_replay(num_envs=2, capacity=300, directory=tmp_path), to_device=to_host)
    source = feed(2)
    first = advance(stream, source, until=250)
    state = stream.state()
    stream.close()
    after = ReplayStream(make_replay(num_envs=2, capacity=300, directory=tmp_path), to_device=to_host)
    after.restore(state)
    assert first + advance(after, feed(2, 250), until=400) == whole


def test_the_next_batch_is_fetched_while_the_trainer_goes_on(make_replay, feed):
    gate, threads = threading.Event(), []
    gate.set()

    def to_device(batch):
        threads.append(threading.current_thread())
        assert gate.wait(10)
        return batch

    replay, source = make_replay(), feed()
    for _ in range(100):
        replay.add(**source.next())
    stream = ReplayStream(replay, to_device=to_device)
    stream.take()
    deadline = time.monotonic() + 10
    while len(threads) < 2:  # the second batch is on its way though nobody asked for it
        assert time.monotonic() < deadline
    gate.clear()
    stream.take()  # hands out the second one; the third hangs at the gate
    assert threading.current_thread() not in threads
    adding = threading.Thread(target=stream.add, kwargs=source.next())
    adding.start()
    adding.join(0.05)
    assert adding.is_alive()  # nothing may change under the gather
    gate.set()
    adding.join(10)
    assert replay.num_steps == 101
    stream.close()


def test_an_error_in_the_thread_reaches_the_trainer(make_replay, feed):
    def to_device(batch):
        raise MemoryError("device full")

    replay, source = make_replay(), feed()
    for _ in range(100):
        replay.add(**source.next())
    stream = ReplayStream(replay, to_device=to_device)
    for call in (stream.take, stream.take, lambda: stream.add(**source.next()), stream.state):
        with pytest.raises(MemoryError, match="device full"):
            call()
    stream.close()


def test_device_batches_keep_their_values(make_replay, feed):
    """`jax.device_put` may share memory with the host on CPU; the arrays it gets are never written again."""
    replay, source = make_replay(capacity=100), feed()
    for _ in range(60):
        replay.add(**source.next())
    stream = ReplayStream(replay, to_device=jax.device_put)
    batch, positions = stream.take()
    assert batch.context.deter.dtype == jax.numpy.bfloat16
    assert isinstance(batch.context, CompactLatent)
    before = [np.array(leaf) for leaf in jax.tree.leaves(batch)]
    stream.write_back(positions, CompactLatent(np.ones((4, 8, 4), BFLOAT16), np.ones((4, 8, 2), np.uint8)))
    for _ in range(200):
        stream.add(**source.next())
        stream.take()
    for leaf, value in zip(jax.tree.leaves(batch), before, strict=True):
        np.testing.assert_array_equal(np.array(leaf), value)
    stream.close()


def test_latents_may_come_straight_from_the_device(make_replay, feed):
    replay, source = make_replay(), feed()
    for _ in range(60):
        replay.add(**source.next())
    positions = replay.draw()
    ones = CompactLatent(jax.numpy.ones((4, 8, 4), "bfloat16"), jax.numpy.ones((4, 8, 2), "uint8"))
    replay.write_back(positions, ones)
    assert (replay.gather(positions._replace(start=positions.start + 1)).context.deter == 1).all()
