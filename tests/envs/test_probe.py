"""The probes' best and random scores are what their docstring says."""

from __future__ import annotations

import numpy as np
import pytest

import envs
from envs import probe

EPISODES = 300


def score(name, policy):
    env = envs.make(f"dreamer/Probe{name}-v0", num_envs=1, seed=0)
    timestep, total, ended, memory = env.reset(), 0.0, 0, {}
    while ended < EPISODES:
        total += float(timestep.reward[0])
        ended += int(timestep.is_last[0])
        assert timestep.is_last[0] == timestep.is_terminal[0]
        timestep = env.step(policy(timestep, memory)[None].astype(np.float32))
    return total / EPISODES


def random_policy(width):
    rng = np.random.default_rng(0)
    return lambda timestep, memory: rng.uniform(-1, 1, width)


def tell_sign(timestep, memory):
    if timestep.is_first[0]:
        memory["cue"] = timestep.observation["state"][0, 0]
    return np.eye(2)[int(memory["cue"] > 0)]


def meet_target(timestep, memory):
    return timestep.observation["state"][0]


@pytest.mark.parametrize(
    ("name", "best", "optimum", "by_chance", "width"),
    [
        ("Value", random_policy(2), 1.0, 1.0, 2),
        ("Discount", random_policy(2), 1.0, 1.0, 2),
        ("Context", tell_sign, 1.0, 0.5, 2),
        ("Memory", tell_sign, 1.0, 0.5, 2),
        ("Continuous", meet_target, 1.0, 1 / 3, 1),
    ],
)
def test_scores(name, best, optimum, by_chance, width):
    assert score(name, best) == pytest.approx(optimum, abs=1e-5)
    assert score(name, random_policy(width)) == pytest.approx(by_chance, abs=0.1)


def test_memory_hides_the_cue_and_asks_for_it_at_every_step():
    env = envs.make("dreamer/ProbeMemory-v0", num_envs=1, seed=0)
    first = env.reset()
    cue = first.observation["state"][0, 0]
    right = np.eye(2, dtype=np.float32)[[int(cue > 0)]]
    steps = [env.step(right if step % 2 else 1 - right) for step in range(probe.MEMORY_STEPS + 1)]
    assert abs(cue) == 1
    assert not np.array([step.observation["state"] for step in steps]).any()
    assert [float(step.reward[0]) * len(steps) for step in steps] == pytest.approx([0, 1] * (len(steps) // 2))
    assert [bool(step.is_last[0]) for step in steps] == [False] * probe.MEMORY_STEPS + [True]


def test_discount_shows_two_states():
    env = envs.make("dreamer/ProbeDiscount-v0", num_envs=1, seed=0)
    steps = [env.reset(), env.step(np.zeros((1, 2))), env.step(np.zeros((1, 2)))]
    assert [step.observation["state"][0, 0] for step in steps[:2]] == [0, 1]
    assert [float(step.reward[0]) for step in steps] == [0, 0, 1]
