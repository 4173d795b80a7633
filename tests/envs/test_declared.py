"""Observations that differ from what their space declares: told of once, or refused where they would mislead."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from envs.codec import ObservationCodec
from envs.environment import EnvironmentFault

ROOM = spaces.Dict(
    place=spaces.Box(-1, 1, (2,), np.float32),
    steps=spaces.Box(-np.inf, np.inf, (1,), np.float32),
    door=spaces.Discrete(3),
)


def observe(codec: ObservationCodec, **changes):
    return codec.encode({"place": np.zeros(2, np.float32), "steps": np.zeros(1, np.float32), "door": 0} | changes)


def test_what_fits_is_no_news(capfd):
    codec = ObservationCodec(ROOM)
    for door in range(3):
        observe(codec, place=np.array([-1, 1], np.float32), steps=np.array([1e9], np.float32), door=door)
    assert not capfd.readouterr().err


def test_values_outside_the_box_are_told_of_once_a_key(capfd):
    codec = ObservationCodec(ROOM)
    for _ in range(3):
        seen = observe(codec, place=np.array([-5, 7], np.float32))
    assert seen["place"].tolist() == [-5, 7]
    told = capfd.readouterr().err
    assert told.count("WARNING") == 1
    assert "observation 'place' has values -5 to 7, outside the bounds that its space declares (-1 to 1)" in told


@pytest.mark.parametrize("wrong", [np.array([0.25, 0.5]), [0.25, 0.5], np.array([0, 1])])
def test_another_dtype_is_cast_and_told_of_once(wrong, capfd):
    codec = ObservationCodec(ROOM)
    for _ in range(2):
        seen = observe(codec, place=wrong)
    assert seen["place"].dtype == np.float32
    assert seen["place"].tolist() == list(wrong)
    assert capfd.readouterr().err.count("its space declares float32; it is cast") == 1


@pytest.mark.parametrize(("door", "says"), [(3, "has values 3 to 3"), (-1, "has values -1"), (1.0, "is float64")])
def test_a_symbol_that_does_not_exist_is_refused(door, says):
    """Its one-hot vector would be empty, which no learner could notice."""
    with pytest.raises(EnvironmentFault, match=f"observation 'door' {says}"):
        observe(ObservationCodec(ROOM), door=door)
