"""The fleet as the trainer sees it: a collector like the one of a single process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import jax
import numpy as np

from dreamer.remote.fleet import Fleet
from dreamer.remote.worker import Row
from dreamer.training.collect import EPISODE, Episode, Sink
from dreamer.training.state import Definition, Params
from dreamer.training.step import PolicyCarry, initial_carry

STEPS = EPISODE + "steps"


class RemoteCollector:
    """Hands the trainer one step of every environment at a time, out of rounds that workers make in advance.

    While the steps of a round are learned from, the next round is under way, with the parameters of the moment when it
    was ordered: those after all updates that were due for the round before. So no step enters replay whose parameters
    are older than two rounds, `2 * --ray.round` steps of every environment. All workers' steps enter in lock step;
    replay, train ratio, counters and logs are those of a single process.

    Workers cannot be set to a state: a resumed run begins with fresh episodes, replay closes those that were open as
    truncated. Rounds that were received or under way but not handed out when the run ended are acted anew.

    Args:
        fleet: the workers; at their beginning.
        definition: the networks.
        round_steps: steps of a round.
    """

    def __init__(self, fleet: Fleet, *, definition: Definition, round_steps: int) -> None:
        self._fleet, self._round_steps = fleet, round_steps
        self.num_envs = fleet.description.num_envs
        self.carry = initial_carry(definition, self.num_envs)  # unused: so that checkpoints are alike
        self.num_steps = 0  # handed out
        self._rows: deque[tuple[Row, ...]] = deque()  # received and not handed out
        self._is_under_way = False
        self._open_episode = Episode(0.0, 0)

    @property
    def incidents(self) -> dict[str, int]:
        """What went wrong so far, with environments and with workers."""
        return self._fleet.incidents

    @property
    def open_episode(self) -> Episode:
        """The longest of the episodes under way, as of the newest step."""
        return self._open_episode

    def step(self, params: Params, sink: Sink, *, meanwhile: Callable[[], bool]) -> list[Episode]:
        """One step of every environment goes into the sink; returns the episodes that ended.

        Args:
            params: for the next round, if it begins now.
            sink: gets the steps.
            meanwhile: called again and again while workers are slow; False: wait no longer, the run ends.

        Raises:
            EnvironmentFault: an environment is at fault, or workers have failed too often.
            NonFiniteActionError: the policy gave what must not enter replay.
        """
        if not self._rows:  # only in the beginning
            self._begin(params)
            self._receive(meanwhile=lambda: True)
        self._begin(params)
        rows = self._rows.popleft()
        timestep, action, latent = jax.tree.map(lambda *parts: np.concatenate(parts), *[row[:3] for row in rows])
        sink.add(timestep, action=action, latent=latent)
        self.num_steps += 1
        self._open_episode = max((row.open_episode for row in rows), key=lambda episode: episode.length)
        if not self._rows:
            self._receive(meanwhile=meanwhile)
        return [episode for row in rows for episode in row.episodes]

    def state(self) -> dict[str, np.ndarray]:
        """The number of the next step."""
        return {STEPS: np.asarray(self.num_steps)}

    def restore(self, arrays: dict[str, np.ndarray], carry: PolicyCarry) -> None:
        """Goes on counting where `state`, of this or of a single process, was taken; episodes begin anew."""
        self.num_steps = int(arrays[STEPS])

    def _begin(self, params: Params) -> None:
        """Orders the next round, unless it is under way. The parameters are copied: an update may donate them."""
        if not self._is_under_way:
            self._fleet.begin(jax.device_get(params), first=self.num_steps + len(self._rows))
            self._is_under_way = True

    def _receive(self, *, meanwhile: Callable[[], bool]) -> None:
        rounds = self._fleet.receive(meanwhile=meanwhile)
        if rounds is not None:
            self._rows.extend(zip(*(result.rows for result in rounds), strict=True))
            self._is_under_way = False
