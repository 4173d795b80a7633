"""A Minari dataset in the place of the collector: its episodes enter replay as if they were just lived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamer.config import Config
from dreamer.data.layout import BFLOAT16, OBSERVATION
from dreamer.data.trajectories import Steps
from dreamer.exchange.episodes import EpisodeError, to_steps
from dreamer.exchange.minari_store import Dataset, DatasetError
from dreamer.plan import DatasetFacts, describe_spec
from dreamer.training.collect import Episode, Sink
from dreamer.training.state import Definition, Params
from dreamer.training.step import initial_carry
from dreamer.types import CompactLatent
from envs.codec import ActionCodec, ObservationCodec
from envs.environment import Described
from envs.spaces import Timestep

EPISODES = "dataset/episodes"  # in a checkpoint: how many are in replay


class DatasetSource:
    """A dataset that fits an environment and a configuration.

    Args:
        config: of the run; names the dataset.
        environment: whose experience it should be.

    Raises:
        DatasetError: it cannot be read, is of another environment, or has too many steps for replay or too few for a
            batch.

    Attributes:
        facts: for the plan.
    """

    def __init__(self, config: Config, environment: Described) -> None:
        self._data = data = Dataset(config.offline)
        self.facts = DatasetFacts(data.name, data.num_episodes, data.num_steps + data.num_episodes)
        settings = config.environment
        self._observation_codec = ObservationCodec(
            data.observation_space, image_size=settings.image_size, image_layout=settings.image_layout
        )
        self._action_codec = ActionCodec(data.action_space, bound=settings.action_bound)
        if self._observation_codec.spec != environment.observation_spec:
            raise DatasetError(
                f"Dataset {data.name} holds observations of {describe_spec(self._observation_codec.spec)}, and "
                f"{config.env} gives {describe_spec(environment.observation_spec)}; name its own with --env."
            )
        if data.action_space != environment.native_action_space:
            raise DatasetError(
                f"Dataset {data.name} holds actions of {data.action_space}, and {config.env} takes "
                f"{environment.native_action_space}; name its own with --env."
            )
        self._require_fit(config)

    def collector(self, definition: Definition) -> DatasetCollector:
        """What brings it into replay."""
        return DatasetCollector(self, definition)

    def steps(self, *, start: int) -> Iterator[Steps]:
        """Episodes from number `start` on, as replay's steps.

        Raises:
            DatasetError: an episode is damaged, or not of the dataset's spaces.
        """
        for number, episode in enumerate(self._data.episodes(start=start), start):
            try:
                yield to_steps(episode, observation_codec=self._observation_codec, action_codec=self._action_codec)
            except EpisodeError as error:
                raise DatasetError(f"Episode {number} of dataset {self._data.name}: {error}.") from error

    def _require_fit(self, config: Config) -> None:
        replay, steps = config.replay, self.facts.steps
        least = replay.batch_length * (replay.batch_size + 1)
        if steps > replay.capacity:
            raise DatasetError(
                f"Dataset {self.facts.name} has {steps:,} observations and replay holds {replay.capacity:,}: "
                f"--replay.capacity {steps}"
            )
        if steps < least:
            raise DatasetError(
                f"Dataset {self.facts.name} has {steps:,} observations; a batch of {replay.batch_size} x "
                f"{replay.batch_length} needs {least:,}: lower --replay.batch-size."
            )


class DatasetCollector:
    """Brings a dataset into replay, an episode at a step; its state is how many are there, so that it can go on.

    Replay has one row of episodes, one behind the other. Their latents begin as zeros, and the first updates make them.

    Args:
        source: the dataset.
        definition: the networks.
    """

    def __init__(self, source: DatasetSource, definition: Definition) -> None:
        self.num_envs = 1
        self.carry = initial_carry(definition, 1)  # unused: so that checkpoints are alike
        self.incidents: dict[str, int] = {}
        self.open_episode = Episode(0.0, 0)
        self._source, self._read = source, 0
        rssm = definition.config.world.rssm
        unknown: list[Any] = [np.zeros((1, rssm.deter), BFLOAT16), np.zeros((1, rssm.stoch), np.uint8)]
        self._latent = CompactLatent(*unknown)

    @property
    def is_complete(self) -> bool:
        """Whether replay has everything."""
        return self._read >= self._source.facts.episodes

    def step(self, params: Params, sink: Sink, *, meanwhile: Callable[[], bool]) -> list[Episode]:
        """Brings episodes until all are there, or `meanwhile()` is False after one.

        Raises:
            DatasetError: one of them is damaged.
        """
        for steps in self._source.steps(start=self._read):
            for place in range(len(steps["reward"])):
                self._add(sink, {name: array[place : place + 1] for name, array in steps.items()})
            self._read += 1
            if not meanwhile():
                break
        return []

    def state(self) -> dict[str, np.ndarray]:
        """How much is in replay."""
        return {EPISODES: np.asarray(self._read)}

    def restore(self, arrays: dict[str, np.ndarray], carry: object) -> None:
        """Continues where `state` was taken."""
        self._read = int(arrays[EPISODES])

    def _add(self, sink: Sink, step: Steps) -> None:
        observation = {name.removeprefix(OBSERVATION): a for name, a in step.items() if name.startswith(OBSERVATION)}
        flags = {name: step[name] for name in Timestep._fields[1:]}
        sink.add(Timestep(observation, **flags), action=step["action"], latent=self._latent)
