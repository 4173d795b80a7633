"""The laws hold, the splits do not overlap, and velocities can be read from frames."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import motion


@pytest.mark.parametrize("kind", motion.KINDS)
@pytest.mark.parametrize("split", motion.SPLITS)
def test_velocities_are_read_from_frames(kind: str, split: str):
    env = motion.Motion(kind, split)
    balls = 2 if kind == "Collision" else 1
    for seed in range(20):
        frame, _ = env.reset(seed=seed)
        before, ended = motion.places(frame, balls=balls), False
        while not ended:
            old = env.velocity
            frame, _, _, ended, _ = env.step(0)
            now = motion.places(frame, balls=balls)
            if kind != "Collision" or np.array_equal(old, env.velocity):
                np.testing.assert_allclose(now - before, env.velocity, atol=0.08)  # also: nothing leaves the picture
            before = now


def test_collisions_keep_momentum_and_energy():
    env = motion.Motion("Collision", "")
    met = 0
    for seed in range(30):
        env.reset(seed=seed)
        mass, start = np.square(env._radius), env.velocity[:, 0]
        for _ in range(motion.STEPS):
            env.step(0)
        end = env.velocity[:, 0]
        met += not np.array_equal(start, end)
        assert mass @ end == pytest.approx(mass @ start)
        assert mass @ end**2 == pytest.approx(mass @ start**2)
    assert met == 30


def test_what_is_combined_or_outside_was_never_seen():
    drawn = {split: [] for split in motion.SPLITS}
    for split, found in drawn.items():
        env = motion.Motion("Uniform", split)
        for seed in range(200):
            env.reset(seed=seed)
            found.append((float(np.abs(env.velocity[0, 0])), float(env._radius[0])))
    inside, combined, outside = (np.array(drawn[split]) for split in motion.SPLITS)
    assert not np.any((inside[:, 0] > motion.FAST[0]) & (inside[:, 1] > motion.LARGE[0]))
    assert np.all((combined[:, 0] >= motion.FAST[0]) & (combined[:, 1] >= motion.LARGE[0]))
    assert combined[:, 0].max() <= inside[:, 0].max() + 0.02  # each alone was seen
    assert outside[:, 0].min() > inside[:, 0].max()


def test_it_is_an_environment_that_forks():
    check_env(motion.Motion("Parabola", ""), skip_render_check=True)
    env = envs.make("dreamer/Collision-v0", num_envs=1, seed=0)
    assert env.can_fork
    env.reset()
    action = np.ones((1, 1), np.float32)
    fork = env.fork_state()
    frames = [env.step(action).observation["image"] for _ in range(15)]
    env.load_fork(fork)
    np.testing.assert_array_equal([env.step(action).observation["image"] for _ in range(15)], frames)
