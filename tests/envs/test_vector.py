"""User-made vector environments in gymnasium's three autoreset modes show the same episodes."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import envs
from envs.environment import EnvironmentFault, EnvSettings
from envs.spaces import ImageSpec
from envs.vector import UNSEEN_START

REPOSITORY = Path(__file__).resolve().parents[2]


class Lives(gymnasium.Env):
    """Episode e of environment i lasts `lengths[e]` steps; the observation is (episode, step), the reward 1 + step."""

    action_space = spaces.Discrete(3)

    def __init__(self, index, *, nested=False):
        self.index, self.nested, self.episode = index, nested, -1
        self.lengths = ([2, 1, 3, 4], [3, 3, 1, 2], [1, 2, 2, 5])[index]
        self.observation_space = spaces.Box(-1.0, 99.0, (2,), np.float32)
        if nested:
            self.observation_space = spaces.Dict({"pose": self.observation_space})

    def observe(self):
        pair = np.array([self.episode, self.count], np.float32)
        return {"pose": pair} if self.nested else pair

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        is_end = self.count == self.lengths[self.episode % 4]
        terminated = is_end and (self.episode + self.index) % 3 != 0
        truncated = is_end and (self.episode + self.index) % 3 != 1  # in a third of the cases both
        return self.observe(), 1.0 + self.count, terminated, truncated, {}


class Batch(VectorEnv):
    """A hand-written SAME_STEP vector environment that knows no partial resets."""

    def __init__(self, num_envs):
        self.inner = SyncVectorEnv(factories(num_envs), autoreset_mode=AutoresetMode.SAME_STEP)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = num_envs
        self.single_observation_space = self.inner.single_observation_space
        self.single_action_space = self.inner.single_action_space

    def reset(self, *, seed=None, options=None):
        assert not options
        return self.inner.reset(seed=seed)

    def step(self, actions):
        observation, reward, terminated, truncated, info = self.inner.step(actions)
        if "final_obs" in info:  # some return a whole batch
            rows = zip(info["final_obs"], observation, strict=True)
            info = {"final_obs": np.stack([last if last is not None else now for last, now in rows])}
        return observation, reward, terminated, truncated, info


def factories(count, *, nested=False):
    return [lambda i=i: Lives(i, nested=nested) for i in range(count)]


def make(factory, *, num_envs=3):
    return envs.make(factory, num_envs=num_envs, seed=0, settings=EnvSettings())


def play(env, steps=14):
    action = np.zeros((env.num_envs, 3), np.float32)
    return [env.reset(), *(env.step(action) for _ in range(steps))]


def rows(steps, index, key="state"):
    """(episode, step, reward, first, last, terminal), episodes numbered as they are seen."""
    seen, result = -1, []
    for step in steps:
        seen += int(step.is_first[index])
        flags = (int(step.is_first[index]), int(step.is_last[index]), int(step.is_terminal[index]))
        result.append((seen, int(step.observation[key][index, 1]), float(step.reward[index]), *flags))
    return result


def check_episodes(steps, index, key="state"):
    """Every episode is whole: steps count up from 0, rewards follow, flags agree with the last step."""
    previous = None
    for _, count, reward, first, last, terminal in rows(steps, index, key):
        assert first == (previous is None or previous[1] == 1)
        assert count == (0 if first else previous[0] + 1)
        assert reward == (0 if first else 1 + count)
        assert terminal <= last
        previous = (count, last)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("nested", [False, True])
def test_all_modes_show_whole_episodes(mode, nested):
    env = make(lambda: SyncVectorEnv(factories(3, nested=nested), autoreset_mode=mode))
    steps = play(env)
    for index in range(3):
        check_episodes(steps, index, "pose" if nested else "state")
    assert env.protocol["autoreset"] == mode.name.lower()


def test_next_step_shows_exactly_the_episodes_of_the_environment():
    env = make(lambda: SyncVectorEnv(factories(3), autoreset_mode=AutoresetMode.NEXT_STEP))
    steps = play(env, 7)
    assert rows(steps, 0) == [
        (0, 0, 0, 1, 0, 0),
        (0, 1, 2, 0, 0, 0),
        (0, 2, 3, 0, 1, 0),  # truncated only
        (1, 0, 0, 1, 0, 0),
        (1, 1, 2, 0, 1, 1),  # terminated only
        (2, 0, 0, 1, 0, 0),
        (2, 1, 2, 0, 0, 0),
        (2, 2, 3, 0, 0, 0),
    ]
    both = next(row for row in rows(steps, 2) if row[4])  # environment 2 ends its first episode with both flags
    assert both == (0, 1, 2, 0, 1, 1)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_one_environment_loses_no_episode_in_any_mode(mode):
    steps = play(make(lambda: SyncVectorEnv(factories(1), autoreset_mode=mode), num_envs=1))
    wanted = play(make(lambda: SyncVectorEnv(factories(1)), num_envs=1))
    assert rows(steps, 0)[:4] == rows(wanted, 0)[:4]
    check_episodes(steps, 0)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_worker_processes_work_in_all_modes(mode):
    env = make(lambda: AsyncVectorEnv(factories(2), autoreset_mode=mode, context="spawn"), num_envs=2)
    steps = play(env)
    env.close()
    for index in range(2):
        check_episodes(steps, index)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])  # ale-py has these two
def test_atari_in_both_of_its_modes(mode):
    from ale_py.vector_env import AtariVectorEnv

    size = {"img_height": 64, "img_width": 64, "stack_num": 1}
    env = make(lambda: AtariVectorEnv("breakout", 3, autoreset_mode=mode, max_num_frames_per_episode=40, **size))
    assert env.observation_spec == {"image": ImageSpec(64, 64, 1)}
    env.reset()
    steps = [env.step(np.eye(4, dtype=np.float32)[[0, 2, 3]]) for _ in range(23)]
    env.close()
    for i, step in enumerate(steps, start=1):
        assert step.is_last.all() == (i % 11 == 10), i
        assert step.is_first.all() == (i % 11 == 0), i
        assert not step.is_terminal.any()


def test_a_foreign_same_step_environment_keeps_last_observations_and_says_what_passes_unseen():
    with pytest.warns(UserWarning, match="passes unseen"):
        env = make(lambda: Batch(3))
    assert env.protocol["autoreset"] == UNSEEN_START
    steps = play(env)
    for index in range(3):
        seen = rows(steps, index)
        for before, row in itertools.pairwise(seen):
            assert row[3] == before[4]  # first follows last
            # The first observation seen is that of step 1, unless all ended together and nobody had to wait.
            assert row[1] in (0, 1) if row[3] else row[1] == before[1] + 1
            assert row[2] == (0 if row[3] else 1 + row[1])
        assert any(row[5] for row in seen)
    assert any(row[3] and row[1] == 1 for index in range(3) for row in rows(steps[1:], index))


def test_a_single_foreign_same_step_environment_is_exact():
    env = make(lambda: Batch(1), num_envs=1)
    assert env.protocol["autoreset"] == "same_step"
    check_episodes(play(env), 0)


def test_what_a_vector_environment_returns_is_copied():
    env = make(lambda: SyncVectorEnv(factories(2), copy=False), num_envs=2)
    first = env.reset()
    kept = {key: value.copy() for key, value in first.observation.items()}
    play(env, 3)
    np.testing.assert_array_equal(first.observation["state"], kept["state"])


FORK = """
import sys, types
import gymnasium
from gymnasium.vector import AsyncVectorEnv
import envs

made = []

def fork():
    made.append(AsyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2, context="fork"))
    return made[-1]

envs.make(fork, num_envs=2, seed=0).close()
assert "jax" not in sys.modules
sys.modules["jax"] = types.ModuleType("jax")
try:
    envs.make(fork, num_envs=2, seed=0)
except envs.EnvironmentFault as error:
    print(error)
assert len(made) == 2 and not any(process.is_alive() for process in made[-1].processes)
"""


def test_workers_that_were_forked_beside_jax_are_refused():
    """In a process of its own, as the real JAX may have threads in this one."""
    done = subprocess.run([sys.executable, "-c", FORK], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r'fork makes worker processes by fork.*context="spawn"', done.stdout)


def test_mistakes_are_named():
    with pytest.raises(EnvironmentFault, match=r"holds 3 environments; set --environment.num-envs 3"):
        make(lambda: SyncVectorEnv(factories(3)), num_envs=1)
    with pytest.raises(EnvironmentFault, match="action_repeat cannot be added"):
        envs.make(lambda: SyncVectorEnv(factories(1)), num_envs=1, seed=0, settings=EnvSettings(action_repeat=2))

    class Silent(VectorEnv):
        num_envs = 1
        metadata = {"autoreset_mode": "sometimes"}  # noqa: RUF012

    with pytest.raises(EnvironmentFault, match="declares autoreset mode 'sometimes'"):
        make(Silent, num_envs=1)
