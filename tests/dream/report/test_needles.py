"""Needles that are out of view for exactly so many steps; the environment remembers all, the controls none."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.dream.controls import ActionBlind, Frozen
from dreamer.dream.report import needles
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, TRUTH
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.starts import PlayedStarts
from envs import needle
from envs.environment import Environment
from tests.dream.agents import single
from tests.dream.report.benches import bench_of, make_cartpole, starts


def make_needle(seed: int) -> Environment:
    return single(needle.ID, seed=seed)


@pytest.fixture(scope="module")
def bench() -> Bench:
    start = PlayedStarts(make_needle, agent=None, context=2).draw(8, seed=0)
    model = OnceOnly(make_needle)
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    models = {MODEL: model, BLIND: ActionBlind(OnceOnly(make_needle)), FROZEN: frozen}
    return Bench(models, OnceOnly(make_needle), start, 0, None, make_needle, print)


@pytest.mark.parametrize("gap", [12, 13, 40])
def test_the_needle_is_out_of_view_for_the_whole_gap_and_no_longer(bench: Bench, gap: int):
    rng = np.random.default_rng(0)
    for index in range(8):
        one = needles.walk(bench, index)
        (context,) = one.start.observation.values()
        hidden = 0
        for frame in context[0]:
            hidden = hidden + 1 if needle.read(frame) is None else 0
        state, _ = bench.truth.begin(one.start, seed=0)
        frames = []
        for action in needles.way_back(one.seen, gap, rng):
            state, outcome = bench.truth.step(state, np.eye(5, dtype=np.float32)[[action]])
            frames.append(needle.read(outcome.observation["image"][0]))
        visible = next(i for i, seen in enumerate(frames) if seen is not None)
        assert hidden + visible == gap
        assert frames[-1] == one.seen


def test_the_environment_remembers_and_controls_do_not(bench: Bench):
    *curves, half_life = needles.measure(bench)
    assert [curve.key for curve in curves] == ["persistence", "place_persistence"]
    for curve in curves:
        for name, share in ((MODEL, 1), (TRUTH, 1), (BLIND, 0), (FROZEN, 0)):
            assert {one.mean for one in curve.values[name] if one is not None} == {share}
    assert [curve.verdict() for curve in curves] == ["pass", "measured"]
    assert half_life.values[MODEL] == half_life.values[TRUTH]
    assert half_life.at(MODEL) == (256, 256, 256, 8)


class Painted(OnceOnly):
    """The real environment in which every needle is red."""

    def step(self, state, actions):
        state, outcome = super().step(state, actions)
        image = outcome.observation["image"].copy()
        colourful = image.max(axis=-1).astype(int) - image.min(axis=-1) > needle.COLOURED
        image[colourful] = needle.COLOURS[0]
        return state, outcome._replace(observation={"image": image})


def test_a_model_that_forgets_the_colour_still_knows_the_place(bench: Bench):
    walks = [needles.walk(bench, index) for index in range(8)]
    right = needles.remembered(Painted(make_needle), walks, 16, seed=0)
    assert right[:, 1].all()
    assert right[:, 0].tolist() == [one.seen.colour == 0 for one in walks]
    assert not right[:, 0].all()


def test_in_another_world_there_is_nothing_to_measure():
    assert needles.measure(bench_of(OnceOnly(make_cartpole), starts(8))) == []
