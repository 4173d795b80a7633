from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

import dreamer
from dreamer.agent import Agent, AgentState, codecs
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.counters import START, Counters
from dreamer.training.run_folder import RunFolderError
from dreamer.training.state import Definition
from dreamer.validation import resolve
from envs.dummy import DummyEnv
from envs.space_json import Interface

OBSERVATIONS = np.random.default_rng(0).normal(size=(6, 2, 4)).astype(np.float32)  # T, N


@pytest.fixture(scope="module")
def agent(trained: Path) -> Agent:
    return dreamer.load(trained)


@pytest.fixture(scope="module")
def dummy_agent() -> Agent:
    """An untrained agent of the environment that has every kind of space."""
    env = DummyEnv()
    interface = Interface("dummy", env.observation_space, env.action_space, (16, 16), None, 1)
    observation_codec, action_codec = codecs(interface)
    config = resolve({"env": "dummy", "preset": "debug", "environment.image_size": (16, 16)})
    definition = Definition(config, observation_codec.spec, action_codec.spec)
    rng = np.random.default_rng(0)
    abstract = definition.abstract().params  # drawn here: to compile the initialisation would take longer
    params = jax.tree.map(lambda leaf: jax.device_put(rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype)), abstract)
    return Agent(definition, interface=interface, params=params, counters=START, path=Path("nowhere"), seed=0)


def assert_same_row(one: AgentState, two: AgentState, row: int) -> None:
    for a, b in zip(jax.tree.leaves(one.carry), jax.tree.leaves(two.carry), strict=True):
        np.testing.assert_array_equal(a[row], b[row])


def test_load_knows_what_was_trained(agent: Agent):
    assert agent.counters == Counters(200, 200, 31)
    assert agent.config.env == "CartPole-v1"
    assert agent.observation_space == gymnasium.make("CartPole-v1").observation_space


def test_one_observation_gives_one_action_of_the_space(agent: Agent):
    action, state = agent.predict(OBSERVATIONS[0, 0])
    assert isinstance(action, np.integer)
    assert agent.action_space.contains(action)
    again, _ = agent.predict(OBSERVATIONS[1, 0], state)
    assert agent.action_space.contains(again)


def test_a_row_of_a_batch_equals_the_single_observation(agent: Agent):
    states: list[Any] = [None, None, None]
    for batch in OBSERVATIONS:
        actions, states[2] = agent.predict(batch, states[2], deterministic=True)
        assert actions.shape == (2,)
        for row in range(2):
            action, states[row] = agent.predict(batch[row], states[row], deterministic=True)
            assert action == actions[row]
            np.testing.assert_allclose(states[row].carry.latent.deter[0], states[2].carry.latent.deter[row], atol=1e-5)


def test_episode_start_forgets_these_rows_and_no_other(agent: Agent):
    *before, now = OBSERVATIONS
    state = None
    for batch in before:
        _, state = agent.predict(batch, state, deterministic=True)
    _, fresh = agent.predict(now, deterministic=True)
    _, kept = agent.predict(now, state, deterministic=True)
    _, mixed = agent.predict(now, state, episode_start=np.array([True, False]), deterministic=True)
    assert_same_row(mixed, fresh, 0)
    assert_same_row(mixed, kept, 1)
    assert np.abs(np.asarray(kept.carry.latent.deter - fresh.carry.latent.deter)).max() > 1e-3
    _, restarted = agent.predict(now, state, episode_start=True, deterministic=True)
    assert_same_row(restarted, fresh, 1)


def test_deterministic_actions_repeat_exactly(agent: Agent):
    def roll() -> AgentState:
        state = None
        for batch in OBSERVATIONS:
            _, state = agent.predict(batch, state, deterministic=True)
        assert state is not None
        return state

    one, two = roll(), roll()
    for row in range(2):
        assert_same_row(one, two, row)


def sampled_actions(agent: Agent, *, rollouts: int) -> np.ndarray:
    """Actions `[rollouts, T, N]`."""
    actions = []
    for _ in range(rollouts):
        state = None
        for batch in OBSERVATIONS:
            action, state = agent.predict(batch, state)
            actions.append(action)
    return np.reshape(actions, (rollouts, *OBSERVATIONS.shape[:2]))


def test_samples_follow_the_seed(trained: Path):
    one, two, other = (sampled_actions(dreamer.load(trained, seed=seed), rollouts=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert (one[0] != one[1]).any()  # a fresh start is not the same start again


def test_one_compilation_for_each_batch_size(trained: Path):
    agent = dreamer.load(trained)
    state = None
    for batch in OBSERVATIONS:
        _, state = agent.predict(batch, state)
    agent.predict(OBSERVATIONS[0])
    assert agent._policy_step._cache_size() == 1
    agent.predict(OBSERVATIONS[0, 0])
    assert agent._policy_step._cache_size() == 2


def test_every_kind_of_space(dummy_agent: Agent):
    env = DummyEnv()
    vector = gymnasium.vector.SyncVectorEnv([DummyEnv] * 3)
    observation, _ = env.reset(seed=0)
    action, _ = dummy_agent.predict(observation)
    assert env.action_space.contains(action)
    batch, _ = vector.reset(seed=0)
    actions, state = dummy_agent.predict(batch, deterministic=True)
    assert vector.action_space.contains(actions)
    batch, *_ = vector.step(actions)
    dummy_agent.predict(batch, state, deterministic=True)
    single, _ = dummy_agent.predict(observation, deterministic=True)
    np.testing.assert_allclose(single["arm"]["torque"], actions["arm"]["torque"][0], rtol=1e-4)
    assert single["choice"] == actions["choice"][0]
    np.testing.assert_array_equal(single["switches"], actions["switches"][0])


def test_what_does_not_fit_is_said(agent: Agent, dummy_agent: Agent):
    wrong = {
        "shape (5,); this agent takes (4,) from one environment or (N, 4) from N": np.zeros(5),
        "shape (2, 3, 4)": np.zeros((2, 3, 4)),
        "is a dict, not an array of numbers": {"position": 1.0},
        "is NaN or infinite": np.full(4, np.nan),
    }
    for message, observation in wrong.items():
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
            agent.predict(observation)
        assert message in str(caught.value)
    observation, _ = DummyEnv().reset(seed=0)
    with pytest.raises(ValueError, match="observation 'nested/step' is missing"):
        dummy_agent.predict({**observation, "nested": {"scalar": np.float32(0)}})
    with pytest.raises(ValueError, match="give all the same batch"):
        dummy_agent.predict({**observation, "token": np.array([3, 4])})


def test_state_and_episode_start_must_belong_to_the_batch(agent: Agent):
    _, state = agent.predict(OBSERVATIONS[0])
    with pytest.raises(ValueError, match="of 2 environments and the observation of 1; pass"):
        agent.predict(OBSERVATIONS[0, 0], state)
    with pytest.raises(ValueError, match=r"episode_start has shape \(3,\); give one bool, or 2"):
        agent.predict(OBSERVATIONS[0], state, episode_start=np.zeros(3, bool))


def test_a_saved_agent_acts_the_same(trained: Path, tmp_path: Path):
    saved = dreamer.load(trained).save(tmp_path / "deep" / "agent")
    assert not list(saved.rglob("*.pkl"))
    one, two = dreamer.load(trained), dreamer.load(saved)
    assert two.counters == one.counters
    np.testing.assert_array_equal(sampled_actions(one, rollouts=2), sampled_actions(two, rollouts=2))
    shutil.move(saved, tmp_path / "elsewhere")
    copied = dreamer.load(tmp_path / "elsewhere").save(tmp_path / "again")
    fresh = sampled_actions(dreamer.load(trained), rollouts=1)
    np.testing.assert_array_equal(sampled_actions(dreamer.load(copied), rollouts=1), fresh)
    with pytest.raises(RunFolderError, match="again exists already"):
        two.save(copied)


def test_a_policy_alone_acts_the_same_and_cannot_dream(trained: Path, tmp_path: Path):
    """Encoder, RSSM and actor: nothing else is in the file, and what is missing is not made up."""
    whole = dreamer.load(trained)
    sizes = {}
    for name, is_alone in (("whole", False), ("alone", True)):
        saved = whole.save(tmp_path / name, policy_alone=is_alone)
        sizes[name] = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
    alone = dreamer.load(tmp_path / "alone")
    assert {half: sorted(modules) for half, modules in alone.params.items()} == {
        "world": ["encoder", "rssm"], "behavior": ["actor"],
    }  # fmt: skip
    left_out = sum(leaf.nbytes for leaf in jax.tree.leaves(whole.params)) - sum(
        leaf.nbytes for leaf in jax.tree.leaves(alone.params)
    )
    assert sizes["whole"] - sizes["alone"] > 0.9 * left_out > 0
    assert (alone.is_policy_alone, whole.is_policy_alone) == (True, False)
    np.testing.assert_array_equal(
        sampled_actions(alone, rollouts=2), sampled_actions(dreamer.load(trained), rollouts=2)
    )
    again = dreamer.load(alone.save(tmp_path / "again"))
    assert again.is_policy_alone
    world = alone.definition.bind(alone.params).world
    with pytest.raises(TypeError):
        world.reward(world.features(world.initial(1)))


def test_a_saved_agent_is_checked(trained: Path, tmp_path: Path):
    saved = dreamer.load(trained).save(tmp_path / "agent")
    config = saved / "config.yaml"
    config.write_text(config.read_text().replace("unimix: 0.01", "unimix: 0.02"))
    with pytest.raises(CheckpointError, match=r"agent is damaged: config\.yaml has changed"):
        dreamer.load(saved)


def test_loading_where_there_is_no_agent(trained: Path, tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"holds neither a run nor a saved agent: config\.yaml is missing"):
        dreamer.load(tmp_path)
    for name in ("config.yaml", "spaces.json"):
        shutil.copy(trained / name, tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        dreamer.load(tmp_path)


def test_loading_needs_no_environment(trained: Path):
    program = f"""
import sys, dreamer, numpy
agent = dreamer.load({str(trained)!r})
action, state = agent.predict(numpy.zeros(4, numpy.float32), deterministic=True)
loaded = {{"envs.registry", "envs.gym", "ale_py", "dm_control", "mujoco", "dreamer.data.replay"}} & set(sys.modules)
sys.exit(f"imported {{loaded}}" if loaded else 0)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
