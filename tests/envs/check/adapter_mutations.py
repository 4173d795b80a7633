"""Seeded faults of the adapter: the user's environment is right, and the `Environment` around it is not."""

from __future__ import annotations

import numpy as np

from envs.environment import Environment, EnvSettings, env_seeds
from envs.gym import GymSimulator
from envs.loop import LoopEnvironment
from envs.spaces import Timestep


class Faulty(LoopEnvironment):
    """A correct environment; subclasses override `change`."""

    def __init__(self, builders, **settings):
        super().__init__(builders, **settings)
        self.before: Timestep | None = None

    def reset(self) -> Timestep:
        return self.show(super().reset())

    def step(self, action: np.ndarray) -> Timestep:
        return self.show(super().step(action))

    def show(self, timestep: Timestep) -> Timestep:
        before, self.before = self.before or timestep, timestep
        return self.change(timestep, before)

    def change(self, timestep: Timestep, before: Timestep) -> Timestep:
        return timestep


class IsFirstLate(Faulty):
    def change(self, timestep, before):
        return timestep._replace(is_first=before.is_first.copy())


class IsFirstOnlyOnce(Faulty):
    def change(self, timestep, before):
        return timestep if timestep is before else timestep._replace(is_first=np.zeros_like(timestep.is_first))


class IsLastLate(Faulty):
    def change(self, timestep, before):
        return timestep._replace(is_last=before.is_last.copy(), is_terminal=before.is_terminal.copy())


class TruncationIsTerminal(Faulty):
    def change(self, timestep, before):
        return timestep._replace(is_terminal=timestep.is_last.copy())


class TerminalIsTruncation(Faulty):
    def change(self, timestep, before):
        return timestep._replace(is_terminal=np.zeros_like(timestep.is_last))


class RewardLate(Faulty):
    def change(self, timestep, before):
        return timestep._replace(reward=np.where(timestep.is_first, 0, before.reward).astype(np.float32))


class RewardAtReset(Faulty):
    def change(self, timestep, before):
        return timestep._replace(reward=np.where(timestep.is_first, before.reward, timestep.reward).astype(np.float32))


class RewardClipped(Faulty):
    def change(self, timestep, before):
        return timestep._replace(reward=np.sign(timestep.reward))


class RewardIsFloat64(Faulty):
    def change(self, timestep, before):
        return timestep._replace(reward=timestep.reward.astype(np.float64))


class ActionLate(Faulty):
    held = None

    def step(self, action):
        action, self.held = (action if self.held is None else self.held), action
        return super().step(action)


class ActionShifted(Faulty):
    def step(self, action):
        return super().step(np.roll(action, 1, axis=-1))


class ObservationShared(Faulty):
    def change(self, timestep, before):
        if not hasattr(self, "buffers"):
            self.buffers = {key: array.copy() for key, array in timestep.observation.items()}
        for key, array in timestep.observation.items():
            self.buffers[key][...] = array
        return timestep._replace(observation=dict(self.buffers))


class LastObservationOfTheStepBefore(Faulty):
    def change(self, timestep, before):
        return timestep._replace(observation=before.observation) if timestep.is_last.any() else timestep


def maker(kind: type[Faulty], world):
    """Seed and number to a faulty environment of a correct world."""

    def make(seed: int, num_envs: int) -> Environment:
        def build(seed: int) -> GymSimulator:
            return GymSimulator(world(), name=world.__name__, seed=seed, settings=EnvSettings())

        return kind([build] * num_envs, seeds=env_seeds(seed, num_envs), settings=EnvSettings())

    return make


ADAPTER_MUTATIONS = {kind.__name__: kind for kind in Faulty.__subclasses__()}
