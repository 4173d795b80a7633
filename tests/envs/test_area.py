"""Area resampling against ale-py's own resize, which is OpenCV's, and against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from envs.area import AreaResize
from envs.atari import AtariImages, native_vector_env
from envs.atari_protocol import atari_protocol
from envs.environment import EnvSettings


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (105, 80), (70, 40), (105, 96), (210, 64), (13, 159), (210, 160)])
@pytest.mark.parametrize("grayscale", [False, True])
def test_resizes_as_ale_py_to_the_last_bit(size, grayscale):
    def frames(height, width):
        settings = EnvSettings(image_size=(height, width), grayscale=grayscale)
        protocol = atari_protocol("atari_seaquest", settings)
        env = AtariImages(native_vector_env(protocol, num_envs=1), protocol)
        yield env.reset(seed=np.array([1]))[0][0]
        rng = np.random.default_rng(0)
        for _ in range(60):
            yield env.step(rng.integers(0, 18, 1))[0][0]

    resize = AreaResize((210, 160), size)
    for full, small in zip(frames(210, 160), frames(*size), strict=True):
        np.testing.assert_array_equal(resize(full), small)


def test_is_the_mean_of_the_area_on_noise():
    image = np.random.default_rng(0).integers(0, 256, (210, 160, 3)).astype(np.uint8)

    def weights(source, target):
        edges = np.arange(target + 1) * source / target
        left, right = np.arange(source), np.arange(source) + 1
        overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
        return np.clip(overlap, 0, None) * target / source

    exact = np.einsum("yh,hwc,xw->yxc", weights(210, 64), image.astype(np.float64), weights(160, 64))
    difference = AreaResize((210, 160), (64, 64))(image) - exact
    assert np.abs(difference).max() <= 0.501


def test_enlarging_is_refused():
    with pytest.raises(ValueError, match="larger than the screen"):
        AreaResize((210, 160), (64, 161))
