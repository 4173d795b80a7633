"""What page and player say to each other over the WebSocket.

Up come JSON objects `{"kind": ..., ...}`, one of `COMMANDS`. Down go JSON objects (`hello`, `notice`, `error`, `file`)
and binary frames: four bytes with the length of a JSON header (big-endian), the header, then the pixels of the panels,
RGB, row by row; the header says their sizes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

MOST_BYTES = 65_536  # of a message from the page
MOST_KEYS = 64
RATES = (1.0, 60.0)  # steps per second
TEMPERATURES = (0.0, 2.0)
MOST_REWIND = 10_000


class ProtocolError(ValueError):
    """The page said what means nothing; the message says what would."""


class Command(NamedTuple):
    """What the page wants: a kind of `COMMANDS` and its arguments, checked."""

    kind: str
    arguments: dict[str, Any]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def _word(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or (words and value not in words):
            raise ValueError(" or ".join(map(repr, words)) or "a word")
        return value

    return check


def _keys(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > MOST_KEYS or not all(isinstance(key, str) for key in value):
        raise ValueError(f"a list of at most {MOST_KEYS} codes of keys")
    return frozenset(value)


def _values(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) > 1024:
        raise ValueError("a list of numbers")
    return tuple(_number(-1.0, 1.0)(item) for item in value)


COMMANDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "input": {"held": _keys, "sliders": _values, "number": _whole(0, 2**53)},  # number: of the message, to be echoed
    "drawn": {"frame": _whole(0, 2**53)},  # a frame is on the screen
    "pause": {"on": _flag},
    "step": {},
    "rewind": {"steps": _whole(1, MOST_REWIND)},
    "anchor": {},
    "episode": {},
    "show": {"left": _word(), "right": _word()},
    "drive": {"wheel": _word("you", "agent"), "eyes": _word("dream", "reality")},
    "temperature": {"value": _number(*TEMPERATURES)},
    "rate": {"value": _number(*RATES)},
    "record": {"on": _flag},
    "gif": {},
}


def parse(text: str) -> Command:
    """Reads a message of the page.

    Raises:
        ProtocolError: it is none; the message can be shown to a person.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"this is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError('a message is an object with a "kind"')
    kind = message["kind"]
    if kind not in COMMANDS:
        raise ProtocolError(f"there is no message {kind[:40]!r}; known are {', '.join(COMMANDS)}")
    fields = COMMANDS[kind]
    if unknown := message.keys() - fields.keys() - {"kind"}:
        raise ProtocolError(f"{kind} has no {min(unknown)[:40]!r}")
    arguments = {}
    for name, check in fields.items():
        if name not in message:
            raise ProtocolError(f"{kind} needs {name!r}")
        try:
            arguments[name] = check(message[name])
        except (ValueError, OverflowError) as error:
            raise ProtocolError(f"{kind}: {name!r} must be {error}") from error
    return Command(kind, arguments)


def frame_message(header: dict[str, Any], frames: list[np.ndarray | None]) -> bytes:
    """A binary message: the header with the frames' `sizes`, `[height, width]` or null, and their pixels."""
    sizes = [None if frame is None else frame.shape[:2] for frame in frames]
    text = json.dumps(header | {"sizes": sizes}, allow_nan=False).encode()
    pixels = [np.ascontiguousarray(frame).tobytes() for frame in frames if frame is not None]
    return b"".join([struct.pack(">I", len(text)), text, *pixels])


def read_frame(message: bytes) -> tuple[dict[str, Any], list[np.ndarray | None]]:
    """Inverse of `frame_message`."""
    (length,) = struct.unpack_from(">I", message)
    header = json.loads(message[4 : 4 + length])
    frames: list[np.ndarray | None] = []
    place = 4 + length
    for size in header["sizes"]:
        if size is None:
            frames.append(None)
            continue
        height, width = size
        frames.append(np.frombuffer(message, np.uint8, height * width * 3, place).reshape(height, width, 3))
        place += height * width * 3
    return header, frames
