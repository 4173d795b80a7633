"""The DeepMind Control suite, on the real MuJoCo."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from envs import rendering
from envs.environment import EnvironmentFault, EnvSettings
from envs.spaces import ImageSpec, VectorSpec, action_width

pytest.importorskip("dm_control", reason="dm-control does not install on Python 3.13: labmaze has no wheel for it")

# dm_control itself: a deprecated attribute in dog.xml, GLFW without a display.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dm_control")


def make(name, *, num_envs=1, seed=0, **settings):
    return envs.make(name, num_envs=num_envs, seed=seed, settings=EnvSettings(**settings))


def actions_of(env, steps, *, seed=0):
    shape = (steps, env.num_envs, action_width(env.action_spec))
    return np.clip(np.random.default_rng(seed).normal(size=shape), -1, 1).astype(np.float32)


def assert_equal(left, right):
    for a, b in zip(left, right, strict=True):
        for key in a.observation:
            np.testing.assert_array_equal(a.observation[key], b.observation[key], err_msg=key)
        for x, y in zip(a[1:], b[1:], strict=True):
            np.testing.assert_array_equal(x, y)


def assert_restorable(name, *, before, after):
    """An environment set to a state, whatever it did before, goes on bit by bit, through resets as well."""
    original, other = make(name, max_episode_steps=60), make(name, max_episode_steps=60)
    original.reset()
    actions = actions_of(original, before + after)
    for action in actions[:before]:
        original.step(action)
    state = original.get_state()
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in state.values())
    other.set_state(state)
    steps = [original.step(action) for action in actions[before:]]
    assert_equal(steps, [other.step(action) for action in actions[before:]])
    other.set_state(state)  # once more, from a later episode
    assert_equal(steps[:50], [other.step(action) for action in actions[before : before + 50]])
    original.close(), other.close()


@pytest.mark.parametrize(
    "name",
    [
        "dmc_walker_walk",  # contacts
        "dmc_reacher_hard",  # targets are written into the model
        "dmc_ball_in_cup_catch",  # an underscore in the domain
        "dmc_quadruped_escape",  # terrain, sensors
        "dmc_dog_fetch",  # actuators with a state, constants noted at the first reset
        "dmc_vision_cartpole_swingup",
    ],
)
def test_a_restored_task_goes_on_bit_by_bit(name):
    assert_restorable(name, before=90, after=60 if name in ("dmc_dog_fetch", "dmc_vision_cartpole_swingup") else 200)


@pytest.mark.slow
def test_every_restored_task_goes_on_bit_by_bit():
    from dm_control import suite

    for domain, task in suite.ALL_TASKS:
        assert_restorable(f"dmc_{domain}_{task}", before=70, after=200)


def test_every_task_has_its_name():
    from dm_control import suite

    from envs.dmc import split_task

    for domain, task in suite.ALL_TASKS:
        assert split_task(f"dmc_{domain}_{task}") == split_task(f"dmc_vision_{domain}_{task}") == (domain, task)
    assert len(suite.ALL_TASKS) > 50


def test_proprio_protocol():
    env = make("dmc_walker_walk", num_envs=2)
    assert env.observation_spec == {"orientations": VectorSpec(14), "height": VectorSpec(1), "velocity": VectorSpec(9)}
    assert env.action_spec == {"action": VectorSpec(6)}
    assert env.action_repeat == env.protocol["action_repeat"] == 2
    assert env.protocol["max_episode_frames"] == 1000
    observation = env.reset().observation
    assert (observation["height"].dtype, observation["height"].shape) == (np.float32, (2, 1))
    assert not np.array_equal(*observation["orientations"])


def test_vision_protocol():
    env = make("dmc_vision_quadruped_walk")
    assert env.observation_spec == {"image": ImageSpec(64, 64, 3)}
    assert env.protocol["camera"] == 2
    image = env.reset().observation["image"]
    assert (image.dtype, image.shape) == (np.uint8, (1, 64, 64, 3))
    assert image.std() > 5
    assert env.render()[0].shape == (240, 320, 3)
    env.close()
    wide = make("dmc_vision_walker_walk", image_size=(48, 80), camera=1)
    assert wide.protocol["camera"] == 1
    assert wide.reset().observation["image"].shape == (1, 48, 80, 3)
    assert make("dmc_vision_walker_walk").protocol["camera"] == 0


def test_rewards_are_summed_and_a_thousand_frames_truncate():
    from dm_control import suite

    env = make("dmc_cartpole_balance", seed=3)
    twin = suite.load("cartpole", "balance", task_kwargs={"random": envs.environment.env_seeds(3, 1)[0]})
    env.reset(), twin.reset()
    for step in range(1, 501):
        action = np.full((1, 1), np.sin(step), np.float32)
        timestep = env.step(action)
        total = sum(twin.step(action[0]).reward for _ in range(2))
        assert timestep.reward[0] == np.float32(total)
        assert timestep.is_last[0] == (step == 500)
        assert not timestep.is_terminal[0]
    assert env.step(action).is_first[0]


def test_an_end_with_discount_zero_terminates():
    env = make("dmc_lqr_lqr_2_1")
    env.reset()
    physics = env._simulators[0]._physics  # bring the masses to rest, where the task ends
    physics.data.qpos[:] = physics.data.qvel[:] = 0
    physics.forward()
    timestep = env.step(np.zeros((1, 1), np.float32))
    assert timestep.is_last[0]
    assert timestep.is_terminal[0]


def test_actions_reach_the_actuators_bounds():
    env = make("dmc_quadruped_walk")
    env.reset()
    simulator = env._simulators[0]
    np.testing.assert_allclose(simulator._codec.decode(np.ones(12, np.float32)), simulator._env.action_spec().maximum)
    np.testing.assert_allclose(simulator._codec.decode(-np.ones(12, np.float32)), simulator._env.action_spec().minimum)


def test_mistakes_are_named():
    with pytest.raises(EnvironmentFault, match="did you mean dmc_walker_walk"):
        make("dmc_walker_wlak")
    with pytest.raises(EnvironmentFault, match="did you mean dmc_vision_ball_in_cup_catch"):
        make("dmc_vision_cup_catch")
    with pytest.raises(EnvironmentFault, match=r"--environment.camera is 9"):
        make("dmc_vision_walker_walk", camera=9)
    with pytest.raises(EnvironmentFault, match="image-size has no meaning"):
        make("dmc_walker_walk", image_size=(64, 64))


def test_a_backend_that_cannot_draw_is_passed_over(monkeypatch):
    tried = []

    def fail_on_egl(backend, *, timeout_seconds):
        tried.append(backend)
        return "no device" if backend == "egl" else None

    monkeypatch.setattr(rendering, "probe", fail_on_egl)
    monkeypatch.setattr(rendering, "CANDIDATES", ("egl", "osmesa"))
    monkeypatch.setitem(rendering.sys.modules, "dm_control._render", None)
    monkeypatch.setenv(rendering.PROVEN, "")
    monkeypatch.setenv(rendering.VARIABLE, "")
    assert rendering.choose_backend(must_render=True) == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert rendering.choose_backend(must_render=True) == "osmesa"
    assert tried == ["egl", "osmesa"]  # proven once, trusted afterwards

    monkeypatch.setattr(rendering, "probe", lambda backend, *, timeout_seconds: "broken")
    monkeypatch.setenv(rendering.PROVEN, "")
    with pytest.raises(EnvironmentFault, match=r"osmesa: broken.*libosmesa6"):
        rendering.choose_backend(must_render=True)
    monkeypatch.setenv(rendering.VARIABLE, "")
    assert rendering.choose_backend(must_render=False) == "off"


def test_a_simulated_gpu_that_the_user_names_and_that_does_not_draw(monkeypatch):
    """Real processes; the picture they draw needs no GPU, but none may be named."""
    script = "import os, sys; sys.exit('no GPU 7' if os.environ.get('MUJOCO_EGL_DEVICE_ID') == '7' else 0)"
    monkeypatch.setattr(rendering, "PROBE", script)
    monkeypatch.setattr(rendering, "CANDIDATES", ("egl", "osmesa"))
    monkeypatch.setitem(rendering.sys.modules, "dm_control._render", None)
    for chosen in ("", "egl"):
        monkeypatch.setenv(rendering.PROVEN, "")
        monkeypatch.setenv(rendering.VARIABLE, chosen)
        monkeypatch.setenv(rendering.GPU_VARIABLE, "7")
        with pytest.raises(EnvironmentFault, match=r"DEVICE_ID is '7', and that GPU .* \(no GPU 7\).*; unset it, or"):
            rendering.choose_backend(must_render=True)
        monkeypatch.setenv(rendering.GPU_VARIABLE, "0")
        assert rendering.choose_backend(must_render=True) == "egl"
    monkeypatch.setattr(rendering, "PROBE", "import os, sys; sys.exit(os.environ['MUJOCO_GL'] == 'egl')")
    monkeypatch.setenv(rendering.PROVEN, "")
    monkeypatch.setenv(rendering.VARIABLE, "")
    assert (
        rendering.choose_backend(must_render=True) == "osmesa"
    )  # where EGL fails anyway, the variable is not at fault


def test_a_hanging_or_crashing_driver_is_noticed(monkeypatch):
    monkeypatch.setattr(rendering, "PROBE", "import time; time.sleep(60)")
    assert rendering.probe("osmesa", timeout_seconds=0.5) == "no picture within 0.5 s"
    monkeypatch.setattr(rendering, "PROBE", "import os; os.abort()")
    assert rendering.probe("osmesa", timeout_seconds=20) == "exit code -6"
    monkeypatch.setattr(rendering, "PROBE", "raise RuntimeError('no EGL')")
    assert rendering.probe("egl", timeout_seconds=20) == "RuntimeError: no EGL"
