"""Bodies fall, speed up and slow down as their scaled world says, on the real MuJoCo."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from envs.environment import Environment, EnvironmentFault
from envs.perturb import perturb
from envs.pose import PHYSICS, QPOS
from envs.spaces import action_width

pytest.importorskip("dm_control", reason="dm-control does not install on Python 3.13: labmaze has no wheel for it")

# dm_control itself: a deprecated attribute in dog.xml, GLFW without a display.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dm_control")


def begun(name: str, **factors: float) -> Environment:
    environment = envs.make(name, num_envs=1, seed=0)
    environment.reset()
    perturb(environment, **factors)
    return environment


def steps(environment: Environment, num: int, *, key: str, action: float | None = None) -> np.ndarray:
    """What is observed under one action, or under random ones that are always the same, `[num, ...]`."""
    width = action_width(environment.action_spec)
    actions = np.random.default_rng(0).uniform(-1, 1, (num, 1, width)).astype(np.float32)
    if action is not None:
        actions = np.full_like(actions, action)
    return np.stack([environment.step(one).observation[key][0] for one in actions])


def place(environment: Environment, *joints: float) -> None:
    """Gives joints their positions, then their speeds."""
    state = environment.get_state()
    physics = np.array(state[PHYSICS])
    physics[QPOS : QPOS + len(joints)] = joints
    environment.set_state(state | {PHYSICS: physics})


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_a_ball_falls_by_the_factor_of_gravity(factor: float):
    falls = [np.diff(steps(begun("dmc_ball_in_cup_catch", gravity=g), 4, key="velocity", action=0.0)[:, 3])
             for g in (1.0, factor)]  # fmt: skip
    assert np.all(falls[0] < -0.02)
    np.testing.assert_allclose(falls[1], factor * falls[0], rtol=1e-4)


def test_twice_the_mass_takes_twice_the_force():
    """A cart at rest, pushed by one force: without gravity and friction its pole only adds to what is pushed."""
    speeds = []
    for mass in (1.0, 2.0):
        environment = begun("dmc_cartpole_balance", mass=mass, gravity=0, friction=0)
        place(environment, 0.0, 0.0, 0.0, 0.0)
        speeds.append(steps(environment, 1, key="velocity", action=1.0)[0])
    np.testing.assert_allclose(speeds[1], speeds[0] / 2, rtol=1e-3)
    assert speeds[0][0] > 0.1


def test_friction_slows_down_by_its_factor():
    """The speed of a pendulum without gravity falls as exp(-damping t / inertia)."""
    decays = []
    for friction in (0.0, 1.0, 2.0):
        environment = begun("dmc_pendulum_swingup", gravity=0, friction=friction)
        place(environment, 0.0, 3.0)
        velocity = steps(environment, 10, key="velocity", action=0.0)[:, 0]
        decays.append(np.log(velocity[0] / velocity[-1]))
    assert decays[0] == 0
    np.testing.assert_allclose(decays[2], 2 * decays[1], rtol=0.02)
    assert decays[1] > 0.05


def test_contacts_are_scaled_with_the_joints_and_what_a_task_wrote_is_too():
    ordinary, slippery = (begun("dmc_finger_spin", friction=friction) for friction in (1.0, 0.25))
    hinge = ordinary.get_state()["0/model/dof_damping"]
    assert hinge[-1] == 0.03  # as the task wants it
    state = slippery.get_state()
    np.testing.assert_array_equal(state["0/model/dof_damping"], hinge / 4)
    assert state["0/model/geom_friction"].max() > 0
    perturb(slippery, friction=4.0)
    assert "0/model/geom_friction" not in slippery.get_state()  # that of the suite again


@pytest.mark.parametrize("name", ["dmc_walker_walk", "dmc_quadruped_run"])  # contacts; sensors, actuators' states
def test_factors_of_one_change_no_bit(name: str):
    key = "velocity" if "walker" in name else "egocentric_state"
    untouched = envs.make(name, num_envs=1, seed=0)
    untouched.reset()
    np.testing.assert_array_equal(steps(begun(name), 60, key=key), steps(untouched, 60, key=key))


def test_forks_carry_their_world_and_lead_back_to_the_ordinary_one():
    scaled = envs.make("dmc_walker_walk", num_envs=1, seed=0)
    scaled.reset()
    before = scaled.fork_state()
    ordinary = steps(scaled, 40, key="velocity")
    scaled.load_fork(before)
    perturb(scaled, gravity=0.5, mass=1.25, friction=0.8)
    steps(scaled, 10, key="velocity")
    fork, state = scaled.fork_state(), scaled.get_state()
    wanted = steps(scaled, 40, key="velocity")
    other = envs.make("dmc_walker_walk", num_envs=1, seed=1)
    other.set_state(state)
    np.testing.assert_array_equal(steps(other, 40, key="velocity"), wanted)
    scaled.load_fork(fork)
    np.testing.assert_array_equal(steps(scaled, 40, key="velocity"), wanted)
    scaled.load_fork(before)
    np.testing.assert_array_equal(steps(scaled, 40, key="velocity"), ordinary)
    assert not np.array_equal(ordinary, wanted)


def test_a_reset_keeps_the_world_and_half_of_twice_is_the_ordinary_one():
    environment = begun("dmc_ball_in_cup_catch", gravity=2.0)
    environment.reset()
    heavy = np.diff(steps(environment, 2, key="velocity", action=0.0)[:, 3])
    perturb(environment, gravity=0.5)
    environment.reset()
    np.testing.assert_allclose(2 * np.diff(steps(environment, 2, key="velocity", action=0.0)[:, 3]), heavy, rtol=1e-4)


def test_it_works_before_the_first_reset_and_for_several():
    environment = envs.make("dmc_ball_in_cup_catch", num_envs=2, seed=0)
    perturb(environment, gravity=0.0)
    first = environment.reset().observation["velocity"]
    last = environment.step(np.zeros((2, 2), np.float32)).observation["velocity"]
    np.testing.assert_allclose(last, first, atol=1e-6)


def test_what_makes_no_world_is_one_sentence():
    environment = begun("dmc_cartpole_balance")
    with pytest.raises(EnvironmentFault, match="0 times its mass"):
        perturb(environment, mass=0.0)
    with pytest.raises(EnvironmentFault, match="nan times its gravity"):
        perturb(environment, gravity=float("nan"))
    with pytest.raises(EnvironmentFault, match="CartPole-v1 has no physics that could be scaled"):
        perturb(envs.make("CartPole-v1", num_envs=1, seed=0))
