"""Values that are NaN or infinite: refused by name, their episodes cut, or taken as 0; never let through."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

import envs
from envs.environment import EnvironmentFault, EnvSettings

BAD_AT, LENGTH = 3, 6
MODES = list(AutoresetMode)


class Bad(gymnasium.Env):
    """Counts its steps. In the first episodes, step 3 has a value that is not finite in one place."""

    action_space = spaces.Discrete(2)

    def __init__(self, place: str = "reward", value: float = np.nan, episodes: int = 1):
        self.place, self.value, self.episodes = place, value, episodes
        self.observation_space = spaces.Dict(
            count=spaces.Box(-np.inf, np.inf, (2,), np.float32), eye=spaces.Box(0, 1, (32, 32, 1), np.float32)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.episodes = 0, self.episodes - 1
        return self.observation(), {}

    def step(self, action):
        self.count += 1
        reward = self.value if self.is_bad("reward") else 1.0
        return self.observation(), reward, False, self.count == LENGTH, {}

    def observation(self):
        count = np.array([self.count, self.value if self.is_bad("count") else 0], np.float32)
        eye = np.full((32, 32, 1), 0.5, np.float32)
        if self.is_bad("eye"):
            eye[1, 2] = self.value
        return {"count": count, "eye": eye}

    def is_bad(self, place: str) -> bool:
        at = 0 if self.place == "reset" else BAD_AT
        return self.episodes >= 0 and self.count == at and place in (self.place, "count" * (self.place == "reset"))


def play(env: envs.Environment, steps: int):
    action = np.tile(np.eye(2, dtype=np.float32)[0], (env.num_envs, 1))
    timesteps = [env.reset(), *(env.step(action) for _ in range(steps))]
    for timestep in timesteps:
        assert np.isfinite(timestep.reward).all()
        assert np.isfinite(timestep.observation["count"]).all()
    counts = np.array([timestep.observation["count"][:, 0] for timestep in timesteps]).T
    rows = {name: np.array([getattr(timestep, name) for timestep in timesteps]).T for name in timesteps[0]._fields[1:]}
    return counts, rows


def make(place: str, value: float, *, workers: str = "none", **settings) -> envs.Environment:
    options = EnvSettings(workers=workers, **settings)
    made = iter([1, 0])  # only the first environment is bad
    if workers == "spawn":
        return envs.make(lambda: Bad(place, value), num_envs=1, seed=0, settings=options)
    return envs.make(lambda: Bad(place, value, episodes=next(made)), num_envs=2, seed=0, settings=options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["reward", "count", "eye"])
def test_dropping_cuts_the_episode_after_its_last_good_step(place: str, value: float, capfd):
    env = make(place, value, nonfinite="drop_episode")
    counts, rows = play(env, 9)
    assert counts.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]
    assert rows["is_first"][0].tolist() == [True, False, False, True] + 6 * [False]
    assert rows["is_last"][0].tolist() == 9 * [False] + [True]
    assert rows["reward"][0].tolist() == [0, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert not rows["is_terminal"].any()
    assert env.incidents["cut_episodes"] == 1
    told = capfd.readouterr().err
    assert f"environment 0, step 3: {'image' if place == 'eye' else 'the'}" in told
    assert f"{value}" in told
    assert "its episode is cut" in told


@pytest.mark.parametrize("place", ["reward", "count", "eye"])
def test_a_worker_lives_on_after_such_a_value(place: str):
    env = make(place, np.nan, workers="spawn", nonfinite="drop_episode")
    counts, rows = play(env, 9)
    assert counts.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 5, 6]]
    assert rows["is_first"][0].tolist() == [True, False, False, True] + 6 * [False]
    assert env.incidents == {"restarts": 0, "cut_episodes": 1, "zeroed": 0}
    env.close()


@pytest.mark.parametrize("place", ["reward", "count"])
@pytest.mark.parametrize("mode", MODES)
def test_dropping_in_a_vector_environment(mode: AutoresetMode, place: str):
    drop_in(lambda makers: SyncVectorEnv(makers, autoreset_mode=mode), place)


def test_dropping_in_a_vector_environment_of_processes():
    drop_in(lambda makers: AsyncVectorEnv(makers, context="spawn"), "count")


def drop_in(vector: Callable[[list], VectorEnv], place: str) -> None:
    def factory():
        return vector([lambda: Bad(place), lambda: Bad(place, episodes=0)])

    env = envs.make(factory, num_envs=2, seed=0, settings=EnvSettings(nonfinite="drop_episode"))
    counts, rows = play(env, 9)
    assert counts.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]
    assert rows["is_first"][0].tolist() == [True, False, False, True] + 6 * [False]
    assert not rows["is_terminal"].any()
    assert env.incidents["cut_episodes"] == 1
    env.close()


@pytest.mark.parametrize("place", ["reward", "count", "eye"])
def test_zero_takes_the_place(place: str, capfd):
    env = make(place, np.inf, nonfinite="zero")
    counts, rows = play(env, 7)
    assert counts[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert rows["reward"][0, BAD_AT] == (0 if place == "reward" else 1)
    assert ("taken as 0" in capfd.readouterr().err) == (place != "eye")
    env.close()


@pytest.mark.parametrize("policy", ["stop", "drop_episode"])
def test_a_beginning_that_is_not_finite_always_ends_the_run(policy: str):
    """Else a broken environment would be reset for ever."""
    with pytest.raises(
        EnvironmentFault, match="environment 0, step 0: the observation 'count' is nan at index 1; mend"
    ):
        play(make("reset", np.nan, nonfinite=policy), 1)


def test_extreme_rewards_are_told_of_once(capfd):
    env = make("reward", 1e30)
    play(env, 20)
    assert capfd.readouterr().err.count("a reward is 1e+30") == 1


def test_warnings_become_rare(capfd):
    env = envs.make(lambda: Bad(episodes=100), num_envs=1, seed=0, settings=EnvSettings(nonfinite="drop_episode"))
    play(env, 3 * 9)
    assert env.incidents["cut_episodes"] == 9
    assert capfd.readouterr().err.count("its episode is cut") == 4  # the 1st, 2nd, 4th and 8th
