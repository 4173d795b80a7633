"""The real package: `pip install 'dreamer-jax[memory-maze]'`, which the gate does not install, hence slow."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import envs
from envs import memory_maze
from envs.environment import EnvironmentFault
from envs.memory_maze import ACTIONS, IDS

ENV = "dreamer/MemoryMaze-9x9-v0"
NUM_STEPS = 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of gym, which is not maintained, and of what it imports
def test_a_maze_is_seen_saved_and_forked_into_another_environment():
    assert ENV in IDS
    one, two = (envs.make(ENV, num_envs=1, seed=seed) for seed in (0, 1))
    chance = np.random.default_rng(0)
    actions = np.eye(len(ACTIONS), dtype=np.float32)[chance.choice([1, 1, 4, 5], NUM_STEPS)]
    try:
        (first,) = one.reset().observation.values()
        (other,) = two.reset().observation.values()
        assert first.shape == (1, 64, 64, 3)
        assert (first != other).any()
        assert one.can_fork
        for action in actions:
            one.step(action[None])
        fork = one.fork_state()
        once = [one.step(action[None]) for action in actions]
        for again in (one, two):
            again.load_fork(fork)
            for action, wanted in zip(actions, once, strict=True):
                found = again.step(action[None])
                np.testing.assert_array_equal(found.observation["image"], wanted.observation["image"])
                assert found.reward == wanted.reward
        frames = [step.observation["image"] for step in once]
        assert (frames[0] != frames[-1]).any()  # it moves
    finally:
        one.close()
        two.close()


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_maze, "choose_backend", lambda **_: "off")
    monkeypatch.setitem(sys.modules, "memory_maze", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'dreamer-jax\[memory-maze\]'"):
        envs.make(ENV, num_envs=1, seed=0)
