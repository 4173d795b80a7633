"""State of Python and NumPy things as plain arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def json_array(value: Any) -> np.ndarray:
    """JSON of a value as uint8 `[bytes]`; integers of any size and floats survive exactly."""
    return np.frombuffer(json.dumps(value, default=np.ndarray.tolist).encode(), np.uint8).copy()


def from_json_array(array: np.ndarray) -> Any:
    """Inverse of `json_array`, with lists for arrays."""
    return json.loads(array.tobytes())


def generator_array(generator: np.random.Generator) -> np.ndarray:
    """State of a generator as uint8 `[bytes]`."""
    return json_array(generator.bit_generator.state)


def load_generator(generator: np.random.Generator, array: np.ndarray) -> None:
    """Set a generator, of the same kind, to the state of `generator_array`."""
    generator.bit_generator.state = from_json_array(array)


def random_state_array(random_state: np.random.RandomState) -> np.ndarray:
    """State of a legacy `RandomState` as uint8 `[bytes]`."""
    return json_array(random_state.get_state(legacy=False))


def load_random_state(random_state: np.random.RandomState, array: np.ndarray) -> None:
    """Set a legacy `RandomState` to the state of `random_state_array`."""
    random_state.set_state(from_json_array(array))
