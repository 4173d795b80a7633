"""One save at a time, each with its full interval after it; and an end where saving has become hopeless."""

from __future__ import annotations

import pytest

from dreamer.config import CheckpointConfig
from dreamer.training import saving
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.saving import Saving


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    return clock


def fail() -> None:
    raise CheckpointError("the disk is full")


def test_a_save_longer_than_its_interval_is_neither_piled_up_nor_repeated_at_once(clock: Clock):
    begun: list[float] = []

    def save() -> None:
        begun.append(clock.now)
        clock.now += 25.0

    saves = Saving(CheckpointConfig(every_seconds=10.0))
    assert not saves.due
    assert saves.scalars() == {"checkpoint/failures": 0}
    for _ in range(100):
        clock.now += 1.0
        if saves.due:
            assert saves.attempt(save) is None
            assert not saves.due
    assert begun == [10.0 + 35.0 * n for n in range(len(begun))]
    assert len(begun) == 10
    assert saves.scalars() == {"checkpoint/failures": 0, "checkpoint/seconds": 25.0}


def test_failures_in_a_row_end_a_run(clock: Clock):
    saves = Saving(CheckpointConfig(max_failures=3))
    for attempt in (fail, fail, lambda: None, fail, fail):
        if error := saves.attempt(attempt):
            saves.require_hope(error)
    assert saves.scalars()["checkpoint/failures"] == 4
    error = saves.attempt(fail)
    assert error is not None
    with pytest.raises(CheckpointError, match=r"3 saves in a row failed.*the disk is full"):
        saves.require_hope(error)


def test_other_errors_are_not_taken_for_failed_saves(clock: Clock):
    def mistake() -> None:
        raise TypeError("an array without elements")

    saves = Saving(CheckpointConfig())
    with pytest.raises(TypeError):
        saves.attempt(mistake)
    assert saves.failures == 0
