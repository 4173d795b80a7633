"""Episodes read from a run's replay: none is made up, none is read across a gap, and no file changes."""

from __future__ import annotations

import pytest

from dreamer.data.trajectories import Tally, read_episodes
from tests.data.conftest import LAYOUT


@pytest.fixture
def filled(make_replay, feed, tmp_path):
    """Fills a replay of chunks of 32 steps; environment e has episodes of 40 + 3 e steps. Returns what was saved."""

    def fill(steps: int, **settings):
        replay, source = make_replay(directory=tmp_path / "replay", **settings), feed(settings.get("num_envs", 1))
        for _ in range(steps):
            replay.add(**source.next())
        state = replay.state()
        replay.close()
        return state

    return fill


def read(tmp_path, state) -> tuple[list[dict], Tally]:
    tally = Tally()
    return list(read_episodes(tmp_path / "replay", layout=LAYOUT, state=state, tally=tally)), tally


def places(episode) -> list[tuple[int, int]]:
    return [(int(env), int(step)) for env, step in episode["observation/place"]]


def test_every_environments_episodes_come_whole_and_in_order(filled, tmp_path):
    episodes, tally = read(tmp_path, filled(100, num_envs=2))
    assert [places(episode) for episode in episodes] == [
        [(0, step) for step in range(40)],
        [(0, step) for step in range(40, 80)],
        [(0, step) for step in range(80, 100)],  # open: cut
        [(1, step) for step in range(43)],
        [(1, step) for step in range(43, 86)],
        [(1, step) for step in range(86, 100)],
    ]
    assert [bool(episode["is_terminal"][-1]) for episode in episodes] == [True, True, False, False, False, False]
    for episode in episodes:
        assert episode["is_first"].tolist() == [True] + [False] * (len(episode["reward"]) - 1)
        assert episode["is_last"].tolist() == [False] * (len(episode["reward"]) - 1) + [True]
        assert episode["deter"].dtype == LAYOUT.fields["deter"].dtype
    assert (tally.episodes, tally.cut, tally.headless, tally.lost) == (6, 2, 0, [])
    assert tally.steps == 200 - 6


def test_a_beginning_that_was_dropped_is_left_out(filled, tmp_path):
    state = filled(200, capacity=128)  # the oldest chunks are gone
    episodes, tally = read(tmp_path, state)
    oldest = min(index for _, index, _ in state.manifest["chunks"]) * 32
    first = -(-oldest // 40) * 40
    assert oldest > 0
    assert places(episodes[0])[0] == (0, first)
    assert tally.headless == first - oldest
    assert sum(len(episode["reward"]) for episode in episodes) + tally.headless == 200 - oldest


def test_nothing_is_read_across_a_lost_chunk(filled, tmp_path):
    state = filled(200)
    files = {path.name: path.read_bytes() for path in (tmp_path / "replay").iterdir()}
    lost = tmp_path / "replay" / "env0000-chunk00000002.npz"  # steps 64 to 95
    lost.write_bytes(b"damage")
    stray = tmp_path / "replay" / "env0000-chunk00000099.npz"  # of after the checkpoint: a trainer would remove it
    stray.write_bytes(b"later")
    episodes, tally = read(tmp_path, state)
    assert [places(episode)[0][1] for episode in episodes] == [0, 40, 120, 160]
    assert [places(episode)[-1][1] for episode in episodes] == [39, 63, 159, 199]
    assert (tally.cut, tally.headless) == (1, 120 - 96)  # the last of the four ends by itself
    assert "chunk00000002" in tally.lost[0]
    assert "1 of them cut" in str(tally)
    left = {path.name: path.read_bytes() for path in (tmp_path / "replay").iterdir()}
    assert left == files | {lost.name: b"damage", stray.name: b"later"}


def test_an_episode_that_was_cut_by_a_reset_counts_as_truncated(make_replay, feed, tmp_path):
    replay, source = make_replay(directory=tmp_path / "replay"), feed(1)
    for step in range(70):
        made = source.next()
        if step == 25:  # a restart of the environment, say
            made["timestep"].is_first[:] = True
        replay.add(**made)
    state = replay.state()
    replay.close()
    episodes, tally = read(tmp_path, state)
    assert [len(episode["reward"]) for episode in episodes] == [25, 15, 30]
    assert not episodes[0]["is_terminal"].any()
    assert tally.cut == 1
    assert all(episode["is_last"][-1] for episode in episodes)
