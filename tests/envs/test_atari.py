"""The native vector environment and the adapter that can be saved are one and the same game."""

from __future__ import annotations

import numpy as np
import pytest
from ale_py import roms

import envs
from envs.atari import AtariImages, native_vector_env
from envs.atari_fork import AtariSimulator
from envs.atari_protocol import ATARI_26, ATARI_57, atari_protocol
from envs.environment import EnvironmentFault, EnvSettings
from envs.loop import LoopEnvironment
from envs.spaces import ImageSpec, action_width
from envs.vector import VectorEnvironment


def single(name, *, seed=7, **settings):
    protocol = atari_protocol(name, EnvSettings(**settings))
    return LoopEnvironment(
        [lambda seed: AtariSimulator(protocol, seed=seed, name=name)], seeds=[seed], settings=EnvSettings()
    )


def native(name, *, seed=7, **settings):
    protocol = atari_protocol(name, EnvSettings(**settings))
    env = AtariImages(native_vector_env(protocol, num_envs=1), protocol)
    return VectorEnvironment(env, seed=np.array([seed]), settings=EnvSettings(), protocol={"env": name})


def random_actions(env, steps, *, seed=0):
    width = action_width(env.action_spec)
    choice = np.random.default_rng(seed).integers(0, width, (steps, env.num_envs))
    return np.eye(width, dtype=np.float32)[choice]


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            assert_equal(tuple(a.values()), tuple(b[key] for key in a))
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("atari_pong", {}),
        ("atari100k_breakout", {}),
        ("atari_seaquest", {"max_episode_steps": 77, "action_repeat": 3}),
        ("atari100k_qbert", {"life_loss": True, "sticky": 0.1, "image_size": (70, 80)}),
        ("atari_carnival", {"action_repeat": 1, "noops": 0, "grayscale": False, "max_episode_steps": 300}),
    ],
)
def test_both_paths_agree_frame_by_frame(name, settings):
    """Screens, rewards, ends, sticky actions, no-op starts: 1,000 steps, several episodes."""
    left, right = single(name, **settings), native(name, **settings)
    a, b = left.reset(), right.reset()
    ends = 0
    for action in random_actions(left, 1000):
        assert_equal(a, b)
        ends += int(a.is_last[0])
        a, b = left.step(action), right.step(action)
    assert ends >= 1 or name == "atari_pong"
    assert left.action_spec == right.action_spec
    assert left.observation_spec == right.observation_spec


def assert_restorable(name):
    """A fresh game that is set to a state goes on as the one it came from, and as one that was never saved."""
    original, unsaved = single(name, max_episode_steps=150), single(name, max_episode_steps=150)
    original.reset(), unsaved.reset()
    actions = random_actions(original, 400)
    for action in actions[:200]:
        original.step(action), unsaved.step(action)
    state = original.get_state()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
    fresh = single(name, seed=8, max_episode_steps=150)
    fresh.set_state(state)
    for action in actions[200:]:
        expected = unsaved.step(action)
        assert_equal(original.step(action), expected)
        assert_equal(fresh.step(action), expected)


@pytest.mark.parametrize("name", ["atari_pong", "atari100k_breakout", "atari_qbert"])
def test_a_restored_game_goes_on_bit_by_bit(name):
    assert_restorable(name)


@pytest.mark.slow
@pytest.mark.parametrize("game", ATARI_57)
def test_every_restored_game_goes_on_bit_by_bit(game):
    assert_restorable(f"atari_{game}")


def test_the_action_that_sticks_is_part_of_the_state():
    """With almost certain stickiness the restored game must go on with the held action, not with a no-op."""
    original, fresh = single("atari_breakout", sticky=0.97), single("atari_breakout", seed=9, sticky=0.97)
    original.reset()
    actions = random_actions(original, 60)
    for step, action in enumerate(actions[:40]):
        original.step(action)
        fork = original.fork_state()
        fresh.set_state(original.get_state())
        for later in actions[step + 1 : step + 9]:
            assert_equal(original.step(later), fresh.step(later))
        original.load_fork(fork)


def test_suites_have_the_published_protocols():
    full, small = single("atari_pong"), single("atari100k_pong")
    assert full.observation_spec == {"image": ImageSpec(96, 96, 1)}
    assert small.observation_spec == {"image": ImageSpec(64, 64, 3)}
    assert action_width(full.action_spec) == len(full.action_names) == 18
    assert small.action_names == ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    common = {
        "game": "pong",
        "action_repeat": 4,
        "noops": 30,
        "max_pool": True,
        "max_episode_frames": 108_000,
        "life_loss": False,
        "reward_clipping": False,
        "fire_reset": False,
        "frame_stack": 1,
    }
    assert full.protocol.items() >= (common | {"sticky": 0.25, "full_actions": True, "grayscale": True}).items()
    assert small.protocol.items() >= (common | {"sticky": 0.0, "full_actions": False, "grayscale": False}).items()


def test_the_frame_limit_truncates_and_game_over_terminates():
    env = single("atari100k_breakout", max_episode_steps=20)
    env.reset()
    for step, action in enumerate(random_actions(env, 42), start=1):
        timestep = env.step(action)
        assert timestep.is_last[0] == (step % 21 == 20)
        assert timestep.is_first[0] == (step % 21 == 0)
        assert not timestep.is_terminal[0]
    env = single("atari100k_breakout")
    env.reset()
    ends = [step for step in map(env.step, random_actions(env, 1500)) if step.is_last[0]]
    assert ends
    assert all(step.is_terminal[0] for step in ends)


def test_several_games_differ_and_repeat_for_the_same_seed():
    def play(seed):
        env = envs.make("atari_pong", num_envs=3, seed=seed)
        env.reset()
        steps = [env.step(action) for action in random_actions(env, 40)]
        env.close()
        return steps

    one, two, three = play(0), play(0), play(1)
    for a, b in zip(one, two, strict=True):
        assert_equal(a, b)
    images = one[-1].observation["image"]
    assert images.shape == (3, 96, 96, 1)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images, three[-1].observation["image"])


def test_one_env_forks_and_several_do_not():
    one, two = envs.make("atari_pong", num_envs=1, seed=0), envs.make("atari_pong", num_envs=2, seed=0)
    assert one.can_fork
    assert not two.can_fork
    with pytest.raises(EnvironmentFault, match="truncated"):
        two.get_state()
    one.reset(), two.reset()
    assert one.render()[0].shape == (210, 160, 3)
    assert [frame.shape for frame in two.render()] == [(96, 96, 3)] * 2
    one.close(), two.close()


def test_every_published_game_exists():
    assert len(set(ATARI_26)) == 26
    assert len(set(ATARI_57)) == 57
    assert set(ATARI_57) <= set(roms.get_all_rom_ids())


def test_mistakes_are_named():
    with pytest.raises(EnvironmentFault, match="did you mean pong"):
        envs.make("atari_pomg", seed=0)
    with pytest.raises(EnvironmentFault, match=r"--environment.image-size"):
        envs.make("atari_pong", seed=0, settings=EnvSettings(image_size=(400, 64)))
    with pytest.raises(EnvironmentFault, match=r"--environment.sticky"):
        envs.make("atari_pong", seed=0, settings=EnvSettings(sticky=1.5))
    with pytest.raises(EnvironmentFault, match=r"--environment.camera has no meaning"):
        envs.make("atari_pong", seed=0, settings=EnvSettings(camera=1))
