"""How many updates are due: the train ratio, exactly."""

from __future__ import annotations

from fractions import Fraction
from typing import Any


class TrainRatio:
    """Replayed steps per agent step, kept exactly over any number of steps.

    One update replays `batch_steps` steps, so `ratio / batch_steps` updates are due per agent step. What is left over
    is carried in integers, so that nothing drifts.

    Args:
        ratio: replayed steps per agent step, as the nearest fraction with a denominator up to a million.
        batch_steps: trained steps of one batch, `B * T`.

    Raises:
        ValueError: the ratio is not positive.
    """

    def __init__(self, ratio: float, *, batch_steps: int) -> None:
        updates_per_step = Fraction(ratio).limit_denominator(1_000_000) / batch_steps
        if updates_per_step <= 0:
            raise ValueError(f"train_ratio must be positive, but is {ratio}; 32 to 1024 are usual.")
        self._gain, self._cost = updates_per_step.as_integer_ratio()  # a step earns `gain`, an update costs `cost`
        self._credit = 0
        self._agent_steps: int | None = None  # at the last call

    @property
    def agent_steps_per_update(self) -> float:
        """For display."""
        return self._cost / self._gain

    def updates_due(self, agent_steps: int) -> int:
        """Updates to do now; ask only once the replay is ready, since the first call starts the clock with one update.

        Args:
            agent_steps: steps of the run so far, over all environments.
        """
        if self._agent_steps is None:
            self._agent_steps = agent_steps
            return 1
        self._credit += (agent_steps - self._agent_steps) * self._gain
        self._agent_steps = agent_steps
        due = max(0, self._credit // self._cost)  # negative after updates that were made ahead
        self._credit -= due * self._cost
        return due

    def give_back(self, updates: int) -> None:
        """Takes back updates of `updates_due` that were not made; they are due at its next call."""
        self._credit += updates * self._cost

    def pass_over(self, agent_steps: int) -> None:
        """Steps for which no update is due, as replay has too little to train on; before the first update: no change.

        Args:
            agent_steps: as for `updates_due`.
        """
        if self._agent_steps is not None:
            self._agent_steps = agent_steps

    def make_ahead(self, *, max_steps: int) -> bool:
        """Takes one update that is not due yet; later calls of `updates_due` give one less.

        Args:
            max_steps: agent steps from now within which it has to become due.

        Returns:
            Whether there is such an update.
        """
        if self._agent_steps is None or self._credit - self._cost < -max_steps * self._gain:
            return False
        self._credit -= self._cost
        return True

    def state(self) -> dict[str, Any]:
        """The clock and the remainder, as JSON."""
        return {"agent_steps": self._agent_steps, "credit": self._credit, "cost": self._cost}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where the saved one was, without a burst, also if the ratio has changed."""
        self._agent_steps = state["agent_steps"]
        self._credit = state["credit"] * self._cost // state["cost"]
