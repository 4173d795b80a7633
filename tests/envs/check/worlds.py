"""Three small environments whose rule is known, correct in everything that the check looks at."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

SIDE, GOAL, PIT = 5, (4, 4), (2, 2)
MOVES = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])


class World(gymnasium.Env):
    """What the worlds share: `place`, `move`, `look` and `is_over` are theirs, the clock is here."""

    limit: int

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        self.place()
        return self.look(), {}

    def step(self, action):
        self.elapsed += 1
        reward = self.move(action)
        return self.look(), reward, self.is_over(), self.elapsed >= self.limit, {}


class Grid(World):
    """Walk to the goal (+1, over), not into the pit (-1, over); walls cost 0.1; cut off after 40 steps."""

    observation_space: spaces.Space = spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space: spaces.Space = spaces.Discrete(4)
    limit = 40

    def place(self):
        self.cell = np.array([self.np_random.integers(2), self.np_random.integers(SIDE)])

    def move(self, action) -> float:
        wanted = self.cell + MOVES[action]
        self.cell = np.clip(wanted, 0, SIDE - 1)
        return {GOAL: 1.0, PIT: -1.0}.get(tuple(self.cell.tolist()), -0.1 * float((wanted != self.cell).any()))

    def is_over(self) -> bool:
        return tuple(self.cell.tolist()) in (GOAL, PIT)

    def look(self) -> np.ndarray:
        return (self.cell / (SIDE - 1)).astype(np.float32)

    def get_state(self) -> dict[str, np.ndarray]:
        return {"cell": self.cell, "elapsed": np.array(self.elapsed)}

    def set_state(self, state):
        self.cell, self.elapsed = state["cell"].copy(), int(state["elapsed"])


class Picture(Grid):
    """The same, seen from above; can only be deep-copied."""

    observation_space = spaces.Box(0, 255, (20, 20, 3), np.uint8)
    get_state = set_state = None  # type: ignore[assignment]

    def look(self) -> np.ndarray:
        image = np.full((SIDE, SIDE, 3), 40, np.uint8)
        image[GOAL], image[PIT], image[tuple(self.cell)] = (0, 255, 0), (255, 0, 0), (255, 255, 255)
        return image.repeat(4, 0).repeat(4, 1)


class Slider(World):
    """Push a point with some wind towards 0; over when it slips off, cut off after 50 steps."""

    observation_space = spaces.Dict(
        {"position": spaces.Box(-9.0, 9.0, (2,), np.float32), "speed": spaces.Box(-9.0, 9.0, (2,), np.float32)}
    )
    action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
    limit = 50

    def place(self):
        self.position, self.speed = self.np_random.uniform(-1, 1, 2), np.zeros(2)

    def move(self, action) -> float:
        self.speed = 0.9 * self.speed + 0.1 * np.asarray(action, np.float64) + self.np_random.normal(0, 0.02, 2)
        self.position = self.position + 0.5 * self.speed
        return 1.0 - float(np.abs(self.position).sum())

    def is_over(self) -> bool:
        return bool((np.abs(self.position) > 1.7).any())

    def look(self) -> dict[str, np.ndarray]:
        return {"position": self.position.astype(np.float32), "speed": self.speed.astype(np.float32)}

    def get_state(self) -> dict[str, np.ndarray]:
        return {"position": self.position, "speed": self.speed, "elapsed": np.array(self.elapsed)}

    def set_state(self, state):
        self.position, self.speed = state["position"].copy(), state["speed"].copy()
        self.elapsed = int(state["elapsed"])


WORLDS = (Grid, Picture, Slider)
