"""The environment moves without an error, the frozen frame errs by the true speed."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.dream.controls import Frozen
from dreamer.dream.report import physical
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import FROZEN, MODEL, TRUTH
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.starts import PlayedStarts
from envs import motion
from envs.environment import Environment
from tests.dream.agents import single
from tests.dream.report.benches import bench_of, make_cartpole, starts


def make_uniform(seed: int) -> Environment:
    return single("dreamer/Uniform-v0", seed=seed)


def test_the_frozen_frame_errs_by_the_true_speed():
    start = PlayedStarts(make_uniform, agent=None, context=2, spacing=5).draw(8, seed=0)
    model = OnceOnly(make_uniform)
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    bench = Bench({MODEL: model, FROZEN: frozen}, OnceOnly(make_uniform), start, 0, None, make_uniform, print)
    inside, combined, outside, ratio = physical.measure(bench)
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


def test_ratio_and_errors_by_hand():
    assert physical.ratio_of_means(np.array([[2.0, 1.0], [4.0, 1.0]])) == 3


@pytest.mark.parametrize("env", ["CartPole-v1"])
def test_in_another_world_there_is_nothing_to_measure(env: str):
    assert physical.measure(bench_of(OnceOnly(make_cartpole), starts(8))) == []
