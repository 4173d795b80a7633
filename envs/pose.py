"""Puts a simulator where an observation says it is, so that a predicted observation can be drawn.

Only for tasks whose observation tells all that is to be seen; the rest of their state (random numbers, the time, where
on a track without end a body is) stays as it was. Works on the named arrays of `Environment.get_state`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from envs.environment import Environment, State
from envs.spaces import ImageSpec

Observation = dict[str, np.ndarray]  # of one environment, without leading axes
Pose = Callable[[Observation], np.ndarray]  # to the state of a classic task, or to the joint positions of a DMC task
CLASSIC, PHYSICS = "0/env/state", "0/physics"  # of the first environment
WALKER_HEIGHT = 1.3  # of the torso where its joint is at 0
QPOS = 1  # where joint positions begin in `mjSTATE_INTEGRATION`, after the time


def pose_of(environment: Environment) -> Callable[[State, Observation], State] | None:
    """From a state and an observation to the state that looks so; None where the observation does not tell."""
    protocol: dict[str, Any] = environment.protocol
    if not environment.can_fork or any(isinstance(part, ImageSpec) for part in environment.observation_spec.values()):
        return None
    if pose := CLASSIC_TASKS.get(str(protocol.get("class", "")).rpartition(".")[2]):
        return lambda state, observation: state | {CLASSIC: np.asarray(pose(observation), np.float64)}
    if pose := DMC_DOMAINS.get(protocol.get("domain", "")):
        return lambda state, observation: _place(state, pose(observation))
    return None


def _place(state: State, positions: np.ndarray) -> State:
    physics = np.array(state[PHYSICS])
    physics[QPOS : QPOS + len(positions)] = positions
    return state | {PHYSICS: physics}


def _angles(cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """Angles between each part of a chain and the one before it."""
    return np.diff(np.arctan2(sines, cosines), prepend=0.0)


def _pendulum(observation: Observation) -> np.ndarray:
    cosine, sine, speed = observation["state"]
    return np.array([np.arctan2(sine, cosine), speed])


def _acrobot(observation: Observation) -> np.ndarray:
    cosine, sine, inner_cosine, inner_sine, *speeds = observation["state"]
    return np.array([np.arctan2(sine, cosine), np.arctan2(inner_sine, inner_cosine), *speeds])


def _dmc_cartpole(observation: Observation) -> np.ndarray:
    cart, *poles = observation["position"]
    return np.array([cart, *_angles(np.array(poles[0::2]), np.array(poles[1::2]))])


def _dmc_acrobot(observation: Observation) -> np.ndarray:
    sines, cosines = np.split(observation["orientations"], 2)
    return _angles(cosines, sines)


def _dmc_walker(observation: Observation) -> np.ndarray:
    """Torso, then thigh, leg and foot of the right and of the left; the joints turn against the axis of the angles."""
    cosines, sines = observation["orientations"][0::2], observation["orientations"][1::2]
    torso, *legs = np.arctan2(sines, cosines)
    joints = [np.diff(np.array([torso, *leg])) for leg in (legs[:3], legs[3:])]
    height = float(observation["height"][0]) - WALKER_HEIGHT
    return np.array([height, 0.0, torso, *-np.concatenate(joints)])


CLASSIC_TASKS: dict[str, Pose] = {
    "CartPoleEnv": lambda observation: observation["state"],
    "MountainCarEnv": lambda observation: observation["state"],
    "Continuous_MountainCarEnv": lambda observation: observation["state"],
    "PendulumEnv": _pendulum,
    "AcrobotEnv": _acrobot,
}
DMC_DOMAINS: dict[str, Pose] = {
    "cartpole": _dmc_cartpole,
    "pendulum": lambda observation: _angles(observation["orientation"][:1], observation["orientation"][1:]),
    "acrobot": _dmc_acrobot,
    "walker": _dmc_walker,
    "cheetah": lambda observation: np.array([0.0, *observation["position"]]),
    "hopper": lambda observation: np.array([0.0, *observation["position"]]),
    "ball_in_cup": lambda observation: observation["position"],
    "point_mass": lambda observation: observation["position"],
}
