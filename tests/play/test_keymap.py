"""Keys and sliders to flat actions."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.play.keymap import Choice, Input, Keymap, Slider, known_names
from envs.spaces import DiscreteSpec, VectorSpec

PONG = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
UP, DOWN, LEFT, RIGHT, FIRE = "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Space"


def atari(names):
    return Keymap({"action": DiscreteSpec((len(names),))}, names=names)


def press(keymap, *keys, previous=None, turn=0, sliders=()):
    return keymap.read(keymap.action(Input(frozenset(keys), sliders), previous=previous, turn=turn))


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ([], "NOOP"),
        ([RIGHT], "RIGHT"),
        ([UP], "RIGHT"),  # no vertical actions: the arrows of the paddle's way work, too
        ([DOWN], "LEFT"),
        ([RIGHT, FIRE], "RIGHTFIRE"),
        ([DOWN, FIRE], "LEFTFIRE"),
        ([FIRE, "KeyX"], "FIRE"),
        (["KeyX"], "NOOP"),
    ],
)
def test_atari_names_are_arrows_and_space(keys, name):
    assert press(atari(PONG), *keys) == [PONG.index(name)]


def test_of_all_eighteen_actions_the_one_with_most_keys_down_is_taken():
    names = [
        f"{up}{side}{fire}" for fire in ("", "FIRE") for up in ("", "UP", "DOWN") for side in ("", "LEFT", "RIGHT")
    ]
    names[0] = "NOOP"
    keymap = atari(names)
    assert press(keymap, UP, RIGHT, FIRE) == [names.index("UPRIGHTFIRE")]
    assert press(keymap, UP, FIRE) == [names.index("UPFIRE")]
    assert press(keymap, DOWN, LEFT) == [names.index("DOWNLEFT")]
    assert press(keymap) == [0]


def test_cartpole_goes_left_and_right_and_in_turn_without_a_key():
    keymap = Keymap({"action": DiscreteSpec((2,))}, names=known_names("CartPole-v1"))
    assert [press(keymap, LEFT), press(keymap, RIGHT)] == [[0], [1]]
    assert [press(keymap, turn=turn) for turn in range(3)] == [[0], [1], [0]]


@pytest.mark.parametrize(("env", "known"), [("MountainCar-v0", True), ("MountainCarContinuous-v0", False)])
def test_names_are_known_by_the_environment(env, known):
    assert (known_names(env) is not None) == known


def test_actions_without_names_are_digits_that_hold():
    keymap = Keymap({"action": DiscreteSpec((12,))})
    assert press(keymap, "Digit3") == [2]
    assert press(keymap, previous=np.eye(12, dtype=np.float32)[2]) == [2]
    assert press(keymap, "#0:11") == [11]  # its button
    assert all(isinstance(dial, Choice) and dial.idle == "hold" for dial in keymap.dials)


def test_sliders_are_pushed_by_keys_and_stay_where_they_are_put():
    keymap = Keymap({"action": VectorSpec(8)})
    assert press(keymap, RIGHT, DOWN, "KeyA", sliders=(0.0, 0.0, 0.0, 0.25)) == [1, -1, -1, 0.25, 0, 0, 0, 0]
    assert press(keymap, LEFT, RIGHT) == [0.0] * 8
    assert press(keymap, sliders=(7.0,))[0] == 1.0  # the action is on [-1, 1]
    assert [bool(dial.keys) for dial in keymap.dials if isinstance(dial, Slider)] == [True] * 6 + [False] * 2


def test_parts_lie_in_the_order_of_the_flat_action():
    keymap = Keymap({"buttons": DiscreteSpec((3, 2)), "arm": VectorSpec(2)})
    assert [dial.label for dial in keymap.dials] == ["arm 1", "arm 2", "buttons 1", "buttons 2"]
    action = keymap.action(Input(frozenset({"Digit3", "#3:1", LEFT})), previous=None, turn=0)
    np.testing.assert_array_equal(action, [-1, 0, 0, 0, 1, 0, 1])
    assert keymap.read(action) == [-1, 0, 2, 1]


def test_what_the_page_is_told_names_every_key():
    described = atari(PONG).describe()
    assert [option["keys"] for option in described[0]["options"]][:3] == [[], [FIRE], [RIGHT]]
    assert atari(PONG).keys == {UP, DOWN, LEFT, RIGHT, FIRE}
