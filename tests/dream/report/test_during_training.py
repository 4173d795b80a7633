"""The report card as a run asks for it: the same numbers, an end when told to, one sentence where it cannot be."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from dreamer.agent import Agent
from dreamer.dream.report.during_training import DuringTraining
from dreamer.dream.report.estimate import BLIND, FROZEN, MODEL, SHUFFLED, TRUTH
from dreamer.dream.simulation import SimulationError
from dreamer.training.counters import Counters
from dreamer.training.scheduled_report import UnmeasurableError

NOW = Counters(400, 400, 80)


class Locked(CartPoleEnv):
    """It holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def locked() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Locked(), 500)


def measure_of(agent: Agent, *, env: Any = "CartPole-v1", only: str = "causal", num_starts: int = 8) -> DuringTraining:
    return DuringTraining(
        agent.definition, interface=agent.interface, env=env, path=agent.path, only=[only], num_starts=num_starts
    )


class EndedError(Exception):
    """The run is to end."""


class Whole(NamedTuple):
    """A report that was not interrupted."""

    measure: DuringTraining
    row: dict
    shown: list[str]
    looks: int


@pytest.fixture(scope="module")
def whole(agent: Agent) -> Whole:
    shown: list[str] = []
    looks: list[None] = []
    measure = measure_of(agent)
    row = measure(agent.params, counters=NOW, show=shown.append, look=lambda: looks.append(None))
    return Whole(measure, row, shown, len(looks))


def test_it_measures_the_model_and_its_controls(whole: Whole):
    assert list(dict.fromkeys(whole.shown)) == ["starts", "causal"]
    assert whole.row["num_starts"] == 8
    assert list(whole.row["quantities"]) == ["causal/cda", "causal/bit_test"]
    cda = whole.row["quantities"]["causal/cda"]
    assert cda["values"].keys() == {MODEL, BLIND, FROZEN, SHUFFLED, TRUTH}
    assert cda["values"][BLIND]["mean"] == 0.5
    assert cda["values"][TRUTH]["mean"] == 1


def test_the_same_parameters_give_the_same_numbers_and_stay_as_they_are(whole: Whole, agent: Agent):
    before = jax.tree.map(np.array, agent.params)
    again = whole.measure(agent.params, counters=NOW, show=lambda name: None, look=lambda: None)
    assert again["quantities"] == whole.row["quantities"]
    jax.tree.map(np.testing.assert_array_equal, agent.params, before)


@pytest.mark.parametrize(
    "share", [0.1, 0.5, 0.99]
)  # while it plays to the starts, in true futures, in those of a model
def test_it_ends_before_the_next_step(whole: Whole, agent: Agent, share: float):
    looks, last = 0, int(share * whole.looks)

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == last:
            raise EndedError

    with pytest.raises(EndedError):
        whole.measure(agent.params, counters=NOW, show=lambda name: None, look=look)
    assert looks == last


def test_a_world_without_forks_is_a_sentence(agent: Agent):
    measure = measure_of(agent, env=locked)
    with pytest.raises(UnmeasurableError, match="set_state"):
        measure(agent.params, counters=NOW, show=lambda name: None, look=lambda: None)


def test_what_there_is_not_is_refused_before_the_run(agent: Agent):
    with pytest.raises(SimulationError, match="no property is called 'casual'"):
        measure_of(agent, only="casual")
    with pytest.raises(SimulationError, match="3 starts give no interval"):
        measure_of(agent, num_starts=3)
