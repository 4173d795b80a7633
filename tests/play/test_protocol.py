"""What may be said over the socket."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dreamer.play.protocol import COMMANDS, ProtocolError, frame_message, parse, read_frame

GOOD = {
    "input": {"held": ["KeyA"], "sliders": [0.5, -1], "number": 3},
    "drawn": {"frame": 1},
    "pause": {"on": True},
    "step": {},
    "rewind": {"steps": 2},
    "anchor": {},
    "episode": {},
    "show": {"left": "dream", "right": "reality"},
    "drive": {"wheel": "agent", "eyes": "dream"},
    "temperature": {"value": 0.5},
    "rate": {"value": 30},
    "record": {"on": False},
    "gif": {},
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_is_understood(kind):
    command = parse(json.dumps({"kind": kind, **GOOD[kind]}))
    assert command.kind == kind
    assert command.arguments.keys() == GOOD[kind].keys()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("{", "this is not JSON"),
        ("[" * 100_000, "this is not JSON"),
        ("[]", 'an object with a "kind"'),
        ('{"kind": 7}', 'an object with a "kind"'),
        ('{"kind": "fly"}', "there is no message 'fly'; known are input, "),
        ('{"kind": "pause"}', "pause needs 'on'"),
        ('{"kind": "pause", "on": 1}', "'on' must be true or false"),
        ('{"kind": "pause", "on": true, "off": 1}', "pause has no 'off'"),
        ('{"kind": "rewind", "steps": 0}', "a whole number from 1"),
        ('{"kind": "rewind", "steps": true}', "a whole number from 1"),
        ('{"kind": "rate", "value": 1e9}', "a number from 1 to 60"),
        ('{"kind": "rate", "value": NaN}', "a number from 1 to 60"),
        ('{"kind": "drive", "wheel": "cat", "eyes": "dream"}', "'you' or 'agent'"),
        ('{"kind": "input", "held": "A", "sliders": [], "number": 1}', "codes of keys"),
        ('{"kind": "input", "held": [], "sliders": [Infinity], "number": 1}', "a number from -1 to 1"),
        (json.dumps({"kind": "input", "held": ["A"] * 65, "sliders": [], "number": 1}), "at most 64"),
    ],
)
def test_anything_else_is_answered_with_what_would_do(text, answer):
    with pytest.raises(ProtocolError, match=answer.replace("[", r"\[")):
        parse(text)


def test_frames_arrive_as_they_were():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (4, 6, 3), np.uint8), None, rng.integers(0, 256, (2, 2, 3), np.uint8)]
    header, read = read_frame(frame_message({"frame": 7}, frames))
    assert header == {"frame": 7, "sizes": [[4, 6], None, [2, 2]]}
    for sent, got in zip(frames, read, strict=True):
        np.testing.assert_array_equal(sent, got)
