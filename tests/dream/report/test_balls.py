"""The environment moves without an error and keeps the laws, the frozen frame errs by the true speed."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.dream.controls import Frozen
from dreamer.dream.report import balls, physical
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import FROZEN, MODEL, TRUTH, Quantity
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.starts import PlayedStarts
from envs import motion
from envs.environment import Environment
from tests.dream.agents import single
from tests.dream.report.benches import bench_of, make_cartpole, starts


def bench_with(kind: str) -> Bench:
    """The environment in the place of the model."""

    def build(seed: int) -> Environment:
        return single(f"dreamer/{kind}-v0", seed=seed)

    start = PlayedStarts(build, agent=None, context=2, spacing=5).draw(8, seed=0)
    model = OnceOnly(build)
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    return Bench({MODEL: model, FROZEN: frozen}, OnceOnly(build), start, 0, None, build, print)


@pytest.fixture(scope="module")
def uniform() -> list[Quantity]:
    return physical.measure(bench_with("Uniform"))


def test_the_frozen_frame_errs_by_the_true_speed(uniform: list[Quantity]):
    inside, combined, outside, ratio, *_ = uniform
    for quantity, (slowest, fastest) in (
        (inside, (motion.SLOW[0], motion.FAST[1])),
        (combined, motion.FAST),
        (outside, motion.FASTER),
    ):
        own, control, truth = (quantity.at(name) for name in (MODEL, FROZEN, TRUTH))
        assert own is not None
        assert own == truth
        assert own.mean == 0
        assert control is not None
        assert slowest - 0.02 < control.mean < fastest + 0.02
        assert quantity.verdict() == "measured"
    control = ratio.at(FROZEN)
    assert control is not None
    assert 1.2 < control.mean < 4


def test_the_environment_drifts_by_what_cannot_be_read_and_the_frozen_frame_loses_all(uniform: list[Quantity]):
    for quantity in uniform[-2:]:
        assert len(quantity.x) == len(quantity.values[MODEL]) == balls.STEPS
        for own, control in zip(quantity.values[TRUTH], quantity.values[FROZEN], strict=True):
            assert own is not None
            assert control is not None
            assert own.mean < 0.07
            assert control.mean == pytest.approx(1)
        assert quantity.verdict() == "measured"
        assert max(one.mean for one in quantity.values[TRUTH] if one is not None) > 0


@pytest.mark.parametrize("kind", ["Parabola", "Collision"])
def test_frames_keep_the_laws_of_falling_and_of_collisions(kind: str):
    _, tracks = balls._tracks(bench_with(kind), f"dreamer/{kind}-v0")
    for lost in balls.drift(tracks[TRUTH], gravity=motion.GRAVITY if kind == "Parabola" else 0.0):
        assert lost.shape == (8, balls.STEPS)
        assert lost.mean() < 0.08
    assert balls.drift(tracks[FROZEN], gravity=0.0)[1] == pytest.approx(1)
    if kind == "Parabola":  # without gravity in the law, falling would be drift
        assert balls.drift(tracks[TRUTH], gravity=0.0)[0][:, -1].min() > 0.4


def thrown(speeds: np.ndarray, *, mass: float = 1.0) -> balls.Tracks:
    """A ball with given speeds `[T, 2]`."""
    place = np.concatenate([np.zeros((1, 2)), np.cumsum(speeds, axis=0)])
    return balls.Tracks(place[:, None, None], np.full((1, 1), mass))


def test_drift_by_hand():
    steady = np.array([[0.5, 0.0]] * 3)
    steady[1:] *= 1.1
    momentum, energy = balls.drift(thrown(steady), gravity=0.0)
    np.testing.assert_allclose(momentum, [[0.1, 0.1]])
    np.testing.assert_allclose(energy, [[0.21, 0.21]])
    falling = np.array([[0.3, -0.4 + 0.1 * step] for step in range(3)])
    for lost in balls.drift(thrown(falling, mass=9.0), gravity=0.1):
        np.testing.assert_allclose(lost, [[0, 0]], atol=1e-12)
    both = balls.Tracks(np.concatenate([thrown(steady).place, -thrown(steady).place], axis=2), np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(balls.drift(both, gravity=0.0)[0], [[0, 0]])  # of opposite balls nothing is lost
    gone = thrown(steady)
    gone.place[2:] = np.nan
    for lost in balls.drift(gone, gravity=0.0):  # a ball that is not seen rests
        np.testing.assert_allclose(lost, [[1, 1]])


def test_ratio_and_errors_by_hand():
    assert balls.ratio_of_means(np.array([[2.0, 1.0], [4.0, 1.0]])) == 3


@pytest.mark.parametrize("env", ["CartPole-v1"])
def test_in_another_world_there_is_nothing_to_measure(env: str):
    assert physical.measure(bench_of(OnceOnly(make_cartpole), starts(8))) == []
