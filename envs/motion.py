"""Balls in a plane, whose laws are known: uniform motion, a parabola, an elastic collision.

| id | what moves |
|---|---|
| `dreamer/Uniform-v0` | one ball, straight on |
| `dreamer/Parabola-v0` | one ball, falling |
| `dreamer/Collision-v0` | two balls on a line that meet; mass as the square of the radius |

Each exists in three splits: as named, for training; `dreamer/UniformCombined-v0`, fast and large balls, each of which
was seen but never together; `dreamer/UniformOutside-v0`, faster than any that was seen. There is one action and no
reward.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

SIDE = 64  # pixels
STEPS = 20  # of an episode
GRAVITY = 0.06  # pixels per step, each step
SMALL, LARGE = (2.5, 3.5), (3.5, 4.5)  # radii in pixels
MEETING = (7, 13)  # steps until two balls meet
CALMER = 0.5  # speeds of two balls, so that both stay in the picture
SLOW, FAST, FASTER = (0.4, 0.8), (0.8, 1.2), (1.4, 1.8)  # pixels per step
KINDS, SPLITS = ("Uniform", "Parabola", "Collision"), ("", "Combined", "Outside")
DARK = 16  # brightness up to which a pixel of a prediction counts as black
FAINT = 3 * 255  # summed brightness below which a ball is not seen, that of three white pixels


class Motion(gymnasium.Env):
    """One of the three laws in one of the three splits. Ball i is drawn in channel i."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Discrete(1)

    def __init__(self, kind: str, split: str) -> None:
        self._kind, self._split = kind, split
        self._place = self._velocity = np.zeros((1, 2))
        self._radius = np.zeros(1)
        self._steps = 0

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        speed, radius = self._draw()
        side = self.np_random.choice([-1.0, 1.0])  # comes from the left or from the right
        middle, height = SIDE / 2, self.np_random.uniform(24, 40)
        if self._kind == "Collision":
            other_speed, other_radius = self._draw()
            speed, other_speed = CALMER * speed, CALMER * other_speed
            gap = (radius + other_radius + self.np_random.uniform(*MEETING) * (speed + other_speed)) / 2
            self._place = np.array([[middle - side * gap, height], [middle + side * gap, height]])
            self._velocity = np.array([[side * speed, 0.0], [-side * other_speed, 0.0]])
            self._radius = np.array([radius, other_radius])
            return self._frame(), {}
        rise = -self.np_random.uniform(0.3, 0.7) if self._kind == "Parabola" else 0.0
        self._place = np.array([[middle - side * 0.5 * speed * STEPS, height]])
        self._velocity, self._radius = np.array([[side * speed, rise]]), np.array([radius])
        return self._frame(), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._kind == "Parabola":
            self._velocity = self._velocity + np.array([[0.0, GRAVITY]])
        self._place = self._place + self._velocity
        if self._kind == "Collision":
            self._collide()
        self._steps += 1
        return self._frame(), 0.0, False, self._steps >= STEPS, {}

    @property
    def velocity(self) -> np.ndarray:
        """Of every ball, in pixels per step, `[balls, 2]`: right, down."""
        return self._velocity.copy()

    def get_state(self) -> dict[str, np.ndarray]:
        """The open episode; the random numbers are gymnasium's and saved with them."""
        balls = np.concatenate([self._place, self._velocity, self._radius[:, None]], axis=1)
        return {"balls": balls, "steps": np.array(self._steps)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`."""
        balls = np.array(state["balls"])
        self._place, self._velocity, self._radius = balls[:, :2], balls[:, 2:4], balls[:, 4]
        self._steps = int(state["steps"])

    def _draw(self) -> tuple[float, float]:
        """Speed and radius of a ball, as the split has them."""
        pairs = {"": [(SLOW, SMALL), (SLOW, LARGE), (FAST, SMALL)], "Combined": [(FAST, LARGE)]}
        options = pairs.get(self._split, [(FASTER, SMALL), (FASTER, LARGE)])
        speed, radius = options[self.np_random.integers(len(options))]
        return float(self.np_random.uniform(*speed)), float(self.np_random.uniform(*radius))

    def _collide(self) -> None:
        """Elastic, on the line: momentum and energy stay."""
        distance, speed = np.diff(self._place[:, 0])[0], np.diff(self._velocity[:, 0])[0]
        if abs(distance) > self._radius.sum() or distance * speed >= 0:
            return  # apart, or parting
        mass = np.square(self._radius)
        common = (mass @ self._velocity[:, 0]) / mass.sum()
        self._velocity[:, 0] = 2 * common - self._velocity[:, 0]

    def _frame(self) -> np.ndarray:
        """Discs with soft edges, so that places can be read to a fraction of a pixel."""
        frame = np.zeros((SIDE, SIDE, 3), np.uint8)
        centre = np.arange(SIDE) + 0.5
        for index, (place, radius) in enumerate(zip(self._place, self._radius, strict=True)):
            distance = np.hypot(centre[None] - place[0], centre[:, None] - place[1])
            frame[..., index] = np.rint(255 * np.clip(radius + 0.5 - distance, 0, 1))
        return frame


IDS: dict[str, Any] = {
    f"dreamer/{kind}{split}-v0": functools.partial(Motion, kind, split) for kind in KINDS for split in SPLITS
}  # gymnasium calls them


def places(frame: np.ndarray, *, balls: int) -> np.ndarray:
    """Where each ball is in a frame, true or predicted, `[balls, 2]` in pixels: right, down. NaN where none is seen."""
    centre = np.arange(SIDE) + 0.5
    found = np.full((balls, 2), np.nan)
    for index in range(balls):
        bright = np.maximum(frame[..., index].astype(np.float64) - DARK, 0.0)
        total = bright.sum()
        if total >= FAINT:
            found[index] = (bright.sum(axis=0) @ centre) / total, (bright.sum(axis=1) @ centre) / total
    return found


def masses(frame: np.ndarray, *, balls: int) -> np.ndarray:
    """How heavy each ball in a frame is, `[balls]`: its area, which is as the square of its radius."""
    return frame[..., :balls].sum(axis=(0, 1), dtype=np.float64) / (255 * np.pi)
