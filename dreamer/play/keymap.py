"""Which keys do what: derived from the action space, with the environment's own names where it has them.

A discrete part is a choice, an arrow or a digit for each of its options; a continuous component is a slider that keys
push to its ends. Everything is decided here, so that the page only tells which keys are down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from envs.spaces import ActionSpec, VectorSpec

IDLE_NAMES = ("noop", "none", "nothing", "no-op", "coast")
WORDS = {"UP": "ArrowUp", "DOWN": "ArrowDown", "LEFT": "ArrowLeft", "RIGHT": "ArrowRight", "FIRE": "Space"}
DIGITS = tuple(f"Digit{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0))
PUSHES = (
    ("ArrowLeft", "ArrowRight"),
    ("ArrowDown", "ArrowUp"),
    ("KeyA", "KeyD"),
    ("KeyS", "KeyW"),
    ("KeyJ", "KeyL"),
    ("KeyK", "KeyI"),
)  # of the first sliders; the others are moved by the pointer
# gymnasium's classic tasks give their actions no names.
KNOWN = {
    "CartPole": ("left", "right"),
    "MountainCar-": ("left", "none", "right"),
    "Acrobot": ("left", "none", "right"),
    "LunarLander": ("none", "left engine", "main engine", "right engine"),
    "FrozenLake": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
}
ALIASES = {"left engine": ("RIGHT",), "right engine": ("LEFT",), "main engine": ("UP",)}  # where the lander goes


class Option(NamedTuple):
    """One value of a choice.

    Attributes:
        name: what the page writes.
        chords: sets of keys any of which takes it. The empty set: taken where no other is.
    """

    name: str
    chords: tuple[frozenset[str], ...]


class Choice(NamedTuple):
    """A discrete component.

    Attributes:
        label: its name; empty where it is the only one.
        options: in the order of their indices.
        idle: what no key means: `option`, one of them; `alternate`, both of two in turn; `hold`, the last one taken.
    """

    label: str
    options: tuple[Option, ...]
    idle: str


class Slider(NamedTuple):
    """A continuous component on [-1, 1], the keys that push it to its ends, and its name."""

    label: str
    keys: tuple[str, str] | None


class Input(NamedTuple):
    """What a person does.

    Attributes:
        held: codes of the keys that are down (`KeyboardEvent.code`), and `#dial:option` of a button held down.
        sliders: the value of every dial, in their order; of choices it means nothing.
    """

    held: frozenset[str] = frozenset()
    sliders: tuple[float, ...] = ()


class Keymap:
    """From keys and sliders to flat actions `[A]`, and back to what was done.

    Args:
        spec: the action's parts.
        names: of the options, where there is a single choice and the environment names them.

    Attributes:
        dials: choices and sliders in the order of the flat action.
    """

    def __init__(self, spec: ActionSpec, *, names: Sequence[str] | None = None) -> None:
        self.dials: list[Choice | Slider] = []
        self._widths: list[int] = []
        pushes = iter(PUSHES)
        parts = [(key, part) for key, part in sorted(spec.items())]
        total = sum(part.size if isinstance(part, VectorSpec) else len(part.num_classes) for _, part in parts)
        for key, part in parts:
            count = part.size if isinstance(part, VectorSpec) else len(part.num_classes)
            for index in range(count):
                label = "" if total == 1 else f"{key} {index + 1}" if count > 1 else key
                if isinstance(part, VectorSpec):
                    self.dials.append(Slider(label or key, next(pushes, None)))
                    self._widths.append(1)
                else:
                    classes = part.num_classes[index]
                    fits = total == 1 and names is not None and len(names) == classes
                    has_digits = not any(isinstance(dial, Choice) for dial in self.dials)
                    known = names if fits else None
                    self.dials.append(_choice(label, classes, known, dial=len(self.dials), has_digits=has_digits))
                    self._widths.append(classes)

    def action(self, given: Input, *, previous: np.ndarray | None, turn: int) -> np.ndarray:
        """The flat action, float32 `[A]`, of what a person does.

        Args:
            given: keys and sliders.
            previous: the last flat action, for choices that hold theirs.
            turn: number of the step, for choices that alternate.
        """
        blocks, start = [], 0
        for index, (dial, width) in enumerate(zip(self.dials, self._widths, strict=True)):
            if isinstance(dial, Slider):
                value = given.sliders[index] if index < len(given.sliders) else 0.0
                blocks.append(np.array([_pushed(dial, given.held, value)], np.float32))
            else:
                last = 0 if previous is None else int(previous[start : start + width].argmax())
                blocks.append(np.eye(width, dtype=np.float32)[_chosen(dial, given.held, last=last, turn=turn)])
            start += width
        return np.concatenate(blocks)

    def read(self, action: np.ndarray) -> list[float]:
        """What a flat action `[A]` means: the index of every choice, the value of every slider."""
        ends = np.cumsum(self._widths)[:-1]
        blocks = np.split(np.asarray(action), ends)
        return [
            float(np.clip(block[0], -1.0, 1.0)) if isinstance(dial, Slider) else float(block.argmax())
            for dial, block in zip(self.dials, blocks, strict=True)
        ]

    def describe(self) -> list[dict[str, Any]]:
        """The dials for the page, as plain JSON."""
        return [_plain(dial, index) for index, dial in enumerate(self.dials)]

    @property
    def keys(self) -> set[str]:
        """Every key that means something here."""
        chords = [chord for dial in self.dials if isinstance(dial, Choice) for o in dial.options for chord in o.chords]
        pushes = [set(dial.keys or ()) for dial in self.dials if isinstance(dial, Slider)]
        return {key for keys in (*chords, *pushes) for key in keys if not key.startswith("#")}


def known_names(env: str) -> Sequence[str] | None:
    """Names of the actions of an environment that has none itself, by its id or class."""
    return next((names for part, names in KNOWN.items() if part in f"{env}-"), None)


def _choice(label: str, classes: int, names: Sequence[str] | None, *, dial: int, has_digits: bool) -> Choice:
    words = [_words(name) for name in names] if names else [None] * classes
    has_arrows = names is not None and all(word is not None for word in words)
    vertical = any(word & {"ArrowUp", "ArrowDown"} for word in words if word)
    options = []
    for index in range(classes):
        chords = [frozenset({f"#{dial}:{index}"})]
        if has_arrows and (chord := words[index]) is not None:
            chords.insert(0, chord)
            if not vertical and chord & {"ArrowRight", "ArrowLeft"}:
                turned = {"ArrowRight": "ArrowUp", "ArrowLeft": "ArrowDown"}  # Pong's RIGHT moves the paddle up
                chords.append(frozenset(turned.get(key, key) for key in chord))
        elif has_digits and index < len(DIGITS):
            chords.insert(0, frozenset({DIGITS[index]}))
        options.append(Option(str(names[index]).lower() if names else str(index + 1), tuple(chords)))
    idle = "option" if any(not chord for option in options for chord in option.chords) else "hold"
    if idle == "hold" and classes == 2 and has_arrows:
        idle = "alternate"  # one after the other is as near to nothing as such a task has
    return Choice(label, tuple(options), idle)


def _words(name: str) -> frozenset[str] | None:
    """The keys of a name such as `UPRIGHTFIRE`, `left` or `noop`; None where it has another form."""
    if name.lower() in IDLE_NAMES:
        return frozenset()
    if name.lower() in ALIASES:
        return frozenset(WORDS[word] for word in ALIASES[name.lower()])
    found = re.fullmatch(r"(UP|DOWN)?(LEFT|RIGHT)?(FIRE)?", name.upper())
    return frozenset(WORDS[word] for word in found.groups() if word) if found and name else None


def _pushed(dial: Slider, held: frozenset[str], value: float) -> float:
    low, high = (key in held for key in dial.keys) if dial.keys else (False, False)
    return float(high) - float(low) if low or high else float(np.clip(value, -1.0, 1.0))


def _chosen(dial: Choice, held: frozenset[str], *, last: int, turn: int) -> int:
    """The option with the most of its keys down; the first of equals."""
    down = {
        index: max(len(chord) for chord in option.chords if chord <= held)
        for index, option in enumerate(dial.options)
        if any(chord <= held for chord in option.chords)
    }
    if any(down.values()) or (down and dial.idle == "option"):
        return max(down, key=lambda index: down[index])
    return turn % 2 if dial.idle == "alternate" else last


def _plain(dial: Choice | Slider, index: int) -> dict[str, Any]:
    if isinstance(dial, Slider):
        return {"kind": "slider", "label": dial.label, "keys": dial.keys}
    options = [
        {"name": option.name, "keys": sorted(option.chords[0]), "button": f"#{index}:{number}"}
        for number, option in enumerate(dial.options)
    ]
    return {"kind": "choice", "label": dial.label, "options": options, "idle": dial.idle}
