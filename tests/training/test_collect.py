"""Acting while an environment takes its time."""

from __future__ import annotations

import numpy as np

from dreamer.training import collect
from dreamer.training.collect import Collector
from dreamer.training.step import initial_carry
from dreamer.types import CompactLatent
from envs.spaces import Timestep
from tests.model.tiny import tiny_definition


class Slow:
    """Needs to be asked `looks` times before its step is there."""

    num_envs, can_fork, incidents = 1, False, {}

    def __init__(self, looks: int) -> None:
        self.looks, self.log = looks, []

    def reset(self) -> Timestep:
        self.log.append("reset")
        return self.timestep(first=True)

    def begin(self, action: np.ndarray) -> None:
        self.log.append("begin")

    def wait(self, seconds: float) -> bool:
        self.log.append(seconds)
        self.looks -= 1
        return self.looks < 0

    def step(self, action: np.ndarray) -> Timestep:
        self.log.append("step")
        return self.timestep(first=False)

    def timestep(self, *, first: bool) -> Timestep:
        no = np.zeros(1, bool)
        return Timestep({"state": np.zeros((1, 3), np.float32)}, np.zeros(1, np.float32), no | first, no, no)


class Sink:
    def add(self, timestep, *, action, latent) -> None:
        pass


def collector(env: Slow) -> Collector:
    definition = tiny_definition()
    carry = initial_carry(definition, 1)
    latent = CompactLatent(np.zeros((1, 32)), np.zeros((1, 4), np.uint8))

    def policy_step(params, carry_before, *rest):
        return carry, np.zeros((1, 7), np.float32), latent

    return Collector(env, definition=definition, policy_step=policy_step, seed=0)


def test_the_learner_gets_the_time_that_an_environment_needs():
    env, calls = Slow(looks=3), []
    collector(env).step(None, Sink(), meanwhile=lambda: calls.append("work") or True)
    patience = [collect.PATIENCE, *3 * [collect.GLANCE]]
    assert env.log == ["reset", "begin", *patience, "step"]
    assert calls == 3 * ["work"]


def test_a_run_that_ends_does_not_wait():
    env = Slow(looks=1000)
    acting = collector(env)
    acting.step(None, Sink(), meanwhile=lambda: len(env.log) < 6)
    assert env.log == ["reset", "begin", collect.PATIENCE, *3 * [collect.GLANCE]]
    assert not any(name.startswith(collect.TIMESTEP) for name in acting.state())


def test_episodes_of_one_step_are_told_of(monkeypatch, capfd):
    """Their scores and lengths are right, too: an episode that ends at its reset has no step at all."""
    monkeypatch.setattr(collect, "MANY_SHORT", 3)
    env = Slow(looks=0)
    acting = collector(env)
    ended = []
    for first, last in [(1, 0), (0, 1), (1, 1), (1, 0), (0, 1), (1, 0), (0, 1)]:
        timestep = env.timestep(first=bool(first))
        acting._timestep = timestep._replace(reward=timestep.reward + (1 - first), is_last=np.array([bool(last)]))
        ended += acting.step(None, Sink(), meanwhile=lambda: True)
    assert [(episode.score, episode.length) for episode in ended] == [(1, 1), (0, 0), (1, 1), (1, 1)]
    assert capfd.readouterr().err.count("the last 3 episodes ended at their first step") == 1
