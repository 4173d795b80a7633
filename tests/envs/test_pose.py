"""An observation put into a simulator gives the body the place that the observation was made from."""

from __future__ import annotations

import numpy as np
import pytest

from envs.environment import EnvSettings
from envs.pose import CLASSIC, PHYSICS, QPOS, pose_of
from envs.registry import make
from envs.spaces import action_width

CLASSICS = ("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1")
DMC = {  # joint positions, and which of them are not observed
    "dmc_cartpole_swingup": (2, []),
    "dmc_cartpole_two_poles": (3, []),
    "dmc_pendulum_swingup": (1, []),
    "dmc_acrobot_swingup": (2, []),
    "dmc_walker_walk": (9, [1]),
    "dmc_cheetah_run": (9, [0]),
    "dmc_hopper_hop": (7, [0]),
    "dmc_ball_in_cup_catch": (4, []),
    "dmc_point_mass_easy": (2, []),
}


def moved(name: str):
    """An environment after some random steps, what it observes, and its first state."""
    environment, rng = make(name, num_envs=1, seed=3), np.random.default_rng(0)
    environment.reset()
    blank = environment.get_state()
    for _ in range(15):
        action = rng.uniform(-1, 1, (1, action_width(environment.action_spec))).astype(np.float32)
        timestep = environment.step(action)
    return environment, {key: array[0] for key, array in timestep.observation.items()}, blank


@pytest.mark.parametrize("name", CLASSICS)
def test_classic_control_is_where_it_was(name):
    environment, observation, blank = moved(name)
    pose = pose_of(environment)
    assert pose is not None
    found = pose(blank, observation)[CLASSIC]
    wanted = np.array(environment.get_state()[CLASSIC])
    np.testing.assert_allclose(np.sin(found), np.sin(wanted), atol=1e-5)  # angles are told up to whole turns
    assert not np.allclose(blank[CLASSIC], found)
    environment.close()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in DMC if name != "dmc_walker_walk"]


@pytest.mark.parametrize("name", ["dmc_walker_walk", *SLOW])
def test_bodies_of_the_control_suite_are_where_they_were(name):
    environment, observation, blank = moved(name)
    pose = pose_of(environment)
    assert pose is not None
    count, unseen = DMC[name]
    joints = slice(QPOS, QPOS + count)
    posed = pose(blank, observation)
    found, wanted = np.array(posed[PHYSICS][joints]), np.array(environment.get_state()[PHYSICS][joints])
    found[unseen] = wanted[unseen]
    np.testing.assert_allclose(np.sin(found), np.sin(wanted), atol=1e-4)
    environment.set_state(posed)  # a state like any other
    environment.close()


@pytest.mark.parametrize("name", ["dreamer/Dummy-v0", "atari100k_pong", "FrozenLake-v1"])
def test_what_an_observation_does_not_tell_is_not_drawn(name):
    environment = make(name, num_envs=1, seed=0, settings=EnvSettings())
    assert pose_of(environment) is None
    environment.close()
