from __future__ import annotations

import itertools
import signal
import time

import pytest

from envs.alarm import Alarm
from envs.environment import SimulatorCrash


def test_what_takes_too_long_is_interrupted():
    began = time.monotonic()
    with pytest.raises(SimulatorCrash, match=r"no answer within 0\.1 s"), Alarm(0.1):
        for _ in itertools.count():
            pass
    assert time.monotonic() - began < 5


def test_somebody_elses_timer_goes_on():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    theirs, _ = signal.setitimer(signal.ITIMER_REAL, 0.5)  # of pytest-timeout, perhaps
    try:
        began = time.monotonic()
        alarm = Alarm(10.0)
        for _ in range(3):
            with alarm:
                time.sleep(0.05)
        assert not rung
        while not rung and time.monotonic() - began < 5:
            time.sleep(0.01)
        assert 0.45 < rung[0] - began < 2
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, theirs)
