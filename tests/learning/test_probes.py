"""Five tasks with known optima: each fails in its own way when a part of the algorithm is wrong.

Everything is real but small: the debug model, a fast learning rate, and the loop of `dreamer.train`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from dreamer.train import main
from dreamer.training.state import Definition
from dreamer.training.step import initial_carry, policy_step
from tests.integration.runs import newest, restored_definition

FAST = ["--preset", "debug", "--log.quiet", "--optimizer.learning-rate", "1e-3", "--optimizer.warmup", "100"]


def train(env: str, run: Path, *, steps: int, flags: tuple[str, ...] = ()) -> None:
    ratio = () if "--train-ratio" in flags else ("--train-ratio", "32")
    assert main(["--env", env, *FAST, *ratio, *flags, "--steps", str(steps), "--logdir", str(run)]) == 0


def last_scores(run: Path, number: int) -> np.ndarray:
    with (run / "episodes.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)][-number:])


def values(run: Path, observations: list[list[float]]) -> list[float]:
    """The critic along one episode of observations, with the action of index 0 in between."""
    definition: Definition = restored_definition(run)
    params = newest(run).arrays["train"].params
    model, carry, found = definition.bind(params), initial_carry(definition, 1), []
    for index, observation in enumerate(observations):
        state = {"state": np.array([observation], np.float32)}
        carry, _, _ = policy_step(definition, params, carry, state, np.array([index == 0]), None)
        found.append(float(model.behavior.critic(model.world.features(carry.latent)).mean()[0]))
    return found


def test_value(tmp_path: Path):
    """Reward 1 at the end of one step: the value of the start is 1."""
    train("dreamer/ProbeValue-v0", tmp_path, steps=1000)
    np.testing.assert_allclose(values(tmp_path, [[0.0]]), [1.0], atol=0.05)


def test_discount(tmp_path: Path):
    """Reward 1 after two steps at gamma 0.8: the value is 0.8, then 1."""
    train("dreamer/ProbeDiscount-v0", tmp_path, steps=1500, flags=("--discount-horizon", "5"))
    np.testing.assert_allclose(values(tmp_path, [[0.0], [1.0]]), [0.8, 1.0], atol=0.05)


def test_action_depends_on_observation(tmp_path: Path):
    """Contextual bandit: chance is 0.5, the optimum 1."""
    train("dreamer/ProbeContext-v0", tmp_path, steps=2000)
    assert last_scores(tmp_path, 100).mean() >= 0.95


def test_memory(tmp_path: Path):
    """A cue of the first step is right for all six actions; without memory 7/12 is the best."""
    train("dreamer/ProbeMemory-v0", tmp_path, steps=4000, flags=("--replay.batch-size", "16", "--train-ratio", "128"))
    assert last_scores(tmp_path, 100).mean() >= 0.9


def test_continuous_action(tmp_path: Path):
    """The target is shown: a constant action earns at most 2/3 on average, the optimum is near 1."""
    train("dreamer/ProbeContinuous-v0", tmp_path, steps=4000)
    assert last_scores(tmp_path, 100).mean() >= 0.9


@pytest.fixture(autouse=True)
def _no_leftovers():
    yield
    jax.clear_caches()
