"""When a run saves itself, what became of it, and when it is better to stop than to go on unsaved."""

from __future__ import annotations

import time
from collections.abc import Callable

from dreamer.config import CheckpointConfig
from dreamer.training.checkpoint import CheckpointError


class Saving:
    """The saves of one process, one at a time: the next one waits its full interval after the last has ended.

    Args:
        config: how often, and how many failures in a row end the run.

    Attributes:
        failures: how many saves failed.
    """

    def __init__(self, config: CheckpointConfig) -> None:
        self._config = config
        self._ended = time.monotonic()
        self._seconds: float | None = None  # of the last save
        self._in_a_row = 0
        self.failures = 0

    @property
    def due(self) -> bool:
        """Whether it is time again. A save that took longer than the interval is not followed by another at once."""
        return time.monotonic() - self._ended >= self._config.every_seconds

    def attempt(self, save: Callable[[], None]) -> CheckpointError | None:
        """Saves, and returns the error if that failed: earlier checkpoints are intact, the next try may succeed."""
        began = time.monotonic()
        try:
            save()
        except (CheckpointError, RuntimeError) as error:  # the second: of a device that has lost its arrays
            self.failures += 1
            self._in_a_row += 1
            return error if isinstance(error, CheckpointError) else CheckpointError(str(error))
        else:
            self._in_a_row = 0
            return None
        finally:
            self._ended = time.monotonic()
            self._seconds = self._ended - began

    def require_hope(self, error: CheckpointError) -> None:
        """Ends a run that would train on without ever being saved.

        Raises:
            CheckpointError: as many saves in a row as are allowed have failed; `error` is the last.
        """
        if self._in_a_row >= self._config.max_failures:
            raise CheckpointError(
                f"{self._in_a_row} saves in a row failed, so the run stops here; nothing was removed, and the same "
                f"command continues from the last good checkpoint (--checkpoint.max-failures allows more). {error}"
            ) from error

    def scalars(self) -> dict[str, float]:
        """For the log: failures so far, and how long the last save took."""
        seconds = {} if self._seconds is None else {"checkpoint/seconds": self._seconds}
        return {"checkpoint/failures": self.failures, **seconds}
