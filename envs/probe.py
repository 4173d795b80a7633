"""Five tiny environments whose best score is known: each isolates one ability that a broken learner lacks.

| id | ability | best score | of a random policy |
|---|---|---|---|
| `dreamer/ProbeValue-v0` | value of a constant reward | 1 | 1 |
| `dreamer/ProbeDiscount-v0` | a reward one step later | 1 | 1 |
| `dreamer/ProbeContext-v0` | the action depends on the observation | 1 | 1/2 |
| `dreamer/ProbeMemory-v0` | a cue is remembered for 5 steps | 1 | 1/2; without memory 7/12 at best |
| `dreamer/ProbeContinuous-v0` | a continuous action meets a target | 1 | 1/3 |

Value of the first observation under the best policy: `ProbeDiscount` has `discount`, its second observation 1.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

IDS = {
    f"dreamer/Probe{name}-v0": f"envs.probe:Probe{name}"
    for name in ("Value", "Discount", "Context", "Memory", "Continuous")
}
MEMORY_STEPS = 5  # for which the cue is out of sight


class Probe(gymnasium.Env):
    """Base: an episode of a fixed number of steps around one hidden number."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    episode_steps = 1

    def __init__(self) -> None:
        self._step = 0
        self._hidden = 0.0

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        self._hidden = self._draw()
        return self._observation(), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        is_end = self._step == self.episode_steps
        return self._observation(), self._reward(action) if is_end else 0.0, is_end, False, {}

    def _draw(self) -> float:
        """The hidden number of an episode: -1 or 1."""
        return float(self.np_random.integers(2) * 2 - 1)

    def _observation(self) -> np.ndarray:
        return np.array([self._hidden], np.float32)

    def _reward(self, action: Any) -> float:
        """1 where the action tells the hidden number's sign."""
        return float((action == 1) == (self._hidden > 0))

    def get_state(self) -> dict[str, np.ndarray]:
        """The open episode; the random numbers are gymnasium's and saved with them."""
        return {"step": np.array(self._step), "hidden": np.array(self._hidden)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`."""
        self._step, self._hidden = int(state["step"]), float(state["hidden"])


class ProbeValue(Probe):
    """One step, reward 1 whatever one does."""

    def _draw(self) -> float:
        return 0.0

    def _reward(self, action: Any) -> float:
        return 1.0


class ProbeDiscount(ProbeValue):
    """Two steps, seen as 0 and 1; the reward of 1 comes with the second."""

    episode_steps = 2

    def _observation(self) -> np.ndarray:
        return np.array([float(self._step > 0)], np.float32)


class ProbeContext(Probe):
    """A contextual bandit: one step, reward 1 where the action equals the sign that is shown."""


class ProbeMemory(Probe):
    """The sign is shown at the first step only; each of the six actions that equals it earns a sixth.

    So the sign is worth remembering for one step as well as for five, and every step longer pays.
    """

    episode_steps = MEMORY_STEPS + 1

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, is_end, _, info = super().step(action)
        return observation, self._reward(action) / self.episode_steps, is_end, False, info

    def _observation(self) -> np.ndarray:
        return np.array([self._hidden if self._step == 0 else 0.0], np.float32)


class ProbeContinuous(Probe):
    """A target in -1 .. 1 is shown; reward 1 - (action - target)**2."""

    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def _draw(self) -> float:
        return float(self.np_random.uniform(-1.0, 1.0))

    def _reward(self, action: Any) -> float:
        return 1.0 - float(np.square(action - self._hidden).sum())
