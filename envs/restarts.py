"""Which failing simulators are started anew, and how often."""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque

import numpy as np

from envs.environment import EnvironmentFault, SimulatorCrash

WINDOW_SECONDS = 600.0


class Restarts:
    """Counts the failures of one simulator, or of a vector environment as a whole (index None).

    Args:
        limit: failures within ten minutes that are forgiven.
        seed: of the simulator that was made first.

    Attributes:
        total: restarts so far.
    """

    def __init__(self, *, limit: int, seed: int) -> None:
        self.limit, self.seed = limit, seed
        self._times: deque[float] = deque()
        self.total = 0

    def forgive(self, error: Exception, *, name: str, index: int | None, action: np.ndarray | None) -> int:
        """Tell of a simulator's failure on stderr; returns the seed of the one that takes the place.

        Raises:
            EnvironmentFault: it has failed too often.
        """
        doing = "at its reset" if action is None else f"at action {np.array2string(action, precision=3, threshold=20)}"
        which = "" if index is None else f"environment {index} "
        return self.renew(error, who=f"{name}: {which}", doing=doing)

    def renew(self, error: Exception, *, who: str, doing: str) -> int:
        """The same for anything that holds simulators.

        Args:
            error: what happened.
            who: failed; the seed follows.
            doing: what, in words.

        Raises:
            EnvironmentFault: it has failed too often.
        """
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] < now - WINDOW_SECONDS:
            self._times.popleft()
        told = isinstance(error, SimulatorCrash)
        what = str(error) if told else f"raised {type(error).__name__}: {error}"
        if not told:
            traceback.print_exception(error)
        who = f"{who}(seed {self.seed}) {what}, {doing}"
        if len(self._times) > self.limit:
            raise EnvironmentFault(
                f"{who}; that was failure {len(self._times)} within {WINDOW_SECONDS / 60:.0f} minutes. Mend the "
                "environment, or allow more: --environment.max-restarts"
            ) from error
        self.total += 1
        self.seed = int(np.random.SeedSequence([self.seed, self.total]).generate_state(1)[0] >> 1)
        print(
            f"WARNING: {who}; started anew with seed {self.seed}, its episode counts as cut "
            f"({len(self._times)} of {self.limit} restarts in {WINDOW_SECONDS / 60:.0f} minutes)",
            file=sys.stderr,
            flush=True,
        )
        return self.seed
