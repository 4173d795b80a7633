"""Saving and restoring a replay: bitwise continuation, damaged files, files from an abandoned future, full disks."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from dreamer.data.chunk import fingerprint_of
from dreamer.data.layout import BFLOAT16
from dreamer.data.storage import ReplayState
from dreamer.types import CompactLatent

NOTHING_LOST = ((), 0)


def through_disk(state: ReplayState) -> ReplayState:
    """What a checkpoint does: JSON for the manifest, npz without pickle for the arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **state.arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as arrays:
        return ReplayState(dict(arrays), json.loads(json.dumps(state.manifest)))


def refreshed(step: int) -> CompactLatent:
    """Posteriors of an update, different after every step."""
    rng = np.random.default_rng(step)
    deter = rng.normal(size=(4, 8, 4)).astype(BFLOAT16)
    return CompactLatent(deter, rng.integers(256, size=(4, 8, 2), dtype=np.uint8))


def advance(replay, source, *, until):
    """Adds steps, with an update after every third one; returns the batches."""
    batches = []
    while source.step < until:
        replay.add(**source.next())
        if replay.ready and source.step % 3 == 0:
            batch, positions = replay.sample()
            batches.append((batch, positions))
            replay.write_back(positions, refreshed(source.step))
    return batches


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for (batch, positions), (other, other_positions) in zip(ours, theirs, strict=True):
        for name in ("env", "start"):
            np.testing.assert_array_equal(getattr(positions, name), getattr(other_positions, name))
        for key, value in batch.observation.items():
            np.testing.assert_array_equal(value, other.observation[key])
        for value, other_value in zip([*batch[1:-1], *batch.context], [*other[1:-1], *other.context], strict=True):
            assert value.tobytes() == other_value.tobytes()


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("capacity", [10_000, 400])
@pytest.mark.parametrize("saved_at", [20, 1_500, 1_504])  # before the first batch, inside a chunk, at a chunk's end
def test_a_restored_replay_continues_bitwise(make_replay, feed, tmp_path, saved_at, capacity):
    whole = advance(make_replay(num_envs=2, capacity=capacity), feed(2), until=3_000)
    before, source = make_replay(num_envs=2, capacity=capacity, directory=tmp_path), feed(2)
    first = advance(before, source, until=saved_at)
    state = through_disk(before.state())
    before.close()
    after = make_replay(num_envs=2, capacity=capacity, directory=tmp_path)
    report = after.restore(state)
    assert (report.lost, report.lost_steps) == NOTHING_LOST
    assert (report.steps, report.removed, report.latents_kept) == (before.num_steps, 0, True)
    assert_same(first + advance(after, feed(2, saved_at), until=3_000), whole)


def test_saving_does_not_disturb_the_run(make_replay, feed, tmp_path):
    plain = advance(make_replay(), feed(), until=600)
    saving, source, batches = make_replay(directory=tmp_path), feed(), []
    for until in range(50, 601, 50):
        batches += advance(saving, source, until=until)
        saving.state()
    assert_same(batches, plain)


def test_a_state_does_not_change_as_the_run_goes_on(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path), feed()
    advance(replay, source, until=300)
    state = replay.state()
    kept = {name: array.tobytes() for name, array in state.arrays.items()}, json.dumps(state.manifest)
    advance(replay, source, until=310)
    assert ({name: array.tobytes() for name, array in state.arrays.items()}, json.dumps(state.manifest)) == kept


def test_an_episode_cut_at_a_chunk_end_stays_closed(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path), feed()
    for _ in range(64):
        replay.add(**source.next())
    replay.state()  # chunk 1 is on disk before its last step is known to be the last of an episode
    step = source.next()
    step["timestep"] = step["timestep"]._replace(is_first=np.array([True]))
    replay.add(**step)
    for end in (80, 130):  # the reset lies in the unfinished chunk, then in a file
        while source.step < end:
            replay.add(**source.next())
        after = make_replay(directory=tmp_path, online=False)
        after.restore(through_disk(replay.state()))
        batch = after.gather(after.draw()._replace(env=np.zeros(1, int), start=np.array([60])))
        assert batch.is_last[0].tolist() == [step == 63 for step in range(60, 68)]


def test_latents_beyond_the_limit_come_from_the_files(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path, save_latents_limit=320.0), feed()  # one chunk's latents
    advance(replay, source, until=300)
    state = replay.state()
    assert not state.manifest["latents_kept"]
    assert state.arrays["latents/deter"].shape == (0, 32, 4)
    after = make_replay(directory=tmp_path)
    assert not after.restore(through_disk(state)).latents_kept
    batch, positions = after.sample()
    twin = replay.gather(positions)
    np.testing.assert_array_equal(batch.observation["place"], twin.observation["place"])
    with np.load(tmp_path / f"env0000-chunk{1:08d}.npz", allow_pickle=False) as file:
        context = after.gather(positions._replace(env=np.zeros(1, int), start=np.array([41]))).context
        np.testing.assert_array_equal(context.deter[0], file["deter"][8].view(BFLOAT16))


def damage(path, kind):
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "flipped":
        flip(path, path.read_bytes().index(b"NUMPY") + 200)
    elif kind == "another chunk":
        shutil.copy(path.with_name(f"env0001-chunk{5:08d}.npz"), path)


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "flipped", "another chunk"])
def test_a_damaged_chunk_is_a_hole_that_nothing_crosses(make_replay, feed, tmp_path, kind):
    replay, source = make_replay(num_envs=2, directory=tmp_path), feed(2)
    for _ in range(300):  # none trained on: the queue of fresh windows is long, and some of them are damaged
        replay.add(**source.next())
    state = through_disk(replay.state())
    name = f"env0001-chunk{3:08d}.npz"
    damage(tmp_path / name, kind)
    after = make_replay(num_envs=2, directory=tmp_path)
    report = after.restore(state)
    assert len(report.lost) == 1
    assert report.lost[0].startswith(name + ": ")
    assert (report.lost_steps, report.steps) == (32, 2 * 300 - 32)
    assert after.num_steps == report.steps
    contexts = {0: set(), 1: set()}
    for _ in range(1_500):
        batch, positions = after.sample()
        steps = batch.observation["place"][..., 1]
        np.testing.assert_array_equal(steps, positions.start[:, None] + np.arange(8))
        for env, start in zip(positions.env.tolist(), positions.start.tolist(), strict=True):
            contexts[env].add(start - 1)
    assert contexts[0] == set(range(300 - 8))
    assert contexts[1] == set(range(96 - 8)) | set(range(128, 300 - 8))


def test_all_chunks_lost_leaves_the_unfinished_ones_and_goes_on(make_replay, feed, tmp_path):
    replay = make_replay(directory=tmp_path)
    advance(replay, feed(), until=300)
    state = through_disk(replay.state())
    for path in tmp_path.iterdir():
        path.unlink()
    after = make_replay(directory=tmp_path)
    report = after.restore(state)
    assert (report.steps, report.lost_steps, len(report.lost)) == (300 % 32, 288, 9)
    assert not after.ready
    batches = advance(after, feed(1, 300), until=500)
    assert min(positions.start.min() for _, positions in batches) > 288


def test_any_flipped_byte_is_found_or_harmless(make_replay, feed, tmp_path):
    replay = make_replay(directory=tmp_path)
    advance(replay, feed(), until=40)
    state = through_disk(replay.state())
    (path,) = tmp_path.iterdir()
    original, found = path.read_bytes(), 0
    for place in range(0, len(original), 7):
        flip(path, place)
        after = make_replay(directory=tmp_path)
        report = after.restore(state)
        if report.lost:
            found += 1
        else:
            positions = after.draw()
            np.testing.assert_array_equal(
                after.gather(positions).observation["camera"], replay.gather(positions).observation["camera"]
            )
        path.write_bytes(original)
    assert found > 0.8 * len(original) / 7


def test_a_pickle_in_a_chunk_file_is_never_loaded(make_replay, feed, tmp_path):
    class Exploit:
        def __reduce__(self):
            return (exec, ("raise SystemExit('the pickle ran')",))

    replay = make_replay(directory=tmp_path)
    advance(replay, feed(), until=40)
    state = replay.state()
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        arrays = dict(file) | {"reward": np.array([Exploit()], dtype=object)}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with zipfile.ZipFile(path) as archive:
        state.manifest["chunks"][0][2] = fingerprint_of(archive)
    (reason,) = make_replay(directory=tmp_path).restore(state).lost
    assert "reward holds objects instead of numbers" in reason


def test_files_of_an_abandoned_future_are_removed_and_never_trained_on(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path), feed()
    advance(replay, source, until=300)
    state = through_disk(replay.state())
    advance(replay, source, until=600)  # killed here, before the next checkpoint
    replay.close()
    (tmp_path / f"env0000-chunk{18:08d}.tmp").write_bytes(b"half a chunk")
    after = make_replay(directory=tmp_path)
    report = after.restore(state)
    assert report.removed == 600 // 32 - 300 // 32
    assert (report.steps, report.lost) == (300, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"env0000-chunk{i:08d}.npz" for i in range(9)]


def test_files_go_only_when_no_kept_checkpoint_lists_them(make_replay, feed, tmp_path):
    replay, source, states = make_replay(capacity=128, directory=tmp_path), feed(), []
    for until in (200, 400, 600):
        advance(replay, source, until=until)
        states.append(through_disk(replay.state()))
    assert len(list(tmp_path.iterdir())) == 18  # dropped from memory, yet on disk
    removed = replay.remove_unlisted([state.manifest for state in states[1:]])
    listed = {tuple(chunk[:2]) for state in states[1:] for chunk in state.manifest["chunks"]}
    assert len(list(tmp_path.iterdir())) == len(listed) == 18 - removed
    older = make_replay(capacity=128, directory=tmp_path)
    report = older.restore(states[1])
    assert report.lost == ()
    assert_same(advance(older, feed(1, 400), until=500), advance_twin(make_replay, feed, 400, 500))


def test_files_of_the_replay_itself_stay(make_replay, feed, tmp_path):
    replay, source = make_replay(capacity=128, directory=tmp_path), feed()
    advance(replay, source, until=300)
    replay.state()
    replay.remove_unlisted([])
    assert make_replay(capacity=128, directory=tmp_path).restore(replay.state()).lost == ()
    assert len(list(tmp_path.iterdir())) == replay.num_steps // 32


def test_files_hold_the_latents_of_the_moment_they_were_full(make_replay, feed, expected_latents, tmp_path):
    replay, source = make_replay(num_envs=16, directory=tmp_path, online=False), feed(16)
    for _ in range(32):
        replay.add(**source.next())  # sixteen files are written one after the other, while ...
    everywhere = replay.draw()._replace(env=np.repeat(np.arange(16), 4), start=np.tile(np.arange(0, 32, 8), 16))
    replay.write_back(everywhere, CompactLatent(np.full((64, 8, 4), 9, BFLOAT16), np.full((64, 8, 2), 9, np.uint8)))
    replay.state()
    for env in range(16):
        with np.load(tmp_path / f"env{env:04d}-chunk{0:08d}.npz", allow_pickle=False) as file:
            np.testing.assert_array_equal(file["stoch"], expected_latents(np.array(env), np.arange(32)).stoch)


def test_only_latents_refreshed_since_their_file_was_written_are_saved(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path), feed()
    for _ in range(20):
        replay.add(**source.next())
    positions = replay.draw()
    replay.write_back(positions, refreshed(0))
    for _ in range(40):
        replay.add(**source.next())
    assert replay.state().manifest["refreshed"] == []
    replay.write_back(positions, refreshed(1))
    assert replay.state().manifest["refreshed"] == [[0, 0]]


def advance_twin(make_replay, feed, begin, end):
    twin, source = make_replay(capacity=128), feed()
    advance(twin, source, until=begin)
    return advance(twin, source, until=end)


def test_a_disk_that_cannot_be_written_stops_the_checkpoint_not_the_run(make_replay, feed, tmp_path):
    directory = tmp_path / "replay"
    replay, source = make_replay(directory=directory), feed()
    advance(replay, source, until=100)
    replay.state()  # waits for the writer, which would put a file into the directory while it is being removed
    shutil.rmtree(directory)
    advance(replay, source, until=300)
    with pytest.raises(OSError, match="No such file"):
        replay.state()
    directory.mkdir()
    state = replay.state()
    after = make_replay(directory=directory)
    assert len(after.restore(through_disk(state)).lost) <= 3  # those written before the directory went away
    assert after.num_steps >= 300 - 3 * 32


@pytest.mark.parametrize(
    ("change", "message"), [({"num_envs": 2}, "num_envs = 1, but .* 2"), ({"chunk": 16}, "chunk = 32")]
)
def test_another_shape_of_run_is_refused(make_replay, feed, tmp_path, change, message):
    replay = make_replay(directory=tmp_path)
    advance(replay, feed(), until=100)
    with pytest.raises(ValueError, match=message):
        make_replay(directory=tmp_path, **change).restore(replay.state())


def test_a_smaller_capacity_on_resume_drops_the_oldest(make_replay, feed, tmp_path):
    replay = make_replay(directory=tmp_path)
    advance(replay, feed(), until=300)
    after = make_replay(directory=tmp_path, capacity=100)
    assert after.restore(replay.state()).steps == 300 - 7 * 32


def test_without_a_directory_saving_is_refused(make_replay):
    with pytest.raises(ValueError, match="no directory"):
        make_replay().state()
