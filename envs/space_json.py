"""Gymnasium spaces as plain JSON and back, exactly; nothing is pickled, so reading a stranger's file runs no code."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from envs.environment import Described, EnvironmentFault, EnvSettings

FILE_NAME = "spaces.json"  # in the folder of a run, and of a saved agent
MOST_BYTES = 256 * 2**20  # of the file: bounds that differ from number to number make it long
MOST_NUMBERS = 2**26  # of one space: a 4096 x 4096 image in colour has fewer
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError)
INFINITIES = {"inf": math.inf, "-inf": -math.inf}  # JSON has no word for them


class Interface(NamedTuple):
    """How an agent and its environment speak: all that the codecs need, without the environment.

    Attributes:
        env: name of the environment.
        observation_space: of one environment, as a user's code has it.
        action_space: likewise.
        image_size: height and width to which images are resized; None keeps theirs.
        action_bound: range of unbounded actions; None where all are bounded.
        action_repeat: frames per agent step.
        image_layout: `auto`, `channels_first` or `channels_last`; files of before it was there say nothing.
    """

    env: str
    observation_space: spaces.Space
    action_space: spaces.Space
    image_size: tuple[int, int] | None
    action_bound: float | None
    action_repeat: int
    image_layout: str = "auto"

    @classmethod
    def of(cls, environment: Described, *, settings: EnvSettings | Any) -> Interface:
        """That of an environment, made with these settings."""
        return cls(
            env=environment.protocol["env"],
            observation_space=environment.native_observation_space,
            action_space=environment.native_action_space,
            image_size=settings.image_size,
            action_bound=settings.action_bound,
            action_repeat=environment.action_repeat,
            image_layout=settings.image_layout,
        )

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        plain = self._asdict()
        plain |= {name: space_to_json(plain[name]) for name in ("observation_space", "action_space")}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(plain, indent=1, allow_nan=False), encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def read(cls, path: Path) -> Interface:
        """Reads a file that `write` left.

        Raises:
            EnvironmentFault: it is damaged.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            plain = json.loads(path.read_text(encoding="utf-8"))
            plain |= {name: space_from_json(plain[name]) for name in ("observation_space", "action_space")}
            plain["image_size"] = None if plain["image_size"] is None else tuple(plain["image_size"])
            return cls(**plain)._checked()
        except (ValueError, *MALFORMED) as error:
            reason = str(error)[:200] or type(error).__name__
            raise EnvironmentFault(f"{path} is damaged ({reason}); restore it from a backup") from error

    def _checked(self) -> Interface:
        """Itself, if its plain values are of their types."""
        bound, size = self.action_bound, self.image_size
        if not isinstance(self.env, str) or type(self.action_repeat) is not int or self.action_repeat < 1:
            raise ValueError("it does not name its environment and action repeat")
        if not (bound is None or (isinstance(bound, int | float) and math.isfinite(bound) and bound > 0)):
            raise ValueError(f"{bound!r} is no bound of actions")
        if not (size is None or (len(size) == 2 and all(type(side) is int and side > 0 for side in size))):
            raise ValueError(f"{size!r} is no size of images")
        if self.image_layout not in ("auto", "channels_first", "channels_last"):
            raise ValueError(f"{self.image_layout!r} is no layout of images")
        return self


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """A space as JSON; bounds that are equal everywhere become one number.

    Raises:
        EnvironmentFault: for a kind of space that is not supported.
    """
    if isinstance(space, spaces.Dict):
        pairs = [[key, space_to_json(child)] for key, child in space.spaces.items()]  # gymnasium sorts a mapping's keys
        return {"kind": "Dict", "spaces": pairs}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [space_to_json(child) for child in space.spaces]}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
        return {"kind": "Box", "shape": list(space.shape), "dtype": space.dtype.name, **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": space.dtype.name}
    if isinstance(space, spaces.MultiDiscrete):
        numbers = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "MultiDiscrete", **numbers, "dtype": space.dtype.name}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.n)}
    raise EnvironmentFault(
        f"a {type(space).__name__} space cannot be saved; use Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
    )


def space_from_json(plain: dict[str, Any]) -> spaces.Space:
    """Inverse of `space_to_json`.

    Raises:
        ValueError: `plain` describes no space, or one that is too large.
    """
    kind = plain["kind"]
    if kind == "Dict":
        return spaces.Dict([(key, space_from_json(child)) for key, child in plain["spaces"]])
    if kind == "Tuple":
        return spaces.Tuple([space_from_json(child) for child in plain["spaces"]])
    if kind == "MultiBinary":
        _check_count(plain["n"])
        return spaces.MultiBinary(plain["n"])
    dtype = np.dtype(plain["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"{dtype} is no dtype of numbers")
    if kind == "Box":
        _check_count(plain["shape"])
        low, high = (_bound_from_json(plain[name], tuple(plain["shape"]), dtype) for name in ("low", "high"))
        return spaces.Box(low, high, dtype=dtype)
    if kind == "Discrete":
        _check_count(plain["n"])
        return spaces.Discrete(plain["n"], start=plain["start"], dtype=dtype)
    if kind == "MultiDiscrete":
        _check_count(int(np.sum(plain["nvec"], dtype=object)))
        return spaces.MultiDiscrete(np.array(plain["nvec"]), dtype=dtype, start=np.array(plain["start"]))
    raise ValueError(f"{kind!r} is no kind of space")


def _check_count(shape: Any) -> None:
    """Refuses to make what fits into no memory, before it is tried.

    Raises:
        ValueError: the shape, or the number of classes, is too large for any environment.
    """
    count = math.prod(shape) if isinstance(shape, list) else shape
    if not 0 <= count <= MOST_NUMBERS:
        raise ValueError(f"{count:,} numbers or classes")


def _bound_to_json(bound: np.ndarray) -> Any:
    """A number, or a flat list of them."""
    numbers = [_name_infinity(number) for number in bound.ravel().tolist()]
    is_uniform = len(numbers) > 0 and all(number == numbers[0] for number in numbers)
    return numbers[0] if is_uniform else numbers


def _name_infinity(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def _bound_from_json(plain: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if not isinstance(plain, list):
        return np.full(shape, INFINITIES.get(plain, plain), dtype)
    return np.array([INFINITIES.get(number, number) for number in plain], dtype).reshape(shape)
