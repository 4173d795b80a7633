"""What becomes of rewards and observations that are NaN or infinite (`EnvSettings.nonfinite`): none is ever stored.

| policy | a value that is not finite |
|---|---|
| `stop` | ends the run, in a sentence that names the environment, the key and the index |
| `drop_episode` | cuts the episode after its last good step; the environment is reset |
| `zero` | becomes 0 |
"""

from __future__ import annotations

import sys

import numpy as np

from envs.environment import NonFinite
from envs.spaces import ObservationSpec, Timestep, VectorSpec

EXTREME = 1e6  # finite rewards beyond it work (symlog), but are rarely meant


class NonFiniteGate:
    """Where the values of one `Environment` enter.

    Float images are checked by `envs.image`, where they become integers; `refuse` is told of theirs.

    Args:
        policy: `stop`, `drop_episode` or `zero`.
        spec: kinds of the observation's arrays.
        name: of the environment.

    Attributes:
        steps: of the environment so far, counted by it, for the messages.
        cut: episodes that were cut.
        zeroed: arrays in which values became 0.
    """

    def __init__(self, policy: str, spec: ObservationSpec, *, name: str) -> None:
        self._policy, self._name = policy, name
        self._vectors = [key for key, part in spec.items() if isinstance(part, VectorSpec)]
        self._has_warned_of_extremes = False
        self.steps = -1  # the first is a reset
        self.cut = self.zeroed = 0

    def admit(self, timestep: Timestep) -> np.ndarray:
        """Looks at what `N` environments returned; values that become 0 do so in place.

        Returns:
            bool `[N]`, the environments whose episode has to be cut here.

        Raises:
            NonFinite: the policy is `stop`, or an episode begins with such a value.
        """
        rows = np.zeros(len(timestep.reward), bool)
        arrays = {"reward": timestep.reward} | {
            f"observation {key!r}": timestep.observation[key] for key in self._vectors
        }
        for label, array in arrays.items():
            if np.isfinite(array).all():
                continue
            for row in np.flatnonzero(~np.isfinite(array).reshape(len(rows), -1).all(1)):
                if self._policy == "zero":
                    self._zero(array, int(row), label)
                elif not rows[row]:
                    rows[row] = True
                    error = NonFinite(f"the {label} is {_first(array[row])}")
                    self.refuse(error, row=int(row), is_first=bool(timestep.is_first[row]))
        self._warn_of_extremes(timestep.reward)
        return rows

    def refuse(self, error: NonFinite, *, row: int, is_first: bool) -> None:
        """Counts and tells of an episode that has to be cut.

        Raises:
            NonFinite: as `admit`.
        """
        what = f"{self._name}: environment {row}, step {self.steps:,}: {error}"
        if self._policy != "drop_episode" or is_first:
            remedy = "" if is_first else ", or choose --environment.nonfinite drop_episode or zero"
            raise NonFinite(f"{what}; mend the environment{remedy}") from error
        self.cut += 1
        _tell(self.cut, f"{what}; its episode is cut and it is reset")

    def _zero(self, array: np.ndarray, row: int, label: str) -> None:
        self.zeroed += 1
        _tell(
            self.zeroed,
            f"{self._name}: environment {row}, step {self.steps:,}: the {label} is {_first(array[row])}; taken as 0",
        )
        array[row] = np.where(np.isfinite(array[row]), array[row], 0)

    def _warn_of_extremes(self, reward: np.ndarray) -> None:
        if not self._has_warned_of_extremes and (np.abs(reward) > EXTREME).any():
            self._has_warned_of_extremes = True
            value = reward[np.abs(reward).argmax()]
            print(f"WARNING: {self._name}: a reward is {value:g}; is that meant?", file=sys.stderr, flush=True)


def _first(values: np.ndarray) -> str:
    """The first value that is not finite, and its place where there are several."""
    values = np.atleast_1d(values)
    index = np.argwhere(~np.isfinite(values))[0]
    place = f" at index {', '.join(map(str, index))}" if values.size > 1 else ""
    return f"{values[tuple(index)]}{place}"


def _tell(count: int, what: str) -> None:
    """Warns of the 1st, 2nd, 4th, 8th ... time."""
    if count & (count - 1) == 0:
        times = f" ({count} times so far)" if count > 1 else ""
        print(f"WARNING: {what}{times}", file=sys.stderr, flush=True)
