"""`dreamer/Needle-v0`: something coloured is seen, left behind for as long as one likes, and looked at again.

A corridor of 5 x 13 cells, of which the 5 x 5 around the agent are shown, 4 x 4 pixels each. In the left part lies a
needle, in one of four colours at one of fourteen places. Reaching it gives a reward of 1 when the agent comes from the
right end; so it pays to come and go, and to know where the needle lies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

ID = "dreamer/Needle-v0"
IDS = {ID: "envs.needle:Needle"}
ROWS, COLUMNS, REACH, CELL = 5, 13, 2, 4  # cells; the agent sees so many to each side, of so many pixels
SIDE = (2 * REACH + 1) * CELL
HOME = (2, 2)  # row, column: from here every place where a needle may lie is seen
PLACES = tuple((row, column) for row in range(ROWS) for column in range(3) if (row, column) != HOME)
COLOURS = np.array([[220, 40, 40], [40, 200, 40], [60, 90, 250], [230, 210, 30]], np.uint8)
FLOOR, WALL, AGENT, READY = 30, 90, 160, 250  # greys; the agent is brighter when the needle is worth something
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "stay": (0, 0)}
LIMIT = 400  # steps of an episode
COLOURED = 40  # difference between the brightest and the darkest channel from which a cell is no grey


class Seen(NamedTuple):
    """A needle in a frame: number of its colour, row and column in the frame."""

    colour: int
    row: int
    column: int


class Needle(gymnasium.Env):
    """The corridor. Actions are the `MOVES`, in their order; a wall stops them."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Discrete(len(MOVES))

    def __init__(self) -> None:
        self._agent, self._place, self._colour = HOME, PLACES[0], 0
        self._is_ready, self._steps = False, 0

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return list(MOVES)

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._agent, self._is_ready, self._steps = HOME, False, 0
        self._place = PLACES[self.np_random.integers(len(PLACES))]
        self._colour = int(self.np_random.integers(len(COLOURS)))
        return self._frame(), {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        row, column = np.add(self._agent, list(MOVES.values())[int(action)])
        self._agent = (int(np.clip(row, 0, ROWS - 1)), int(np.clip(column, 0, COLUMNS - 1)))
        self._is_ready |= self._agent[1] == COLUMNS - 1
        reward = float(self._is_ready and self._agent == self._place)
        if reward:
            self._is_ready = False
        self._steps += 1
        return self._frame(), reward, False, self._steps >= LIMIT, {}

    def get_state(self) -> dict[str, np.ndarray]:
        """The open episode; the random numbers are gymnasium's and saved with them."""
        return {
            "agent": np.array(self._agent),
            "place": np.array(self._place),
            "numbers": np.array([self._colour, self._is_ready, self._steps]),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `get_state`."""
        (row, column), (needle_row, needle_column) = state["agent"].tolist(), state["place"].tolist()
        self._agent, self._place = (row, column), (needle_row, needle_column)
        self._colour, is_ready, self._steps = state["numbers"].tolist()
        self._is_ready = bool(is_ready)

    def _frame(self) -> np.ndarray:
        world = np.full((ROWS + 2 * REACH, COLUMNS + 2 * REACH, 3), WALL, np.uint8)
        world[REACH:-REACH, REACH:-REACH] = FLOOR
        world[self._place[0] + REACH, self._place[1] + REACH] = COLOURS[self._colour]
        row, column = self._agent
        view = world[row : row + 2 * REACH + 1, column : column + 2 * REACH + 1].copy()
        if self._agent != self._place:
            view[REACH, REACH] = READY if self._is_ready else AGENT
        return view.repeat(CELL, axis=0).repeat(CELL, axis=1)


def read(frame: np.ndarray) -> Seen | None:
    """The needle in a frame, true or predicted: the cell that is least grey; None where all are grey."""
    cells = frame.reshape(2 * REACH + 1, CELL, 2 * REACH + 1, CELL, 3).mean(axis=(1, 3))
    colour = cells.max(axis=-1) - cells.min(axis=-1)
    if colour.max() < COLOURED:
        return None
    row, column = np.unravel_index(int(colour.argmax()), colour.shape)
    difference = np.square(COLOURS.astype(float) - cells[row, column]).sum(axis=-1)
    return Seen(int(difference.argmin()), int(row), int(column))
