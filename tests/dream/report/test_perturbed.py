"""In other worlds the environment is right, and a perfect model of the ordinary world is wrong; on the real MuJoCo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dreamer import report
from dreamer.dream.controls import Frozen
from dreamer.dream.report import perturbed, physical
from dreamer.dream.report.bench import CONTEXT, Bench
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, SHUFFLED, TRUTH, Quantity
from dreamer.dream.report.futures import OnceOnly
from dreamer.dream.report.registry import METRICS
from dreamer.dream.simulation import Outcome, Start
from dreamer.dream.starts import PlayedStarts
from envs.environment import Environment
from tests.dream.agents import single, untrained

pytest.importorskip("dm_control", reason="dm-control does not install on Python 3.13: labmaze has no wheel for it")

# dm_control itself: GLFW without a display.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dm_control")


def make_pendulum(seed: int) -> Environment:
    return single("dmc_pendulum_swingup", seed=seed)


def make_cartpole(seed: int) -> Environment:
    return single("dmc_cartpole_balance", seed=seed)


class Ordinary(OnceOnly):
    """The environment that takes every world for the ordinary one: it forgets what was scaled."""

    def begin(self, start: Start, *, seed: int) -> tuple[np.ndarray, Outcome]:
        assert start.forks is not None
        forks = [
            (ended, [{key: value for key, value in one.items() if not key.startswith("model/")} for one in inner])
            for ended, inner in start.forks
        ]
        return super().begin(start._replace(forks=tuple(forks)), seed=seed)


def bench_of(make: Callable[[int], Environment], *, spacing: int = 5, model: type[OnceOnly] = Ordinary) -> Bench:
    """An environment in the place of the model."""
    start = PlayedStarts(make, agent=None, context=CONTEXT, spacing=spacing).draw(8, seed=0)
    truth = OnceOnly(make)
    frozen = Frozen(observation_spec=truth.observation_spec, action_spec=truth.action_spec)
    return Bench({MODEL: model(make), FROZEN: frozen}, truth, start, 0, None, make, print)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_of(make_pendulum)


@pytest.fixture(scope="module")
def measured(bench: Bench) -> dict[str, Quantity]:
    return {quantity.key: quantity for quantity in physical.measure(bench)}


def means(quantity: Quantity, name: str) -> np.ndarray:
    return np.array([one.mean for one in quantity.values[name] if one is not None])


def test_every_quantity_is_there_with_all_its_places(measured: dict[str, Quantity]):
    curves = {f"{name}_error_{step}" for name in perturbed.SCALED for step in perturbed.HORIZONS}
    assert measured.keys() == {"state_error", *curves, *(f"{name}_ratio" for name in perturbed.SCALED)}
    for key in curves:
        assert measured[key].x == perturbed.FACTORS
        assert {len(estimates) for estimates in measured[key].values.values()} == {len(perturbed.FACTORS)}


def test_the_environment_knows_every_world(measured: dict[str, Quantity]):
    for key, quantity in measured.items():
        if TRUTH in quantity.values:
            assert np.all(means(quantity, TRUTH) == 0), key


def test_a_model_of_the_ordinary_world_errs_the_more_the_further_away(measured: dict[str, Quantity]):
    assert np.all(means(measured["state_error"], MODEL) == 0)
    for name in perturbed.SCALED:
        half, less, same, more, twice = means(measured[f"{name}_error_15"], MODEL)
        assert same == 0
        assert half > less > 0
        assert twice > more > 0
        assert np.all(np.diff([means(measured[f"{name}_error_{step}"], MODEL)[-1] for step in (1, 5, 15)]) > 0)


def test_the_frozen_frame_errs_in_the_ordinary_world(measured: dict[str, Quantity]):
    assert np.all(means(measured["state_error"], FROZEN) > 0)
    assert measured["state_error"].verdict() == "measured"


def test_what_is_shown_was_played_in_the_scaled_world_under_the_same_actions(bench: Bench):
    steps = CONTEXT - 1 + perturbed.HORIZONS[-1]
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 8, 1)).astype(np.float32)
    environment = make_pendulum(5)
    ordinary = perturbed.play(environment, bench.start, actions)
    light = perturbed.play(environment, bench.start, actions, mass=0.5)
    for world in (ordinary, light):
        np.testing.assert_array_equal(world.start.previous_action[:, 1:], actions[: CONTEXT - 1].swapaxes(0, 1))
    velocity = [world.start.observation["velocity"] for world in (ordinary, light)]
    np.testing.assert_array_equal(velocity[0][:, 0], velocity[1][:, 0])
    np.testing.assert_array_equal(velocity[0][:, 0], bench.start.observation["velocity"][:, -1])
    assert np.all(velocity[0][:, 1] != velocity[1][:, 1])
    assert ordinary.start.observation["velocity"].shape == (8, CONTEXT, 1)
    assert ordinary.observation["velocity"].shape == (3, 8, 1)


def test_a_start_whose_episode_ends_is_left_out():
    def make_short(seed: int) -> Environment:
        return single("dmc_pendulum_swingup", seed=seed, max_episode_steps=60)

    short = bench_of(make_short, spacing=9, model=OnceOnly)
    errors = perturbed.compare(short, scaled=("gravity",), factors=(2.0,)).scaled["gravity"][2.0]
    late = np.array([fork[1][0][0] + CONTEXT - 1 + perturbed.HORIZONS[-1] >= 60 for fork in short.start.forks or ()])
    assert 0 < late.sum() < 8
    np.testing.assert_array_equal(np.isnan(errors[TRUTH]).all(axis=1), late)
    assert np.all(errors[TRUTH][~late] == 0)
    assert np.all(errors[FROZEN][~late] > 0)


def test_what_changes_nothing_is_not_asked_about():
    """Nothing rubs at a cartpole that stands upright, or nearly so."""
    found = perturbed.compare(bench_of(make_cartpole), scaled=("friction",))
    assert found.scaled == {}
    assert 0 < found.moved["friction"] < perturbed.NEGLIGIBLE


def test_of_pictures_nothing_is_measured_and_the_page_says_why(bench: Bench):
    def make_vision(seed: int) -> Environment:
        return single("dmc_vision_pendulum_swingup", seed=seed)

    truth = OnceOnly(make_vision)
    assert physical.measure(Bench({}, truth, bench.start, 0, None, make_vision, print)) == []
    truth.close()
    (metric,) = (metric for metric in METRICS if metric.measure is physical.measure)
    assert "dmc_vision_ tasks it is not measured, since the state is not observed" in metric.needs


def test_ratio_by_hand():
    assert perturbed.ratio(np.array([[2.0, 4.0, 1.0], [4.0, 6.0, 3.0]])) == 2


@pytest.mark.slow
def test_a_report_of_a_world_model_has_all_of_it(tmp_path: Path):
    run = untrained("dmc_cartpole_balance").save(tmp_path / "stranger")
    assert report.main([str(run), "--only", "physical", "--starts", "12"]) == 0
    found = json.loads((run / "report" / "report.json").read_text())["properties"]["physical"]["quantities"]
    assert len(found) == 1 + 4 * 2
    assert "The friction is not asked about" in found["state_error"]["note"]
    for key in ("state_error", "gravity_error_15", "mass_error_1"):
        assert found[key]["values"].keys() == {MODEL, BLIND, FROZEN, SHUFFLED, TRUTH}
        assert {one["mean"] for one in found[key]["values"][TRUTH]} == {0}
        assert all(one["mean"] > 0 for one in found[key]["values"][MODEL])
