"""Single gymnasium environments: names, episodes, states, and what is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.environment import EnvironmentFault, EnvSettings, env_seeds
from envs.spaces import DiscreteSpec, VectorSpec, action_width


class Count(gymnasium.Env):
    """Ends after `steps` with the flags it is told; rewards and shows its step count from one shared buffer."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, *, steps=3, terminated=True, truncated=False):
        self.steps, self.terminated, self.truncated = steps, terminated, truncated
        self.buffer = np.zeros(2, np.float32)
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.episode += 1
        self.buffer[:] = 0, self.episode
        return self.buffer, {}

    def step(self, action):
        self.count += 1
        self.buffer[0] = self.count
        is_end = self.count >= self.steps
        return self.buffer, float(self.count), self.terminated and is_end, self.truncated and is_end, {}


def make(name, **kwargs):
    settings = EnvSettings(**kwargs.pop("settings", {}))
    return envs.make(name, num_envs=kwargs.pop("num_envs", 1), seed=kwargs.pop("seed", 0), settings=settings)


def actions_of(env, steps, *, seed=0):
    shape = (steps, env.num_envs, action_width(env.action_spec))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def play(env, steps, *, seed=0):
    return [env.reset(), *map(env.step, actions_of(env, steps, seed=seed))]


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        for key in a.observation:
            np.testing.assert_array_equal(a.observation[key], b.observation[key])
        for x, y in zip(a[1:], b[1:], strict=True):
            np.testing.assert_array_equal(x, y)


def columns(steps, index=0):
    """Counter, reward, first, last, terminal of one environment over time."""
    flags = [(s.is_first[index], s.is_last[index], s.is_terminal[index]) for s in steps]
    return (
        [int(s.observation["state"][index, 0]) for s in steps],
        [float(s.reward[index]) for s in steps],
        *[[int(row[i]) for row in flags] for i in range(3)],
    )


@pytest.mark.parametrize(("terminated", "truncated", "terminal"), [(True, False, 1), (False, True, 0), (True, True, 1)])
def test_ends_and_resets(terminated, truncated, terminal):
    env = make(lambda: Count(terminated=terminated, truncated=truncated))
    assert columns(play(env, 8)) == (
        [0, 1, 2, 3, 0, 1, 2, 3, 0],
        [0, 1, 2, 3, 0, 1, 2, 3, 0],
        [1, 0, 0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0, 1, 0],
        [0, 0, 0, terminal, 0, 0, 0, terminal, 0],
    )


def test_action_repeat_sums_rewards_and_stops_at_the_end():
    env = make(lambda: Count(steps=5), settings={"action_repeat": 2})
    assert env.action_repeat == 2
    counts, rewards, first, last, terminal = columns(play(env, 4))
    assert counts == [0, 2, 4, 5, 0]
    assert rewards == [0, 3, 7, 5, 0]
    assert (first, last, terminal) == ([1, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0])


def test_the_step_limit_truncates_and_a_simultaneous_end_terminates():
    env = make(lambda: Count(steps=10), settings={"max_episode_steps": 2})
    assert columns(play(env, 5))[2:] == ([1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1], [0] * 6)
    env = make(lambda: Count(steps=2), settings={"max_episode_steps": 2})
    assert columns(play(env, 2))[3:] == ([0, 0, 1], [0, 0, 1])
    assert env.protocol["max_episode_steps"] == 2


def test_gymnasiums_own_time_limit_is_kept_and_truncates():
    env = make("MountainCar-v0")
    steps = play(env, 201)
    assert env.protocol["time_limit_steps"] == 200
    assert [i for i, step in enumerate(steps) if step.is_last[0]] == [200]
    assert not steps[200].is_terminal[0]


def test_observations_are_copies():
    env = make(Count)
    first = env.reset()
    env.step(np.zeros((1, 2), np.float32))
    assert first.observation["state"].tolist() == [[0, 1]]


def test_environments_have_seeds_of_their_own_that_derive_from_one():
    env = make("CartPole-v1", num_envs=3)
    rows = env.reset().observation["state"]
    assert len(np.unique(rows, axis=0)) == 3
    assert_equal(play(make("CartPole-v1", num_envs=3), 50), play(make("CartPole-v1", num_envs=3), 50))
    assert not np.array_equal(rows, make("CartPole-v1", num_envs=3, seed=1).reset().observation["state"])
    assert env_seeds(0, 5)[:2] == env_seeds(0, 2)
    assert len(set(env_seeds(0, 500))) == 500


CLASSIC = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]


@pytest.mark.parametrize("name", [*CLASSIC, "dummy", "dreamer/ProbeMemory-v0", "dreamer/ProbeContinuous-v0"])
@pytest.mark.parametrize("steps", [0, 1, 37])
def test_a_restored_environment_goes_on_bit_by_bit(name, steps, tmp_path):
    settings = {"max_episode_steps": 60}
    env = make(name, num_envs=2, settings=settings)
    assert env.can_fork
    play(env, steps)
    np.savez(tmp_path / "state.npz", **env.get_state())
    fresh = make(name, num_envs=2, seed=5, settings=settings)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        fresh.set_state(dict(stored))
    actions = actions_of(env, 300, seed=1)
    assert_equal(map(env.step, actions), map(fresh.step, actions))


def test_an_environment_without_a_state_is_forked_by_deep_copy():
    env = make(Count)
    assert not env.can_fork
    with pytest.raises(EnvironmentFault, match="cannot save its state"):
        env.get_state()
    play(env, 2)
    fork = env.fork_state()
    actions = actions_of(env, 6)
    once = list(map(env.step, actions))
    for _ in range(2):
        env.load_fork(fork)
        assert_equal(once, map(env.step, actions))


class SavedCount(Count):
    """`Count` with a state of its own; it counts its resets."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        type(self).resets += 1
        return super().reset(seed=seed)

    def get_state(self):
        return {"count": np.array(self.count), "episode": np.array(self.episode)}

    def set_state(self, state):
        self.count, self.episode = int(state["count"]), int(state["episode"])
        self.buffer[:] = self.count, self.episode


def test_only_where_no_episode_is_open_does_a_state_need_a_reset():
    env, fresh = make(SavedCount), make(SavedCount)
    play(env, 1)
    fork = env.fork_state()
    SavedCount.resets = 0
    (action,) = actions_of(env, 1)
    ends = []
    for one in (env, env, fresh, fresh):  # a reset may take seconds
        one.load_fork(fork)
        ends.append([one.step(action), one.step(action)])
    assert SavedCount.resets == 3  # of the fresh one, and of both after an end
    for end in ends[1:]:
        assert_equal(ends[0], end)


def test_wrappers_with_a_state_of_their_own_prevent_saving():
    env = make(lambda: gymnasium.wrappers.NormalizeReward(gymnasium.make("CartPole-v1")))
    assert not env.can_fork


def test_dummy_has_every_kind_of_space():
    env = make("dummy", num_envs=2)
    steps = play(env, 45)
    for step in steps:
        for key, part in env.observation_spec.items():
            array = step.observation[key]
            if isinstance(part, VectorSpec):
                assert (array.dtype, array.shape) == (np.float32, (2, part.size))
            elif isinstance(part, DiscreteSpec):
                assert (array.dtype, array.shape) == (np.int32, (2, len(part.num_classes)))
            else:
                assert (array.dtype, array.shape) == (np.uint8, (2, *part))
    assert [i for i, step in enumerate(steps) if step.is_last[0]] == [20, 41]
    assert steps[3].observation["nested/step"].tolist() == [[3], [3]]
    assert (steps[3].observation["channel_first"] == 3).all()
    assert env.render()[1].shape == (64, 64, 3)


def test_names():
    assert make("gymnasium.envs.classic_control.cartpole:CartPoleEnv").observation_spec == {"state": VectorSpec(4)}
    assert make("gymnasium:CartPole-v1").protocol["time_limit_steps"] == 500
    assert make("ALE/Pong-v5").action_names[:2] == ["NOOP", "FIRE"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPol-v1", "did you mean CartPole-v1"),
        ("cartpole-v1", "did you mean CartPole-v1"),
        ("Ant-v1", "Ant-v5"),
        ("nowhere/Maze-v0", "package that registers nowhere/"),
        ("no_such_module:Maze-v0", "no_such_module"),
        ("gymnasium:NoSuchEnv-v0", "no environment is called"),
        ("envs.mine:Maze", "dreamer-jax's own names"),
        ("LunarLander-v3", r"gymnasium\[box2d\]"),
    ],
)
def test_unknown_names_get_a_remedy(name, message):
    with pytest.raises(EnvironmentFault, match=message):
        make(name)


class OldStep(Count):
    def step(self, action):
        return self.buffer, 1.0, False, {}


class OldReset(Count):
    def reset(self):
        return self.buffer


class OldResetTuple(Count):
    def reset(self, *, seed=None, options=None):
        return self.buffer


class NotGymnasium:
    observation_space, action_space = Count.observation_space, Count.action_space


@pytest.mark.parametrize("env_class", [OldStep, OldReset, OldResetTuple, NotGymnasium])
@pytest.mark.parametrize("wrap", [lambda env: env, gymnasium.wrappers.OrderEnforcing])
def test_the_old_gym_api_is_explained(env_class, wrap):
    if env_class is NotGymnasium and wrap is gymnasium.wrappers.OrderEnforcing:
        wrap = lambda env: env  # noqa: E731 (gymnasium refuses to wrap it)
    with pytest.raises(EnvironmentFault, match=r"old gym API.*\(observation, reward, terminated, truncated, info\)"):
        play(make(lambda: wrap(env_class())), 1)


def test_an_envs_own_value_error_is_not_mistaken_for_an_old_api():
    class Broken(Count):
        def step(self, action):
            raise ValueError("the robot fell")

    with pytest.raises(EnvironmentFault, match=r"raised ValueError: the robot fell") as error:
        play(make(Broken, settings={"max_restarts": 0}), 1)
    assert isinstance(error.value.__cause__, ValueError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_numbers_stop_at_the_edge(value):
    class Reward(Count):
        def step(self, action):
            return self.buffer, value, False, False, {}

    class Observation(Count):
        def step(self, action):
            return np.array([0, value], np.float32), 0.0, False, False, {}

    with pytest.raises(EnvironmentFault, match=r"environment 0, step 1: the reward is (nan|inf); mend"):
        play(make(Reward), 1)
    with pytest.raises(
        EnvironmentFault, match=r"environment 0, step 1: the observation 'state' is (nan|inf) at index 1"
    ):
        play(make(Observation), 1)


def test_settings_that_would_be_ignored_are_refused():
    for field, value in {"sticky": 0.25, "camera": 1, "full_actions": True}.items():
        with pytest.raises(EnvironmentFault, match=field.replace("_", "-")):
            make("CartPole-v1", settings={field: value})
    with pytest.raises(EnvironmentFault, match="at least one"):
        make("CartPole-v1", num_envs=0)
    with pytest.raises(EnvironmentFault, match="action-repeat must be at least 1"):
        make("CartPole-v1", settings={"action_repeat": 0})


def test_a_factory_must_make_new_environments():
    one = Count()
    with pytest.raises(EnvironmentFault, match="same environment twice"):
        make(lambda: one, num_envs=2)
