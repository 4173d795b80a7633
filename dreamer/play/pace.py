"""When the next step is due, and how long steps took until they were seen."""

from __future__ import annotations

from collections import deque

import numpy as np

SAMPLES = 500  # of a percentile
WINDOW = 2.0  # seconds over which frames are counted


class Pace:
    """A rate of steps. One step may be made ahead of its time, which answers a key at once and changes no average.

    Args:
        rate: steps per second.
        now: seconds on a monotonic clock.
    """

    def __init__(self, rate: float, *, now: float) -> None:
        self.rate = rate
        self._due = now

    def wait(self, now: float) -> float:
        """Seconds until the next step is due; 0 where it is."""
        return max(0.0, self._due - now)

    def may_hurry(self, now: float) -> bool:
        """Whether the next step may be made before it is due."""
        return self._due - now <= 1.0 / self.rate

    def take(self, now: float) -> None:
        """A step is made. Steps that were missed are not made up for."""
        self._due = max(self._due + 1.0 / self.rate, now)

    def delay(self, seconds: float) -> None:
        """The next step comes so much later."""
        self._due += seconds


class Screen:
    """What is on its way to the page: how long frames take from their action until they are seen, and how many come.

    Delays include the way back of the page's word, so that no clock but ours is needed.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}  # when the action of a frame was taken
        self._delays: deque[float] = deque(maxlen=SAMPLES)
        self._times: deque[float] = deque(maxlen=SAMPLES)

    @property
    def unseen(self) -> int:
        """Frames on their way."""
        return len(self._sent)

    def send(self, frame: int, *, taken: float) -> None:
        """A frame goes out, of an action taken at a time in seconds."""
        self._sent[frame] = taken

    def drawn(self, frame: int, *, now: float) -> None:
        """A frame, and with it all before, is on the screen."""
        for earlier in [number for number in self._sent if number <= frame]:
            taken = self._sent.pop(earlier)
            if earlier == frame:
                self._delays.append(now - taken)
                self._times.append(now)

    def forget(self) -> None:
        """Gives up what is on its way."""
        self._sent.clear()

    def percentiles(self) -> list[float] | None:
        """p50, p95 and p99 of the last `SAMPLES` delays in milliseconds; None before the first."""
        return [float(p) for p in np.percentile(np.array(self._delays) * 1e3, (50, 95, 99))] if self._delays else None

    def rate(self, now: float) -> float:
        """Frames seen per second, over the last `WINDOW` seconds."""
        return sum(time > now - WINDOW for time in self._times) / WINDOW
