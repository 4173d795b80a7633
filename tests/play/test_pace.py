"""When steps are due, and how long they took."""

from __future__ import annotations

import pytest

from dreamer.play.pace import SAMPLES, Pace, Screen


def test_steps_come_at_the_rate():
    pace = Pace(10.0, now=0.0)
    assert pace.wait(0.0) == 0.0
    pace.take(0.0)
    assert pace.wait(0.03) == pytest.approx(0.07)


def test_one_step_may_come_early_and_the_average_stays():
    pace = Pace(10.0, now=0.0)
    pace.take(0.0)
    assert pace.may_hurry(0.02)
    pace.take(0.02)
    assert not pace.may_hurry(0.03)
    assert pace.wait(0.03) == pytest.approx(0.17)  # the step after next is where it was
    assert pace.may_hurry(0.1)


def test_missed_steps_are_not_made_up_for():
    pace = Pace(10.0, now=0.0)
    pace.take(5.0)
    assert pace.wait(5.0) == 0.0
    pace.take(5.0)
    assert pace.wait(5.0) == pytest.approx(0.1)


def test_delays_are_counted_when_the_page_has_drawn():
    screen = Screen()
    assert screen.percentiles() is None
    for frame in range(1, 101):
        screen.send(frame, taken=float(frame))
        assert screen.unseen == 1
        screen.drawn(frame, now=frame + frame / 1000)
    assert screen.percentiles() == pytest.approx([50.5, 95.05, 99.01])
    assert screen.rate(100.1) == 1.0  # one a second, over two seconds


def test_a_frame_that_was_overtaken_counts_for_nothing():
    screen = Screen()
    screen.send(1, taken=0.0)
    screen.send(2, taken=1.0)
    screen.drawn(2, now=1.01)
    assert (screen.unseen, screen.percentiles()) == (0, pytest.approx([10.0] * 3))


def test_memory_is_bounded():
    screen = Screen()
    for frame in range(3 * SAMPLES):
        screen.send(frame, taken=0.0)
        screen.drawn(frame, now=1.0 if frame < 2 * SAMPLES else 0.002)
    assert screen.percentiles() == pytest.approx([2.0] * 3)  # only the last count
