"""CartPole from pixels: gymnasium's game, its picture, and a state from which it goes on exactly."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from envs.pixels import ID, LIMIT, SIDE
from envs.registry import register_gymnasium


def make() -> gymnasium.Env:
    register_gymnasium()
    return gymnasium.make(ID)


def test_it_is_an_environment():
    check_env(make().unwrapped, skip_render_check=True)


def test_it_is_the_game_of_gymnasium():
    """The same seed and actions end after as many steps."""
    mine, theirs = make(), gymnasium.make("CartPole-v1")
    for seed in range(3):
        mine.reset(seed=seed)
        theirs.reset(seed=seed)
        actions = np.random.default_rng(seed).integers(2, size=LIMIT)
        for action in actions:
            _, reward, *ends, _ = mine.step(action)
            _, expected_reward, *expected_ends, _ = theirs.step(action)
            assert (reward, ends) == (expected_reward, expected_ends)
            if any(ends):
                break


def cart_column(image: np.ndarray) -> float:
    """The middle of what is dark in the rows where the cart moves."""
    darkness = 255.0 - image[44:48].max(axis=-1)
    return float(darkness.sum(axis=0) @ np.arange(SIDE) / darkness.sum())


def test_the_picture_shows_where_the_cart_goes():
    env = make()
    image, _ = env.reset(seed=0)
    assert image.shape == (SIDE, SIDE, 3)
    first = cart_column(image)
    for _ in range(8):
        image, *_ = env.step(1)
    assert abs(first - SIDE / 2) < 2
    assert cart_column(image) > first + 0.5  # pushed to the right


def test_a_state_continues_exactly():
    env = make().unwrapped
    env.reset(seed=3)
    for _ in range(4):
        env.step(0)
    state = env.get_state()
    expected = [env.step(action)[:4] for action in (1, 1, 0, 1, 0)]
    other = make().unwrapped
    other.reset(seed=9)
    other.set_state(state)
    for action, (image, *rest) in zip((1, 1, 0, 1, 0), expected, strict=True):
        again, *more, _ = other.step(action)
        np.testing.assert_array_equal(again, image)
        assert more == rest
