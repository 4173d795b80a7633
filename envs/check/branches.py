"""What would have happened under other actions: futures from the same past.

This is the only generic evidence about cause and effect. It needs forks; where an environment can be neither saved nor
deep-copied, the past is played again from its seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.check.player import AdaptedPlayer, Beat, Moment, difference, stream
from envs.environment import EnvironmentFault

MOST_POINTS, MOST_REPLAYED_STEPS = 14, 60
FIDELITY_STEPS = 5


class Branches:
    """Points of one recorded past of the adapted environment, and futures from each.

    The past is that of `seed` and of `actions`, `[T, A]`; `beat` hears what is going on.

    Attributes:
        moments: the recorded past.
        points: indices of moments from which to branch: the start, before unusual rewards, and anywhere.
        ends: indices of moments just before an end.
        trouble: why no future can be trusted, None where they can.
    """

    def __init__(self, player: AdaptedPlayer, *, seed: int, actions: np.ndarray, beat: Beat) -> None:
        self._player, self._seed, self._actions, self._beat = player, seed, actions, beat
        self._forks: dict[int, Any] = {}
        self.moments = stream(player, seed, actions)
        self.points, self.ends = choose_points(self.moments, seed=seed)
        self.trouble = self._fork()
        if self.trouble is not None:
            self._forks = {}
            self.points = [point for point in self.points if point <= MOST_REPLAYED_STEPS][:6]
            self.ends = [point for point in self.ends if point <= MOST_REPLAYED_STEPS]
            self.trouble = self._find_parting()

    @property
    def is_usable(self) -> bool:
        """Whether futures from the same past under the same actions are the same."""
        return self.trouble is None

    def future(self, point: int, actions: np.ndarray) -> list[Moment]:
        """The moments after `point` under other actions."""
        self._go_to(point)
        return [self._player.step(action) for action in actions]

    def reset_instead(self, point: int) -> Moment:
        """The first moment of a new episode, started at `point`."""
        self._go_to(point)
        return self._player.reset()

    def _go_to(self, point: int) -> None:
        if self._forks:
            self._beat("loading a saved state")
            self._player.env.load_fork(self._forks[point])
        else:
            stream(self._player, self._seed, self._actions[:point])

    def _fork(self) -> str | None:
        """Play the past again, save it at every point, and see whether saved states lead to the same future."""
        wanted = {*self.points, *self.ends}
        again = [self._player.start(self._seed)]
        try:
            for index in range(max(wanted, default=0) + 1):
                if index in wanted:
                    self._beat("saving the state")
                    self._forks[index] = self._player.env.fork_state()
                again.append(self._player.step(self._actions[index]))
        except EnvironmentFault as error:
            return str(error)
        return difference(self.moments[: len(again)], again) or self._find_parting()

    def _find_parting(self) -> str | None:
        for point in self.points:
            actions = self._actions[point : point + FIDELITY_STEPS]
            parting = difference(self.moments[point + 1 : point + 1 + len(actions)], self.future(point, actions))
            if parting is not None:
                return f"the future of a restored state is not the same: {parting}"
        return None


def choose_points(moments: list[Moment], *, seed: int) -> tuple[list[int], list[int]]:
    """Where to branch: the start, one and two steps before unusual rewards, anywhere; and just before ends."""
    rng = np.random.default_rng([seed, 7])
    allowed = {i for i in range(len(moments) - FIDELITY_STEPS - 1) if not moments[i].is_last}
    rewards = np.array([float(moment.reward) for moment in moments])
    usual = np.median(rewards)
    events = rng.permutation(np.flatnonzero(rewards != usual))[:4]
    near = [int(event) - back for event in events for back in (1, 2)]
    anywhere = [int(i) for i in rng.permutation(len(moments))]
    chosen = [i for i in dict.fromkeys([0, *near, *anywhere]) if i in allowed]
    ends = [i for i in allowed if moments[i + 1].is_last]
    return chosen[:MOST_POINTS], ends[:5]
