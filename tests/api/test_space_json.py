from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import envs
from dreamer.agent import codecs
from envs.environment import EnvironmentFault, EnvSettings
from envs.space_json import Interface, space_from_json, space_to_json

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, max_side=3)
INTEGERS = st.sampled_from(["int8", "int32", "int64", "uint8", "uint16", "uint64"])
FLOATS = st.sampled_from(["float16", "float32", "float64"])


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    dtype, shape = np.dtype(draw(INTEGERS | FLOATS)), draw(SHAPES)
    elements = npst.from_dtype(dtype, allow_nan=False)
    fill = elements if draw(st.booleans()) else st.nothing()
    pair = [draw(npst.arrays(dtype, shape, elements=elements, fill=fill)) for _ in range(2)]
    low, high = np.minimum(*pair), np.maximum(*pair)
    if dtype.kind == "f":  # gymnasium knows no lower bound +inf and no upper bound -inf
        low, high = np.where(np.isposinf(low), 0, low).astype(dtype), np.where(np.isneginf(high), 0, high).astype(dtype)
        low = np.minimum(low, high)
    return spaces.Box(low, high, dtype=dtype.type)


@st.composite
def discretes(draw: st.DrawFn) -> spaces.Discrete:
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return spaces.Discrete(draw(st.integers(1, 1000)), start=draw(st.integers(-1000, 1000)), dtype=dtype)


@st.composite
def multi_discretes(draw: st.DrawFn) -> spaces.MultiDiscrete:
    shape = draw(npst.array_shapes(max_dims=2, max_side=3))
    nvec = draw(npst.arrays(np.int64, shape, elements=st.integers(1, 50)))
    start = draw(npst.arrays(np.int64, shape, elements=st.integers(-50, 50)))
    return spaces.MultiDiscrete(nvec, start=start, dtype=draw(st.sampled_from([np.int16, np.int64])))


MULTI_BINARIES = st.builds(spaces.MultiBinary, st.integers(1, 5) | st.lists(st.integers(1, 3), min_size=1, max_size=3))
LEAVES = boxes() | discretes() | multi_discretes() | MULTI_BINARIES
ANY_SPACE = st.recursive(
    LEAVES,
    lambda children: (
        st.builds(
            lambda pairs: spaces.Dict(list(pairs.items())), st.dictionaries(st.text(max_size=4), children, max_size=3)
        )
        | st.builds(spaces.Tuple, st.lists(children, max_size=3))
    ),
    max_leaves=6,
)


def assert_identical(one: spaces.Space, two: spaces.Space) -> None:
    """Equal to the bit, where gymnasium's own comparison of bounds is only close, and in the same order."""
    assert type(one) is type(two)
    assert one == two
    assert one.shape == two.shape
    assert one.dtype == two.dtype
    if isinstance(one, spaces.Box) and isinstance(two, spaces.Box):
        np.testing.assert_array_equal(one.low, two.low, strict=True)
        np.testing.assert_array_equal(one.high, two.high, strict=True)
        np.testing.assert_array_equal(one.bounded_below, two.bounded_below)
    elif isinstance(one, spaces.Dict) and isinstance(two, spaces.Dict):
        assert list(one) == list(two)
        for key in one:
            assert_identical(one[key], two[key])
    elif isinstance(one, spaces.Tuple) and isinstance(two, spaces.Tuple):
        for child, other in zip(one, two, strict=True):
            assert_identical(child, other)


@settings(deadline=None)  # the first example pays for imports
@given(ANY_SPACE)
def test_a_space_survives_json(space: spaces.Space):
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert_identical(space_from_json(json.loads(text)), space)


def test_equal_bounds_are_one_number():
    plain = space_to_json(spaces.Box(0, 255, (64, 64, 3), np.uint8))
    assert plain == {"kind": "Box", "shape": [64, 64, 3], "dtype": "uint8", "low": 0, "high": 255}


def test_infinite_bounds_are_words():
    bounds = space_to_json(gymnasium.make("CartPole-v1").observation_space)
    assert bounds["high"][1::2] == ["inf", "inf"]
    assert bounds["low"][1::2] == ["-inf", "-inf"]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Dict({"deep": spaces.Sequence(spaces.Discrete(2))})])
def test_other_spaces_are_refused(space: spaces.Space):
    with pytest.raises(EnvironmentFault, match="space cannot be saved; use Box"):
        space_to_json(space)


@pytest.mark.parametrize("text", ["{", "[]", '{"env": "x"}', '{"observation_space": {"kind": "Sphere"}}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path):
    path = tmp_path / "spaces.json"
    path.write_text(text)
    with pytest.raises(EnvironmentFault, match=r"spaces\.json is damaged"):
        Interface.read(path)


def test_the_file_of_an_interface(tmp_path: Path):
    interface = Interface("mine", spaces.Discrete(3), spaces.Box(-np.inf, np.inf, (2,)), (32, 48), 2.5, 4)
    interface.write(tmp_path / "spaces.json")
    assert Interface.read(tmp_path / "spaces.json") == interface


@pytest.mark.parametrize(
    "name", ["dummy", "atari_pong", "atari100k_pong", "dmc_walker_walk", "dmc_vision_cartpole_swingup"]
)
def test_codecs_of_the_file_are_those_of_the_environment(name: str, tmp_path: Path):
    """An agent that is loaded without its environment sees and acts as it did with it."""
    if name.startswith("dmc_"):
        pytest.importorskip("dm_control", reason="dm-control does not install on Python 3.13")
    environment = envs.make(name, num_envs=1, seed=0)
    path = tmp_path / "spaces.json"
    Interface.of(environment, settings=EnvSettings()).write(path)
    interface = Interface.read(path)
    observation_codec, action_codec = codecs(interface)
    assert observation_codec.spec == environment.observation_spec
    assert action_codec.spec == environment.action_spec
    assert interface.action_repeat == environment.action_repeat
    shown = environment.reset().observation
    single = {key: array[0] for key, array in shown.items()}
    if name != "dummy":  # whose own observations are nested
        native = single if isinstance(interface.observation_space, spaces.Dict) else single["image"]
        assert interface.observation_space.contains(native)
        for key, array in observation_codec.encode(native).items():
            np.testing.assert_array_equal(array, single[key])
    environment.close()


@pytest.mark.parametrize(
    ("name", "workers"), [("atari_pong", "auto"), ("CartPole-v1", "none"), ("CartPole-v1", "spawn")]
)
def test_several_environments_have_the_spaces_of_one(name: str, workers: Literal["auto", "none", "spawn"]):
    one = envs.make(name, num_envs=1, seed=0)
    several = envs.make(name, num_envs=2, seed=0, settings=envs.EnvSettings(workers=workers))
    assert_identical(several.native_observation_space, one.native_observation_space)
    assert_identical(several.native_action_space, one.native_action_space)
    one.close()
    several.close()
