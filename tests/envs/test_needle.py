"""The needle corridor: what is seen, what it pays, and that it can be left and found again."""

from __future__ import annotations

import numpy as np
from gymnasium.utils.env_checker import check_env

import envs
from envs import needle

LEFT, RIGHT, UP, DOWN, STAY = range(5)


def test_it_is_a_gymnasium_environment():
    check_env(needle.Needle(), skip_render_check=True)


def test_from_home_every_needle_is_read_and_none_from_afar():
    seen = set()
    env = needle.Needle()
    for seed in range(200):
        frame, _ = env.reset(seed=seed)
        found = needle.read(frame)
        assert found is not None
        assert (found.row, found.column) == env._place
        assert found.colour == env._colour
        seen.add(found)
        for _ in range(6):
            frame, *_ = env.step(RIGHT)
        assert needle.read(frame) is None
    assert {(one.row, one.column) for one in seen} == set(needle.PLACES)
    assert {one.colour for one in seen} == set(range(len(needle.COLOURS)))


def test_it_pays_to_come_back():
    env = needle.Needle()
    env.reset(seed=0)
    env._place = (2, 1)
    assert env.step(LEFT)[1] == 0  # it was not away
    for _ in range(11):
        assert env.step(RIGHT)[1] == 0
    rewards = [env.step(LEFT)[1] for _ in range(12)]
    assert rewards == [0] * 10 + [1, 0]
    assert env.step(RIGHT)[1] == 0  # once
    steps = 25
    while True:
        *_, terminated, truncated, _ = env.step(STAY)
        steps += 1
        assert not terminated
        if truncated:
            break
    assert steps == needle.LIMIT


def test_it_forks():
    env = envs.make(needle.ID, num_envs=1, seed=3)
    assert env.can_fork
    assert env.action_names == list(needle.MOVES)
    env.reset()
    rng = np.random.default_rng(0)
    actions = np.eye(5, dtype=np.float32)[rng.integers(5, size=30)]
    fork = env.fork_state()
    frames = [env.step(action[None]).observation["image"] for action in actions]
    other = envs.make(needle.ID, num_envs=1, seed=4)
    other.reset()
    other.load_fork(fork)
    for action, frame in zip(actions, frames, strict=True):
        np.testing.assert_array_equal(other.step(action[None]).observation["image"], frame)
