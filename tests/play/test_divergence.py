"""How far two worlds are apart."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.play.divergence import Divergence
from envs.spaces import DiscreteSpec, ImageSpec, VectorSpec


def image(*, paddle: int | None) -> dict[str, np.ndarray]:
    screen = np.full((1, 32, 32, 3), 60, np.uint8)
    screen[:, :4] = 236  # a band that never moves says nothing
    if paddle is not None:
        screen[:, paddle : paddle + 4, 10] = (90, 200, 90)
    return {"image": screen}


def moving() -> Divergence:
    """Has seen a paddle move all over the screen."""
    divergence = Divergence({"image": ImageSpec(32, 32, 3)})
    for turn in range(200):
        divergence.learn(image(paddle=4 + turn % 24))
    return divergence


def test_what_stands_still_does_not_count():
    divergence = moving()
    assert divergence.between(image(paddle=20), image(paddle=20)) == 0.0
    assert divergence.between(image(paddle=None), image(paddle=20)) == 1.0
    assert divergence.between(image(paddle=22), image(paddle=20)) == pytest.approx(4 / 6)


def test_what_cannot_be_seen_does_not_count():
    divergence, dim = moving(), image(paddle=20)
    dim["image"] = dim["image"] + np.uint8(10)
    assert divergence.between(dim, image(paddle=20)) == 0.0


def test_components_count_in_units_of_their_range():
    divergence = Divergence({"state": VectorSpec(2)})
    for value in ([0.0, 0.0], [2.0, 100.0]):
        divergence.learn({"state": np.array([value], np.float32)})
    far = {"state": np.array([[1.0, 50.0]], np.float32)}
    assert divergence.between(far, {"state": np.zeros((1, 2), np.float32)}) == pytest.approx(0.5)
    mad = {"state": np.array([[1e6, 0.0]], np.float32)}
    assert divergence.between(mad, {"state": np.zeros((1, 2), np.float32)}) == pytest.approx(0.5**0.5)


def test_the_largest_of_all_keys_counts():
    divergence = Divergence({"state": VectorSpec(1), "mode": DiscreteSpec((3, 3))})
    here = {"state": np.ones((1, 1), np.float32), "mode": np.array([[0, 1]], np.int32)}
    divergence.learn(here)
    assert divergence.between(here, here | {"mode": np.array([[0, 2]], np.int32)}) == 0.5
