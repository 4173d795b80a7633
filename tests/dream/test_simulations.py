"""What every simulation promises, held by the model, the truth and the controls."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

import envs
from dreamer.agent import Agent
from dreamer.dream.controls import ActionBlind, Frozen, shuffle_weights
from dreamer.dream.model import ModelSimulation
from dreamer.dream.simulation import Outcome, Simulation, SimulationError, Start
from dreamer.dream.starts import PlayedStarts, random_actions, select
from dreamer.dream.truth import Truth
from tests.dream.agents import single

NUM, STEPS = 16, 12


@pytest.fixture(scope="module")
def model(agent: Agent) -> ModelSimulation:
    return ModelSimulation(agent)


@pytest.fixture(scope="module")
def actions(agent: Agent) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([random_actions(agent.definition.action_spec, num=NUM, rng=rng) for _ in range(STEPS)])


def roll(simulation: Simulation, start: Start, actions: np.ndarray, *, seed: int = 0) -> list[Outcome]:
    state, outcome = simulation.begin(start, seed=seed)
    outcomes = [outcome]
    for action in actions:
        state, outcome = simulation.step(state, action)
        outcomes.append(outcome)
    return outcomes


def assert_equal(one: Any, two: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, two)


def differ(one: Any, two: Any) -> bool:
    return not all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


def test_the_truth_is_the_environment_bit_by_bit(start: Start, actions: np.ndarray):
    """Every row against an environment of its own that nobody rewinds."""
    env = single("CartPole-v1")
    outcomes = roll(Truth(env), start, actions)
    assert start.forks is not None
    for row, fork in enumerate(start.forks):
        alone = single("CartPole-v1", seed=99)
        alone.load_fork(fork)
        for action, outcome in zip(actions, outcomes[1:], strict=True):
            timestep = alone.step(action[row : row + 1])
            np.testing.assert_array_equal(outcome.observation["state"][row], timestep.observation["state"][0])
            assert outcome.reward[row] == timestep.reward[0]
            assert outcome.continue_prob[row] == 1 - timestep.is_terminal[0]
            if timestep.is_last[0]:
                break
    assert any(outcome.continue_prob.min() == 0 for outcome in outcomes)  # some fell, so the end was compared, too


def test_after_an_end_the_truth_stands_still(start: Start, actions: np.ndarray):
    push_left = np.tile(np.float32([[1, 0]]), (40, NUM, 1))
    *_, before, last = roll(Truth(single("CartPole-v1")), start, push_left)
    assert not last.continue_prob.any()
    assert not last.reward.any()
    assert_equal(last.observation, before.observation)


@pytest.mark.parametrize("kind", ["model", "truth"])
def test_a_kept_state_is_rewound_and_forked(kind: str, model: ModelSimulation, start: Start, actions: np.ndarray):
    simulation: Simulation = model if kind == "model" else Truth(single("CartPole-v1"))
    state, _ = simulation.begin(start, seed=0)
    state, _ = simulation.step(state, actions[0])
    middle, first = simulation.step(state, actions[1])
    _, onward = simulation.step(middle, actions[2])
    _, other = simulation.step(state, actions[1][:, ::-1])
    _, again = simulation.step(state, actions[1])
    assert_equal(again, first)
    assert_equal(simulation.step(middle, actions[2])[1], onward)
    assert differ(other.observation, first.observation)


def test_what_comes_later_changes_nothing_before(model: ModelSimulation, start: Start, actions: np.ndarray):
    changed, middle = actions.copy(), STEPS // 2
    changed[middle:] = changed[middle:, :, ::-1]
    one, two = roll(model, start, actions), roll(model, start, changed)
    assert_equal(one[: middle + 1], two[: middle + 1])
    assert all(differ(a.observation, b.observation) for a, b in zip(one[middle + 1 :], two[middle + 1 :], strict=True))


def test_futures_know_nothing_of_each_other(model: ModelSimulation, start: Start, actions: np.ndarray):
    changed = actions.copy()
    changed[:, 1:] = changed[:, 1:, ::-1]
    one, two = roll(model, start, actions), roll(model, start, changed)
    assert_equal(jax.tree.map(lambda x: x[0], one), jax.tree.map(lambda x: x[0], two))
    assert differ(one[-1].observation, two[-1].observation)


def test_a_seed_is_a_future(model: ModelSimulation, start: Start, actions: np.ndarray):
    assert_equal(roll(model, start, actions, seed=3), roll(model, start, actions, seed=3))
    assert differ(roll(model, start, actions, seed=3), roll(model, start, actions, seed=4))


def test_at_temperature_0_there_is_one_future(agent: Agent, start: Start, actions: np.ndarray):
    model = ModelSimulation(agent, temperature=0)
    assert_equal(roll(model, start, actions, seed=3), roll(model, start, actions, seed=4))
    cold = ModelSimulation(agent, temperature=1e-4)  # the limit of sampling
    state, _ = model.begin(start, seed=0)
    limit, modes = cold.step(state, actions[0])[1], model.step(state, actions[0])[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), limit, modes)


def test_a_step_is_the_world_models_own(agent: Agent, model: ModelSimulation, start: Start, actions: np.ndarray):
    state, _ = model.begin(start, seed=5)
    after, outcome = model.step(state, actions[0])

    @jax.jit
    def expected(params: Any, latent: Any, action: Any) -> Any:
        world = agent.definition.bind(params).world
        uniform = jax.random.uniform(jax.random.fold_in(jax.random.key(5), 1), (NUM, world.config.rssm.stoch))
        latent, prior = world.rssm.imagine(latent, action, uniform)
        features = world.features(latent)
        predicted = world.decode(latent)["state"].mode(), world.reward(features), world.continue_prob(features)
        return latent, features, prior.entropy().sum(-1), *predicted

    latent, features, entropy, decoded, reward, kept = expected(agent.params, state.latent, actions[0])
    np.testing.assert_allclose(after.latent.deter, latent.deter, atol=1e-5)
    np.testing.assert_allclose(after.latent.stoch, latent.stoch, atol=1e-5)
    np.testing.assert_allclose(outcome.observation["state"], decoded, atol=1e-4)
    np.testing.assert_allclose(outcome.reward, reward, rtol=1e-5)
    np.testing.assert_allclose(outcome.continue_prob, np.minimum(kept * 333 / 332, 1), atol=1e-5)  # no discount
    np.testing.assert_allclose(outcome.info["prior_entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(outcome.info["latent"], features, atol=1e-5)


def test_the_agent_acts_in_its_dream(agent: Agent, start: Start):
    model = ModelSimulation(agent, judge=True)
    state, outcome = model.begin(start, seed=0)
    action = model.act(state)
    assert_equal(action, model.act(state))
    np.testing.assert_array_equal(action.sum(-1), 1)
    best = model.act(state, deterministic=True)
    np.testing.assert_array_equal(best.argmax(-1), outcome.info["policy"].argmax(-1))
    np.testing.assert_allclose(outcome.info["policy"].sum(-1), 1, atol=1e-5)
    assert outcome.info["value"].shape == (NUM,)


def test_without_decoding_the_rest_is_the_same(agent: Agent, model: ModelSimulation, start: Start, actions: np.ndarray):
    blindfold = ModelSimulation(agent, decode=False)
    for seen, unseen in zip(roll(model, start, actions), roll(blindfold, start, actions), strict=True):
        assert unseen.observation == {}
        np.testing.assert_allclose(unseen.reward, seen.reward, rtol=1e-5)


@pytest.mark.parametrize("inner", ["model", "truth"])
def test_action_blind_is_blind(inner: str, model: ModelSimulation, start: Start, actions: np.ndarray):
    simulation: Simulation = model if inner == "model" else Truth(single("CartPole-v1"))
    blind = ActionBlind(simulation)
    assert_equal(roll(blind, start, actions), roll(blind, start, actions[:, :, ::-1]))
    assert_equal(roll(blind, start, actions), roll(simulation, start, np.zeros_like(actions)))


def test_frozen_shows_the_present_for_ever(model: ModelSimulation, start: Start, actions: np.ndarray):
    frozen = Frozen(observation_spec=model.observation_spec, action_spec=model.action_spec)
    for outcome in roll(frozen, start, actions):
        np.testing.assert_array_equal(outcome.observation["state"], start.observation["state"][:, -1])
        assert not outcome.reward.any()
        assert outcome.continue_prob.all()


def test_shuffled_weights_are_the_same_numbers_elsewhere(agent: Agent, start: Start, actions: np.ndarray):
    shuffled = shuffle_weights(agent.params, seed=0)
    assert_equal(shuffled, shuffle_weights(agent.params, seed=0))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.sort(a, None), np.sort(b, None)), shuffled, agent.params)
    assert differ(shuffled, shuffle_weights(agent.params, seed=1))
    model = ModelSimulation(agent, params=shuffled)
    assert differ(roll(model, start, actions), roll(ModelSimulation(agent), start, actions))


class Unforkable(gymnasium.Wrapper):
    def __deepcopy__(self, memo: dict) -> Any:
        raise TypeError("it holds a socket")


def test_faults_are_named(agent: Agent, model: ModelSimulation, start: Start, actions: np.ndarray):
    truth = Truth(single("CartPole-v1"))
    state, _ = model.begin(start, seed=0)
    with pytest.raises(SimulationError, match=r"action has shape \[16, 3\]; give flat actions \[16, 2\]"):
        model.step(state, np.zeros((NUM, 3), np.float32))
    with pytest.raises(SimulationError, match="the action holds a NaN"):
        model.step(state, np.full((NUM, 2), np.nan, np.float32))
    with pytest.raises(SimulationError, match="no forks, as one from replay"):
        truth.begin(start._replace(forks=None), seed=0)
    with pytest.raises(SimulationError, match="16 forks for 2 starts"):
        truth.begin(select(start, [0, 1])._replace(forks=start.forks), seed=0)
    with pytest.raises(SimulationError, match=r"'state' is float32 \[16, 4, 3\]; give float32 \[16, 4, 4\]"):
        model.begin(start._replace(observation={"state": start.observation["state"][..., :3]}), seed=0)
    with pytest.raises(SimulationError, match="'state' holds a NaN"):
        model.begin(start._replace(observation={"state": start.observation["state"] * np.float32("nan")}), seed=0)
    with pytest.raises(SimulationError, match=r"observes \['camera'\]; this model takes \['state'\]"):
        model.begin(start._replace(observation={"camera": start.observation["state"]}), seed=0)
    with pytest.raises(SimulationError, match="temperature is -1"):
        ModelSimulation(agent, temperature=-1)
    with pytest.raises(SimulationError, match="needs a single environment"):
        Truth(envs.make("CartPole-v1", num_envs=2, seed=0))


def test_an_environment_that_cannot_be_forked_says_so():
    def make(seed: int) -> Any:
        return envs.make(lambda: Unforkable(gymnasium.make("CartPole-v1")), num_envs=1, seed=seed)

    with pytest.raises(SimulationError, match=r"can be neither saved nor deep-copied \(it holds a socket"):
        PlayedStarts(make, agent=None, context=4).draw(1, seed=0)
    start = PlayedStarts(make, agent=None, context=4, with_forks=False).draw(2, seed=0)
    assert start.forks is None
