"""Views that were turned away from: reality knows them again, controls guess, and who forgets is found out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer.dream.controls import ActionBlind, Frozen
from dreamer.dream.report import mazes
from dreamer.dream.report.bench import Bench
from dreamer.dream.report.distance import ssim
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, TRUTH
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.simulation import Outcome, Start
from dreamer.dream.starts import PlayedStarts
from dreamer.dream.truth import Truth
from envs import memory_maze
from envs.environment import Environment
from tests.dream.agents import single
from tests.dream.report import panorama
from tests.dream.report.benches import bench_of, make_cartpole, starts

MAZE = "dreamer/MemoryMaze-9x9-v0"


class Forgetful:
    """The real environment, of which it shows noise from so many imagined steps on; 1,000: it forgets nothing."""

    def __init__(self, environment: Environment, *, after: int) -> None:
        self._truth, self._after = Truth(environment), after
        self.observation_spec, self.action_spec = self._truth.observation_spec, self._truth.action_spec

    def begin(self, start: Start, *, seed: int) -> tuple[Any, Outcome]:
        state, outcome = self._truth.begin(start, seed=seed)
        return (state, 0), outcome

    def step(self, state: Any, action: np.ndarray) -> tuple[Any, Outcome]:
        inner, steps = state
        inner, outcome = self._truth.step(inner, action)
        if steps >= self._after:
            noise = np.random.default_rng(steps).integers(256, size=(1, 64, 64, 3), dtype=np.uint8)
            outcome = outcome._replace(observation={"image": noise})
        return (inner, steps + 1), outcome


def bench_in(env: str, *, after: int, num: int = 8) -> Bench:
    """A bench whose model knows what the environment does, for so many steps."""

    def make(seed: int) -> Environment:
        return single(env, seed=seed)

    model = Forgetful(make(0), after=after)
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    models = {MODEL: model, BLIND: ActionBlind(Truth(make(0))), FROZEN: frozen}
    start = PlayedStarts(make, agent=None, context=2, spacing=2).draw(num, seed=0)
    return Bench(models, OnceOnly(make), start, 0, None, make, print)


@pytest.fixture
def turning(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(memory_maze, "IDS", {**memory_maze.IDS, panorama.ID: panorama.ID})
    return panorama.ID


def test_the_environment_knows_every_view_again_and_controls_guess(turning: str):
    known, retrieval, reasoning, half_life = mazes.measure(bench_in(turning, after=1000))
    for name, share in ((MODEL, 1), (TRUTH, 1), (BLIND, 0.5), (FROZEN, 0.5)):
        assert {one.mean for one in known.values[name] if one is not None} == {share}
    for likeness in (retrieval, reasoning):
        assert {one.mean for one in likeness.values[TRUTH] if one is not None} == {1}
        assert all(one is not None and one.high < 0.5 for one in likeness.values[FROZEN])
    assert {quantity.verdict() for quantity in (known, retrieval, reasoning)} == {"measured"}
    assert half_life.at(MODEL) == half_life.at(TRUTH) == (128, 128, 128, 8)


def test_who_forgets_is_found_out_from_the_gap_on_at_which_it_does(turning: str):
    known, retrieval, _, half_life = mazes.measure(bench_in(turning, after=30))
    shares = [one.mean for one in known.values[MODEL] if one is not None]
    assert shares[:3] == [1, 1, 1]
    assert max(shares[3:]) < 0.75
    assert half_life.at(MODEL) == (64, 64, 64, 8)
    assert known.verdict() == "no better than a control"
    like = [one.mean for one in retrieval.values[MODEL] if one is not None]
    assert min(like[:3]) == 1
    assert max(like[3:]) < 0.3


def test_the_first_view_is_out_of_sight_until_it_is_turned_back_to(turning: str):
    environment = single(turning)
    walk = mazes.turn_away(environment, to_the_left=True)
    frames = walk.start.observation["image"][0]
    first = next(i for i in range(len(frames)) if walk.start.is_first[0, i])
    views = mazes.views_of(Truth(environment), walk, seed=0)
    for back, beyond, around in views:
        np.testing.assert_array_equal(back, frames[first])
        np.testing.assert_array_equal(around, frames[first])
        assert ssim(beyond, frames[first]) < 0.5
    assert ssim(frames[-1], frames[first]) < 0.5
    environment.close()


def test_in_another_world_there_is_nothing_to_measure():
    assert mazes.measure(bench_of(OnceOnly(make_cartpole), starts(8))) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of gym, which is not maintained, and of what it imports
def test_in_the_real_maze_turning_back_shows_the_first_view_again():
    environment = single(MAZE)
    walk = mazes.turn_away(environment, to_the_left=True)
    frames = walk.start.observation["image"][0]
    first = frames[int(np.flatnonzero(walk.start.is_first[0])[-1])]
    contestants = {
        TRUTH: Truth(environment),
        MODEL: Forgetful(environment, after=30),
        BLIND: ActionBlind(Truth(environment)),
    }
    views = {name: mazes.views_of(one, walk, seed=0)[None] for name, one in contestants.items()}
    environment.close()
    for back, beyond, _ in views[TRUTH][0]:  # after every gap: nothing moves but the agent
        assert ssim(back, first) > ssim(beyond, first) + 0.1
    shares = {name: mazes.told_apart(seen, views[TRUTH])[0] for name, seen in views.items()}
    assert shares[TRUTH].tolist() == [1] * len(mazes.GAPS)
    assert shares[BLIND].tolist() == [0.5] * len(mazes.GAPS)
    assert shares[MODEL][:3].tolist() == [1, 1, 1]
    likeness = ssim(views[MODEL], views[TRUTH])[0]
    assert likeness[:3, :2].min() == 1  # all the way round takes longer
    assert likeness[3:].max() < 0.3
