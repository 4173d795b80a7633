"""What the replay samples: contents, coverage, uniformity, eviction, the online queue, refreshed latents."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dreamer.config import ReplayConfig, least_capacity
from dreamer.data.layout import BFLOAT16, StepLayout
from dreamer.data.replay import Replay
from dreamer.types import CompactLatent
from envs.spaces import ImageSpec


def fill(replay, steps, feed):
    for _ in range(steps):
        replay.add(**feed.next())
    return replay


def drawn_contexts(replay, batches):
    """(env, context step) of many draws."""
    drawn = [replay.draw() for _ in range(batches)]
    return np.concatenate([np.stack([place.env, place.start - 1], 1) for place in drawn])


def test_sequences_hold_consecutive_steps(make_replay, feed, expected_latents, expected_actions):
    replay = fill(make_replay(num_envs=3), 200, feed(3))
    for _ in range(50):
        batch, positions = replay.sample()
        env, step = positions.env[:, None], positions.start[:, None] + np.arange(8)
        np.testing.assert_array_equal(batch.observation["place"], np.stack(np.broadcast_arrays(env, step), -1))
        np.testing.assert_array_equal(batch.observation["camera"][..., 3, 2, 0], (7 * step + env) % 256)
        np.testing.assert_array_equal(batch.observation["reward"][..., 1], step % 300)
        np.testing.assert_array_equal(batch.reward, (step + env / 8).astype(np.float32))
        np.testing.assert_array_equal(batch.is_first, step % (40 + 3 * env) == 0)
        np.testing.assert_array_equal(batch.is_last, (step + 1) % (40 + 3 * env) == 0)
        np.testing.assert_array_equal(batch.is_terminal, batch.is_last & (env == 0))
        np.testing.assert_array_equal(batch.previous_action, expected_actions(env, step - 1))
        context = expected_latents(positions.env, positions.start - 1)
        np.testing.assert_array_equal(batch.context.deter, context.deter)
        np.testing.assert_array_equal(batch.context.stoch, context.stoch)


def test_batch_has_the_layout_of_the_contract(make_replay, feed):
    batch, _ = fill(make_replay(num_envs=2), 100, feed(2)).sample()
    arrays = {**batch.observation, **batch._asdict(), **batch.context._asdict()}
    shapes = {
        name: (arrays[name].dtype.name, arrays[name].shape) for name in arrays.keys() - {"observation", "context"}
    }
    assert shapes == {
        "camera": ("uint8", (4, 8, 4, 3, 1)),
        "place": ("float32", (4, 8, 2)),
        "previous_action": ("float32", (4, 8, 3)),
        "reward": ("float32", (4, 8)),  # the batch's own, after the observation key of the same name
        "is_first": ("bool", (4, 8)),
        "is_last": ("bool", (4, 8)),
        "is_terminal": ("bool", (4, 8)),
        "deter": ("bfloat16", (4, 4)),
        "stoch": ("uint8", (4, 2)),
    }


def test_every_start_is_drawn_equally_often_and_no_other(make_replay, feed):
    replay = fill(make_replay(num_envs=2, online=False), 70, feed(2))
    starts, counts = np.unique(drawn_contexts(replay, 5_000), axis=0, return_counts=True)
    expected = [(env, step) for env in range(2) for step in range(70 - 8)]
    assert list(map(tuple, starts.tolist())) == expected
    assert replay.num_starts == len(expected)
    mean = counts.mean()
    chi_square = ((counts - mean) ** 2 / mean).sum()
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_eviction_drops_the_oldest_chunks_and_keeps_the_rest_drawable(make_replay, feed):
    replay = fill(make_replay(num_envs=2, capacity=200, online=False), 1_000, feed(2))
    # Environment 0 loses its oldest chunk one step before environment 1 does.
    assert replay.num_steps == 2 * 1_000 - (29 + 28) * 32
    contexts = drawn_contexts(replay, 2_000)
    kept = {env: sorted(set(contexts[contexts[:, 0] == env, 1].tolist())) for env in range(2)}
    assert kept[0] == list(range(29 * 32, 1_000 - 8))
    assert kept[1] == list(range(28 * 32, 1_000 - 8))


def test_capacity_is_never_exceeded_and_a_ready_replay_stays_ready(make_replay, feed):
    for num_envs, chunk, batch_size, batch_length in [(1, 32, 4, 8), (5, 16, 2, 10), (3, 4, 3, 9), (8, 64, 1, 5)]:
        sizes = {"chunk": chunk, "batch_size": batch_size, "batch_length": batch_length}
        least = least_capacity(ReplayConfig(**sizes), num_envs=num_envs)
        replay, source, was_ready = make_replay(num_envs=num_envs, capacity=least, **sizes), feed(num_envs), False
        for _ in range(6 * least // num_envs):
            replay.add(**source.next())
            assert replay.num_steps <= least
            assert replay.ready or not was_ready
            was_ready = replay.ready
        assert was_ready


def test_capacity_that_cannot_hold_a_batch_is_refused_with_the_remedy(make_replay):
    with pytest.raises(ValueError, match=r"replay.capacity is 71 steps.* need at least 72; raise it"):
        make_replay(capacity=71)
    make_replay(capacity=72)


def test_ready_once_there_are_as_many_starts_as_trained_steps(make_replay, feed):
    replay, source = make_replay(), feed()
    fill(replay, 8 + 4 * 8 - 1, source)
    assert not replay.ready
    fill(replay, 1, source)
    assert replay.ready
    assert replay.num_starts == 4 * 8


def test_drawing_too_early_says_so(make_replay, feed):
    with pytest.raises(RuntimeError, match="no complete sequence"):
        fill(make_replay(), 8, feed()).draw()


def test_online_windows_come_first_and_once(make_replay, feed):
    replay, source, first_use = make_replay(num_envs=3, online=True), feed(3), []
    uniform = 0
    for _ in range(300):
        fill(replay, 4, source)
        if not replay.ready:
            continue
        waiting = len(replay._fresh)
        positions = replay.draw()
        fresh = min(waiting, 4)
        first_use += list(zip(positions.env[:fresh].tolist(), (positions.start[:fresh] - 1).tolist(), strict=True))
        uniform += 4 - fresh
    windows = [(env, begin) for begin in range(0, 1_200 - 8, 9) for env in range(3)]
    assert first_use == windows[: len(first_use)]  # in order of completion, none twice
    assert len(windows) - len(first_use) <= 4
    assert uniform > 500


def test_online_windows_dropped_unused_are_skipped(make_replay, feed):
    replay = fill(make_replay(capacity=100), 1_000, feed())
    contexts = drawn_contexts(replay, 10)[:, 1]
    oldest = 1_000 - replay.num_steps
    windows = [begin for begin in range(0, 1_000 - 8, 9) if begin >= oldest]
    assert contexts[: len(windows)].tolist() == windows
    assert contexts.min() >= oldest


def test_batches_depend_on_seed_and_number_only(make_replay, feed):
    first, same, other = (fill(make_replay(seed=seed, online=False), 100, feed()) for seed in (1, 1, 2))
    one, two = first.draw(), first.draw()
    assert np.array_equal(one.start, same.draw().start)
    assert not np.array_equal(one.start, two.start)
    assert not np.array_equal(one.start, other.draw().start)


@pytest.mark.parametrize("cut", [50, 64])  # 64: the step before the reset lies in a chunk that is full already
def test_an_episode_cut_by_a_reset_is_closed(make_replay, feed, cut):
    replay, source = make_replay(online=False), feed()
    fill(replay, cut, source)
    step = source.next()
    step["timestep"] = step["timestep"]._replace(is_first=np.array([True]))
    replay.add(**step)
    fill(replay, 30, source)
    seen = 0
    for _ in range(100):
        batch, positions = replay.sample()
        steps = positions.start[:, None] + np.arange(8)
        seen += (steps == cut - 1).sum()
        np.testing.assert_array_equal(batch.is_last, (steps == cut - 1) | (steps % 40 == 39))
        assert not (batch.is_terminal & (steps == cut - 1)).any()
    assert seen > 0


def test_refreshed_latents_are_the_context_of_later_batches(make_replay, feed):
    replay = fill(make_replay(num_envs=2, online=False), 100, feed(2))
    positions = replay.draw()
    new = CompactLatent(np.full((4, 8, 4), -3, BFLOAT16), np.full((4, 8, 2), 200, np.uint8))
    replay.write_back(positions, new)
    written = {
        (env, start + i)
        for env, start in zip(positions.env.tolist(), positions.start.tolist(), strict=True)
        for i in range(8)
    }
    hits = 0
    for _ in range(300):
        batch, places = replay.sample()
        for row, place in enumerate(zip(places.env.tolist(), (places.start - 1).tolist(), strict=True)):
            is_new = place in written
            hits += is_new
            assert (batch.context.deter[row] == -3).all() == is_new
            assert (batch.context.stoch[row] == 200).all() == is_new
    assert hits > 100


def test_latents_of_dropped_steps_are_ignored(make_replay, feed):
    replay, source = make_replay(capacity=100, online=False), feed()
    fill(replay, 40, source)
    positions = replay.draw()
    twin = make_replay(capacity=100, online=False)
    fill(twin, 40, feed())
    twin.draw()
    for each, origin in ((replay, source), (twin, feed(step=40))):
        fill(each, 200, origin)
    replay.write_back(positions, CompactLatent(np.ones((4, 8, 4), BFLOAT16), np.ones((4, 8, 2), np.uint8)))
    for _ in range(20):
        ours, theirs = replay.sample()[0], twin.sample()[0]
        np.testing.assert_array_equal(ours.context.deter, theirs.context.deter)
    with pytest.raises(LookupError, match="environment 0 are not in the replay"):
        replay.gather(positions)


def test_steps_are_copied_in_and_batches_are_copied_out(make_replay, feed):
    replay, source = make_replay(online=False), feed()
    buffers = source.next()
    for _ in range(60):  # an environment that reuses one buffer
        fresh = source.next()
        for key, value in fresh["timestep"].observation.items():
            buffers["timestep"].observation[key][:] = value
        replay.add(**buffers)
    batch, positions = replay.sample()
    before = batch.observation["place"].copy(), batch.context.deter.copy()
    assert len(np.unique(before[0][..., 1])) > 8
    everywhere = replay.draw()._replace(env=np.zeros(60, int), start=np.arange(60))
    replay.write_back(everywhere, CompactLatent(np.ones((60, 8, 4), BFLOAT16), np.ones((60, 8, 2), np.uint8)))
    np.testing.assert_array_equal(batch.observation["place"], before[0])
    np.testing.assert_array_equal(batch.context.deter, before[1])
    assert (replay.gather(positions).context.deter == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda step: step["timestep"].observation.pop("place"), "A step must hold"),
        (lambda step: step["timestep"].observation.update(extra=np.zeros(1)), "A step must hold"),
        (
            lambda step: step.update(action=np.zeros((1, 4), np.float32)),
            r"expects action as float32 \[1, 3\].*\[1, 4\]",
        ),
        (
            lambda step: step.update(action=np.zeros((2, 3), np.float32)),
            r"expects action as float32 \[1, 3\].*\[2, 3\]",
        ),
        (
            lambda step: step["timestep"].observation.update(camera=np.zeros((1, 4, 3, 1))),
            "camera as uint8.*got float64",
        ),
    ],
)
def test_a_step_that_does_not_fit_is_refused_by_name(make_replay, feed, change, message):
    replay, step = make_replay(), feed().next()
    change(step)
    with pytest.raises(ValueError, match=message):
        replay.add(**step)
    assert replay.num_steps == 0


def test_memory_grows_with_use_only(feed):
    layout = StepLayout({"camera": ImageSpec(64, 64, 3)}, action=6, deter=2048, stoch=32)
    source, chunk_bytes = feed(), 128 * layout.bytes_per_step
    tracemalloc.start()
    replay = Replay(layout, num_envs=1, config=ReplayConfig(chunk=128), seed=0, directory=None)
    empty, _ = tracemalloc.get_traced_memory()
    image = {"camera": np.zeros((1, 64, 64, 3), np.uint8)}
    latent = CompactLatent(np.zeros((1, 2048), BFLOAT16), np.zeros((1, 32), np.uint8))
    for _ in range(3 * 128):
        timestep = source.next()["timestep"]._replace(observation=image)
        replay.add(timestep, action=np.zeros((1, 6), np.float32), latent=latent)
    full, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert empty < 100_000  # of 82 GB
    assert 3 * chunk_bytes <= full < 3 * chunk_bytes + 200_000


def test_bytes_per_step_are_those_of_the_table():
    image = {"image": ImageSpec(64, 64, 3)}
    sizes = {deter: StepLayout(image, action=18, deter=deter, stoch=32) for deter in (2048, 4096, 8192)}
    assert [layout.bytes_per_step for layout in sizes.values()] == [16_495, 20_591, 28_783]
    assert [layout.latent_bytes for layout in sizes.values()] == [4_128, 8_224, 16_416]
    arrays = sizes[2048].allocate(3)
    assert sum(array.nbytes for array in arrays.values()) == 3 * 16_495
