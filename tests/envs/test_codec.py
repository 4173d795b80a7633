"""Spaces to arrays and back."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.codec import ActionCodec, ObservationCodec
from envs.environment import EnvironmentFault
from envs.spaces import DiscreteSpec, ImageSpec, VectorSpec


def box(low, high, *, dtype=np.float32):
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


LEAVES = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 5)),
    st.builds(lambda nvec: spaces.MultiDiscrete(nvec), st.lists(st.integers(1, 5), min_size=1, max_size=3)),
    st.builds(
        lambda nvec: spaces.MultiDiscrete([nvec, nvec], start=[[1] * len(nvec), [-2] * len(nvec)]),
        st.lists(st.integers(1, 4), min_size=1, max_size=2),
    ),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
    st.builds(lambda a, b: spaces.MultiBinary([a, b]), st.integers(1, 2), st.integers(1, 2)),
    st.builds(lambda low, width: box([low, low - 1], [low + width, low]), st.floats(-5, 5), st.floats(0.5, 9)),
    st.just(spaces.Box(-3.0, 7.0, (2, 1), np.float64)),
)
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(spaces.Dict),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)


def pick(value, path):
    for name in path.split("/") if path not in ("action", "state", "symbol") else ():
        value = value[int(name)] if isinstance(value, tuple) else value[name]
    return value


def leaf(space, path):
    for name in path.split("/") if path != "action" else ():
        space = space.spaces[int(name)] if isinstance(space, spaces.Tuple) else space.spaces[name]
    return space


def flatten(space, value, spec):
    """The flat vector of an action, written from the contract: sorted keys, one-hot blocks, [-1, 1] units."""
    blocks = []
    for key in sorted(spec):
        part, child = np.asarray(pick(value, key)), leaf(space, key)
        if isinstance(spec[key], VectorSpec):
            blocks.append((2 * (part - child.low) / (child.high - child.low) - 1).ravel())
            continue
        start = 0 if isinstance(child, spaces.MultiBinary) else child.start
        index = np.atleast_1d(part - start).ravel()
        blocks += [np.eye(n)[i] for n, i in zip(spec[key].num_classes, index, strict=True)]
    return np.concatenate(blocks).astype(np.float32)


def assert_same(space, left, right):
    if isinstance(space, spaces.Dict):
        assert left.keys() == right.keys()
        for name, child in space.spaces.items():
            assert_same(child, left[name], right[name])
    elif isinstance(space, spaces.Tuple):
        for child, a, b in zip(space.spaces, left, right, strict=True):
            assert_same(child, a, b)
    else:
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


@settings(max_examples=150, deadline=None)
@given(SPACES, st.integers(0, 2**31))
def test_every_action_can_be_reached(space, seed):
    space.seed(seed)
    action = space.sample()
    codec = ActionCodec(space)
    decoded = codec.decode(flatten(space, action, codec.spec))
    assert space.contains(decoded)
    assert_same(space, decoded, action)


@settings(max_examples=150, deadline=None)
@given(SPACES, st.integers(0, 2**31))
def test_any_flat_vector_is_a_valid_action_and_batches_decode_row_by_row(space, seed):
    codec = ActionCodec(space)
    flat = 3 * np.random.default_rng(seed).normal(size=(3, codec.width)).astype(np.float32)
    batch = codec.decode(flat)
    for i, row in enumerate(flat):
        single = codec.decode(row)
        assert space.contains(single)
        for key in codec.spec:
            np.testing.assert_array_equal(np.asarray(pick(batch, key))[i], pick(single, key))


@settings(max_examples=150, deadline=None)
@given(SPACES, st.integers(0, 2**31))
def test_observations_keep_their_values(space, seed):
    space.seed(seed)
    samples = [space.sample() for _ in range(2)]
    codec = ObservationCodec(space)
    for sample in samples:
        encoded = codec.encode(sample)
        assert encoded.keys() == codec.spec.keys()
        for key, part in codec.spec.items():
            value = np.asarray(pick(sample, key))
            if isinstance(part, VectorSpec):
                assert encoded[key].dtype == np.float32
                np.testing.assert_array_equal(encoded[key], value.astype(np.float32).ravel())
            else:
                assert encoded[key].dtype == np.int32
                assert encoded[key].shape == (len(part.num_classes),)
                assert np.all((encoded[key] >= 0) & (encoded[key] < part.num_classes))


def test_actions_that_are_none_are_named():
    codec = ActionCodec(spaces.Dict(jump=spaces.Discrete(2, start=3), turn=spaces.Box(-1, 1, (2,))))
    codec.encode({"jump": 4, "turn": np.zeros(2)})
    with pytest.raises(EnvironmentFault, match=r"'jump' has values 5 to 5, which Discrete\(2, start=3\) does not"):
        codec.encode({"jump": 5, "turn": np.zeros(2)})
    with pytest.raises(EnvironmentFault, match="action 'turn' is missing from"):
        codec.encode({"jump": 4})
    with pytest.raises(EnvironmentFault, match=r"action 'turn' is 1; give numbers of shape \(2,\)"):
        codec.encode({"jump": 4, "turn": 1})


def test_discrete_values_start_at_zero():
    codec = ObservationCodec(spaces.Discrete(4, start=5))
    assert codec.spec == {"symbol": DiscreteSpec((4,))}
    assert codec.encode(np.int64(7))["symbol"].tolist() == [2]
    assert ActionCodec(spaces.Discrete(4, start=5)).decode(np.array([0, 0, 1, 0], np.float32)) == 7


def test_nested_keys_and_bare_keys():
    nested = spaces.Dict(
        {"a": spaces.Tuple((spaces.Discrete(2), spaces.Dict({"b": box([0.0], [1.0])}))), "c": box([0.0], [1.0])}
    )
    assert ObservationCodec(nested).spec == {"a/0": DiscreteSpec((2,)), "a/1/b": VectorSpec(1), "c": VectorSpec(1)}
    assert list(ObservationCodec(box([0.0], [1.0])).spec) == ["state"]
    assert list(ObservationCodec(spaces.Box(0, 255, (8, 9, 3), np.uint8)).spec) == ["image"]
    assert list(ActionCodec(spaces.Discrete(3)).spec) == ["action"]


def test_keys_that_collide_are_refused():
    space = spaces.Dict({"a/b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})})
    with pytest.raises(EnvironmentFault, match="'a/b'"):
        ObservationCodec(space)


def test_boxes_are_rescaled_per_dimension_and_clipped():
    codec = ActionCodec(box([-1.0, 0.0, 10.0], [1.0, 10.0, 30.0]))
    np.testing.assert_allclose(codec.decode(np.array([0.5, -1.0, 0.0], np.float32)), [0.5, 0.0, 20.0])
    np.testing.assert_allclose(codec.decode(np.array([5.0, -5.0, 2.0], np.float32)), [1.0, 0.0, 30.0])
    integers = ActionCodec(spaces.Box(0, 10, (1,), np.int64)).decode(np.array([0.05], np.float32))
    assert integers.dtype == np.int64
    assert integers.tolist() == [5]


def test_unbounded_actions_need_a_bound():
    space = spaces.Box(np.array([-np.inf, 0.0]), np.array([np.inf, 4.0]), dtype=np.float64)
    with pytest.raises(EnvironmentFault, match=r"--environment\.action-bound"):
        ActionCodec(space)
    assert ActionCodec(space, bound=3.0).decode(np.array([1.0, 1.0], np.float32)).tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(4),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.OneOf([spaces.Discrete(2)]),
        spaces.Graph(box([0.0], [1.0]), None),
    ],
    ids=lambda space: type(space).__name__,
)
def test_unsupported_spaces_are_named(space):
    name = type(space).__name__
    with pytest.raises(EnvironmentFault, match=f"'x/y' is a {name} space"):
        ObservationCodec(spaces.Dict({"x": spaces.Dict({"y": space})}))
    with pytest.raises(EnvironmentFault, match=f"is a {name} space"):
        ActionCodec(space)


def test_a_shape_that_differs_is_named():
    codec = ObservationCodec(spaces.Dict({"pose": spaces.Box(-1.0, 1.0, (3,))}))
    with pytest.raises(EnvironmentFault, match=r"'pose' has shape \(4,\)"):
        codec.encode({"pose": np.zeros(4, np.float32)})


def test_encoding_copies():
    codec = ObservationCodec(
        spaces.Dict(
            {
                "v": spaces.Box(-1.0, 1.0, (3,)),
                "i": spaces.Box(0, 255, (5, 6, 3), np.uint8),
                "d": spaces.MultiDiscrete([3]),
            }
        )
    )
    source = {"v": np.zeros(3, np.float32), "i": np.zeros((5, 6, 3), np.uint8), "d": np.zeros(1, np.int32)}
    encoded = codec.encode(source)
    for array in source.values():
        array += 1
    assert all(not array.any() for array in encoded.values())


def test_image_and_vector_kinds():
    kinds = {
        (0, 255, (64, 48, 3), np.uint8): ImageSpec(64, 48, 3),
        (0, 255, (3, 64, 48), np.uint8): ImageSpec(64, 48, 3),
        (0, 255, (4, 84, 84), np.uint8): ImageSpec(84, 84, 4),
        (0, 255, (33, 17), np.uint8): ImageSpec(33, 17, 1),
        (0, 255, (7, 7, 3), np.uint8): ImageSpec(7, 7, 3),
        (0, 1, (20, 30, 3), np.float32): ImageSpec(20, 30, 3),
        (0, 255, (3, 20, 30), np.float64): ImageSpec(20, 30, 3),
        (0, 1, (10, 12), np.float32): VectorSpec(120),
        (0, 9, (7, 7, 3), np.uint8): VectorSpec(147),
        (-1, 1, (20, 30), np.float32): VectorSpec(600),
        (0, 255, (8,), np.uint8): VectorSpec(8),
        (0, 5, (2, 2), np.int64): VectorSpec(4),
    }
    for (low, high, shape, dtype), expected in kinds.items():
        (part,) = ObservationCodec(spaces.Box(low, high, shape, dtype)).spec.values()
        assert part == expected, (shape, dtype)


def test_an_image_without_an_images_bounds_is_refused():
    with pytest.raises(EnvironmentFault, match=r"neither 0..1 nor 0..255"):
        ObservationCodec(spaces.Box(-1.0, 1.0, (64, 64, 3)))


@pytest.mark.parametrize("lead", [(), (2,)])
def test_images_become_uint8_height_width_channels(lead):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (*lead, 20, 30, 3)).astype(np.uint8)
    layouts = {
        "hwc": (spaces.Box(0, 255, (20, 30, 3), np.uint8), truth),
        "chw": (spaces.Box(0, 255, (3, 20, 30), np.uint8), np.moveaxis(truth, -1, -3)),
        "unit": (spaces.Box(0.0, 1.0, (20, 30, 3)), (truth / 255).astype(np.float32)),
        "float": (spaces.Box(0.0, 255.0, (3, 20, 30)), np.moveaxis(truth, -1, -3).astype(np.float32)),
        "grey": (spaces.Box(0, 255, (20, 30), np.uint8), truth[..., 0]),
    }
    for name, (space, value) in layouts.items():
        image = ObservationCodec(space).encode(value, lead=lead)["image"]
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, truth[..., :1] if name == "grey" else truth, err_msg=name)


def test_images_outside_their_bounds_do_not_wrap_around():
    codec = ObservationCodec(spaces.Box(0, 255, (4, 5, 3), np.uint8))
    assert codec.encode(np.full((4, 5, 3), 255, np.int64))["image"].max() == 255
    with pytest.raises(EnvironmentFault, match="256"):
        codec.encode(np.full((4, 5, 3), 256, np.int64))
    with pytest.raises(EnvironmentFault, match="nan"):
        ObservationCodec(spaces.Box(0.0, 1.0, (20, 20))).encode(np.full((20, 20), np.nan, np.float32))


def test_image_size_resizes_images_only():
    space = spaces.Dict({"eye": spaces.Box(0, 255, (20, 40, 3), np.uint8), "pose": spaces.Box(-1.0, 1.0, (2,))})
    codec = ObservationCodec(space, image_size=(16, 24))
    assert codec.spec == {"eye": ImageSpec(16, 24, 3), "pose": VectorSpec(2)}
    half = np.zeros((2, 20, 40, 3), np.uint8)
    half[:, :, 20:] = 200
    eye = codec.encode({"eye": half, "pose": np.zeros((2, 2))}, lead=(2,))["eye"]
    assert eye.shape == (2, 16, 24, 3)
    assert (eye[:, :, :11] == 0).all()  # left stays left: height and width are not swapped
    assert (eye[:, :, 13:] == 200).all()


@pytest.mark.parametrize("shape", [(20, 24, 32), (40, 24, 32)])
def test_where_the_layout_cannot_be_guessed_it_can_be_said(shape):
    """Twenty channels in front are taken for them, forty are not, and only the user knows."""
    space = spaces.Box(0, 1, shape, np.float32)
    image = np.zeros(shape, np.float32)
    image[1, 2, 3] = 1
    first = ObservationCodec(space, image_layout="channels_first")
    assert first.spec == {"image": ImageSpec(24, 32, shape[0])}
    assert first.encode(image)["image"][2, 3, 1] == 255
    assert first.describe_layouts() == "image: channels first, 0..1"
    last = ObservationCodec(space, image_layout="channels_last")
    assert last.spec == {"image": ImageSpec(*shape)}
    assert last.encode(image)["image"][1, 2, 3] == 255
    assert last.describe_layouts() == "image: channels last, 0..1"
    assert ObservationCodec(space).spec == (first if shape[0] < shape[-1] else last).spec


def test_images_as_they_are_stored_are_no_news():
    codec = ObservationCodec(spaces.Dict(eye=spaces.Box(0, 255, (8, 8, 3), np.uint8), arm=spaces.Box(-1, 1, (3,))))
    assert codec.describe_layouts() is None


@settings(max_examples=60, deadline=None)
@given(SPACES, st.integers(0, 2**16))
def test_there_and_back_changes_no_bit(space, seed):
    """Native observations of a space survive the flat arrays, and chosen actions the flat vector."""
    space.seed(seed)
    batch = [space.sample() for _ in range(3)]
    observations = ObservationCodec(space)
    encoded = [observations.encode(value) for value in batch]
    stacked = {key: np.stack([one[key] for one in encoded]) for key in observations.spec}
    again = observations.encode(observations.decode(stacked), lead=(3,))
    for key, array in again.items():
        assert array.dtype == stacked[key].dtype
        np.testing.assert_array_equal(array, stacked[key])
    assert observations.decoded_space == space
    for value, one in zip(batch, encoded, strict=True):
        decoded = observations.decode(one)
        assert space.contains(decoded)
        np.testing.assert_allclose(spaces.flatten(space, decoded), spaces.flatten(space, value), rtol=1e-5, atol=1e-5)

    actions = ActionCodec(space)
    flat = np.stack([actions.encode(value) for value in batch])
    np.testing.assert_allclose(flat[0], flatten(space, batch[0], actions.spec), atol=1e-6)
    np.testing.assert_array_equal(actions.encode(actions.decode(flat), lead=(3,)), flat)
    for value, one in zip(batch, flat, strict=True):
        for key in actions.spec:
            np.testing.assert_allclose(pick(actions.decode(one), key), pick(value, key), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("native", "size"),
    [
        (spaces.Box(0, 255, (3, 20, 24), np.uint8), None),
        (spaces.Box(0, 255, (20, 24), np.uint8), (10, 12)),
        (spaces.Box(0.0, 1.0, (20, 24, 3), np.float32), None),
        (spaces.Box(0, 255, (3, 20, 24), np.uint8), (10, 12)),
    ],
)
def test_images_return_as_the_environment_orders_them(native, size):
    codec = ObservationCodec(spaces.Dict(eye=native), image_size=size)
    native.seed(0)
    encoded = codec.encode({"eye": np.stack([native.sample(), native.sample()])}, lead=(2,))
    decoded = codec.decode(encoded)
    assert all(codec.decoded_space.contains({"eye": image}) for image in decoded["eye"])
    of_decoded = ObservationCodec(codec.decoded_space, image_size=size)
    assert of_decoded.spec == codec.spec
    np.testing.assert_array_equal(of_decoded.encode(decoded, lead=(2,))["eye"], encoded["eye"])


@pytest.mark.parametrize(
    ("space", "action", "fault"),
    [
        (spaces.Discrete(3), 3, "'action' has values 3 to 3"),
        (spaces.Box(-1.0, 1.0, (2,)), np.array([0.0, np.nan]), "NaN"),
        (spaces.Box(-1.0, 1.0, (2,)), np.zeros(3), r"give numbers of shape \(2,\)"),
    ],
)
def test_actions_that_a_space_does_not_have_are_refused(space, action, fault):
    with pytest.raises(EnvironmentFault, match=fault):
        ActionCodec(space).encode(action)
