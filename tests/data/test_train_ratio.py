"""The train ratio is exact over a million steps, and over a resume."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import cycle

import pytest

from dreamer.data.ratio import TrainRatio


@pytest.mark.parametrize("stride", [1, 7])
@pytest.mark.parametrize(
    ("ratio", "exact"),
    [
        (32.0, 32),
        (128.0, 128),
        (256.0, 256),
        (512.0, 512),
        (1000 / 3, Fraction(1000, 3)),
        (0.1, Fraction(1, 10)),
        (3000.0, 3000),
    ],
)
def test_updates_are_exact_at_every_step_of_a_million(ratio, exact, stride):
    train_ratio, updates = TrainRatio(ratio, batch_steps=1024), 0
    gain, cost = (Fraction(exact) / 1024).as_integer_ratio()
    for steps in range(1_088, 1_000_000, stride):
        updates += train_ratio.updates_due(steps)
        assert updates == 1 + (steps - 1_088) * gain // cost


def test_first_call_gives_one_update_however_late():
    assert TrainRatio(512.0, batch_steps=1024).updates_due(123_456) == 1


def test_published_pace():
    train_ratio = TrainRatio(128.0, batch_steps=16 * 64)
    assert train_ratio.agent_steps_per_update == 8
    assert [train_ratio.updates_due(steps) for steps in range(100, 125)] == [1] + ([0] * 7 + [1]) * 3


def test_resume_carries_the_remainder_and_makes_no_burst():
    whole, parts = TrainRatio(1000 / 3, batch_steps=1024), TrainRatio(1000 / 3, batch_steps=1024)
    for steps in range(5_000, 9_000):
        if steps % 37 == 0:
            saved = json.loads(json.dumps(parts.state()))
            parts = TrainRatio(1000 / 3, batch_steps=1024)
            parts.restore(saved)
        assert parts.updates_due(steps) == whole.updates_due(steps)


def test_another_ratio_on_resume_changes_the_pace_only():
    slow = TrainRatio(32.0, batch_steps=1024)
    total = sum(slow.updates_due(steps) for steps in range(10_000))
    assert total == 1 + 9_999 // 32
    fast = TrainRatio(512.0, batch_steps=1024)
    fast.restore(slow.state())
    assert [fast.updates_due(steps) for steps in range(10_000, 10_006)] in ([0, 1] * 3, [1, 0] * 3)


def test_steps_passed_over_bring_no_burst():
    ratio = TrainRatio(512.0, batch_steps=1024)  # an update every other step
    ratio.pass_over(50)
    assert ratio.updates_due(100) == 1  # nothing had begun
    for steps in range(101, 501):
        ratio.pass_over(steps)
    assert sum(ratio.updates_due(steps) for steps in range(501, 511)) == 5


def test_a_saved_ratio_that_never_started_starts_with_one_update():
    train_ratio = TrainRatio(32.0, batch_steps=1024)
    train_ratio.restore(TrainRatio(32.0, batch_steps=1024).state())
    assert train_ratio.updates_due(77) == 1


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_ratio_that_never_trains_is_refused(ratio):
    with pytest.raises(ValueError, match="train_ratio must be positive"):
        TrainRatio(ratio, batch_steps=1024)


def test_strides_do_not_matter():
    steady, uneven = TrainRatio(200.0, batch_steps=1024), TrainRatio(200.0, batch_steps=1024)
    total = sum(steady.updates_due(steps) for steps in range(10_000))
    steps, updates = 0, uneven.updates_due(0)
    for stride in cycle([1, 16, 3, 250]):
        steps = min(steps + stride, 9_999)
        updates += uneven.updates_due(steps)
        if steps == 9_999:
            break
    assert updates == total


@pytest.mark.parametrize("ratio", [32.0, 512.0, 3000.0])
def test_updates_made_ahead_are_not_made_again(ratio):
    usual, ahead = (TrainRatio(ratio, batch_steps=1024) for _ in range(2))
    wanted = sum(usual.updates_due(steps) for steps in range(1, 10_000))
    made = sum(ahead.updates_due(steps) for steps in range(1, 2_000))
    early = 0
    while ahead.make_ahead(max_steps=1000):
        early += 1
    assert early == pytest.approx(1000 * ratio / 1024, abs=1)
    assert not any(ahead.updates_due(steps) for steps in range(2_000, 2_900))
    made += early + sum(ahead.updates_due(steps) for steps in range(2_900, 10_000))
    assert made == wanted


def test_nothing_is_made_ahead_before_training_began():
    assert not TrainRatio(512.0, batch_steps=1024).make_ahead(max_steps=1000)


def test_updates_given_back_are_due_again():
    ratio = TrainRatio(4096.0, batch_steps=1024)
    ratio.updates_due(0)
    assert ratio.updates_due(1) == 4
    ratio.give_back(3)
    assert ratio.updates_due(1) == 3
    assert ratio.updates_due(1) == 0
