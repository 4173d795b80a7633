"""Dreams as gymnasium environments, vector environments and native spaces."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import dreamer.dream
from dreamer.agent import Agent
from dreamer.dream.env import DreamEnv, DreamVectorEnv
from dreamer.dream.model import ModelSimulation
from dreamer.dream.simulation import SimulationError, Start
from dreamer.dream.starts import PlayedStarts
from dreamer.evaluation import make_environment
from dreamer.training.run_folder import RunFolderError
from tests.dream.agents import untrained

HARMLESS = (
    "probably too",
    "without an env spec",
    "not having a spec",
    "symmetric and normalized",
)  # of the task itself


def check(env: gymnasium.Env) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    assert [str(w.message) for w in caught if not any(words in str(w.message) for words in HARMLESS)] == []


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("CartPole-v1", {}),
        ("atari_pong", {"environment.image_size": (16, 16)}),
        pytest.param("dmc_cartpole_swingup", {}, marks=pytest.mark.slow),
    ],
)
def test_gymnasium_accepts_the_dream_of(task: str, settings: dict[str, Any]):
    agent = untrained(task, **settings)
    play = PlayedStarts(lambda seed: make_environment(agent, None, seed=seed), agent=None, context=2, with_forks=False)
    env = DreamEnv(agent, starts=play, render_mode="rgb_array" if "atari" in task else None)
    check(env)
    assert env.observation_space == agent.observation_space
    assert env.action_space == agent.action_space
    env.close()


def run(env: gymnasium.Env | gymnasium.vector.VectorEnv, *, seed: int, steps: int = 30) -> list[Any]:
    seen: list[Any] = [env.reset(seed=seed)]
    env.action_space.seed(seed)
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if isinstance(env, gymnasium.Env) and (seen[-1][2] or seen[-1][3]):
            seen.append(env.reset())
    return seen


def leaves(seen: list[Any]) -> list[Any]:
    return jax.tree.leaves(seen)


def test_a_seed_repeats_everything_bit_by_bit(agent: Agent, start: Start):
    env = DreamEnv(agent, starts=start, horizon=8)
    one, two, other = run(env, seed=1), run(env, seed=1), run(env, seed=2)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert jax.tree.structure(one) != jax.tree.structure(other) or not all(
        map(np.array_equal, leaves(one), leaves(other))
    )


def test_two_dreams_of_one_context_differ(agent: Agent, start: Start):
    env = DreamEnv(agent, starts=start)
    only = {"start": jax.tree.map(lambda x: x[:1], start._replace(forks=None))}
    env.reset(seed=0, options=only)
    one = env.step(0)[4]["latent"]
    env.reset(options=only)
    assert not np.array_equal(env.step(0)[4]["latent"], one)


def test_a_dream_is_what_the_model_predicts(agent: Agent, start: Start):
    """Observation, reward and info are the simulation's; what begins is the context's end, decoded."""
    options: Any = {"starts": start, "temperature": 0}
    envs, model = DreamVectorEnv(agent, num_envs=16, **options), ModelSimulation(agent, temperature=0)
    first, info = envs.reset(seed=0)
    state, outcome = model.begin(start, seed=0)
    space: Any = envs.observation_space
    np.testing.assert_array_equal(first, np.clip(outcome.observation["state"], space.low, space.high))
    np.testing.assert_array_equal(info["latent"], outcome.info["latent"])
    observation, reward, _, _, info = envs.step(np.arange(16) % 2)
    _, outcome = model.step(state, np.float32([[1, 0], [0, 1]] * 8))
    np.testing.assert_array_equal(observation, np.clip(outcome.observation["state"], space.low, space.high))
    np.testing.assert_array_equal(reward, outcome.reward)
    assert {name for name in info if name[0] != "_"} == {"latent", "prior_entropy", "continue_prob"}
    np.testing.assert_array_equal(info["continue_prob"], outcome.continue_prob)
    np.testing.assert_array_equal(info["prior_entropy"], outcome.info["prior_entropy"])


class Scripted(ModelSimulation):
    """Another probability of going on than the model's."""

    continue_prob = 1.0

    def step(self, state: Any, action: np.ndarray) -> Any:
        state, outcome = super().step(state, action)
        return state, outcome._replace(continue_prob=np.full(len(action), self.continue_prob, np.float32))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr("dreamer.dream.dreams.ModelSimulation", Scripted)
    monkeypatch.setattr(Scripted, "continue_prob", 1.0)
    return Scripted


def test_ends_are_drawn_with_the_predicted_probability(agent: Agent, start: Start, scripted: type[Scripted]):
    envs = DreamVectorEnv(agent, num_envs=16, starts=start)
    scripted.continue_prob = 0.9
    envs.reset(seed=0)
    began, terminated = np.zeros(16, bool), 0
    steps = 0
    for _ in range(120):
        _, _, ends, truncated, _ = envs.step(np.zeros(16, int))
        assert not truncated.any()
        terminated, steps = terminated + ends.sum(), steps + (~began).sum()
        assert not (ends & began).any()  # the step after an end is a beginning
        began = ends
    assert abs(terminated / steps - 0.1) < 0.02  # three standard deviations
    likely = DreamVectorEnv(agent, num_envs=16, starts=start, termination="threshold")
    likely.reset(seed=0)
    assert not likely.step(np.zeros(16, int))[2].any()
    scripted.continue_prob = 0.4
    assert likely.step(np.zeros(16, int))[2].all()


def test_rows_begin_again_one_by_one(agent: Agent, start: Start, scripted: type[Scripted]):
    """NEXT_STEP autoreset: reward 0 and a context's end where a dream begins, and the others go on undisturbed."""
    envs = DreamVectorEnv(agent, num_envs=16, starts=start, horizon=5, temperature=0)
    beginnings = ModelSimulation(agent, temperature=0).begin(start, seed=0)[1].info["latent"]
    envs.reset(seed=0)
    envs._opened.dreams._lengths[:] = np.arange(16) % 4  # so that they end at different times
    began = np.zeros(16, bool)
    for step in range(12):
        _, reward, terminated, truncated, info = envs.step(np.zeros(16, int))
        assert not terminated.any()
        np.testing.assert_array_equal(truncated, (np.arange(16) % 4 + step + 1) % 6 == 5)
        is_beginning = (np.abs(beginnings - info["latent"][:, None]).max(-1) < 1e-5).any(-1)
        np.testing.assert_array_equal(is_beginning, began)
        np.testing.assert_array_equal(reward == 0, began)
        assert info["_latent"].all()
        began = truncated


def test_one_dream_is_the_first_of_many(agent: Agent, start: Start):
    one, many = DreamEnv(agent, starts=start), DreamVectorEnv(agent, num_envs=16, starts=start)
    observation, _ = one.reset(seed=0)
    observations, _ = many.reset(seed=0)
    np.testing.assert_allclose(observation, observations[0], rtol=1e-5)
    assert many.observation_space.contains(observations)
    assert many.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP
    a, b = one.step(1), many.step(np.ones(16, int))
    np.testing.assert_allclose(a[0], b[0][0], rtol=1e-3, atol=1e-4)


def test_it_is_registered_with_gymnasium(tmp_path: Path):
    assert gymnasium.spec(dreamer.dream.ENV_ID).vector_entry_point == "dreamer.dream.env:DreamVectorEnv"
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(RunFolderError, match="holds neither a run nor a saved agent"):
            make("dreamer.dream:dreamer/Dream-v0", run=tmp_path)


def test_faults_are_one_sentence(agent: Agent, start: Start):
    env = DreamEnv(agent, starts=start)
    with pytest.raises(SimulationError, match=r"call reset\(\) first"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action 'action' has values 2 to 2, which Discrete\(2\) does not have"):
        env.step(2)
    with pytest.raises(ValueError, match="give numbers of shape"):
        env.step(np.zeros(3))
    with pytest.raises(SimulationError, match="reset option 'strat' is unknown; there is 'start'"):
        env.reset(options={"strat": start})
    with pytest.raises(SimulationError, match="nowhere holds no replay"):
        DreamEnv(agent)
    with pytest.raises(SimulationError, match="starts 'reply' is unknown"):
        DreamEnv(agent, starts="reply")
    with pytest.raises(SimulationError, match="termination 'never' is unknown"):
        DreamEnv(agent, starts=start, termination="never")
    with pytest.raises(SimulationError, match="1 dreams of 0 steps"):
        DreamEnv(agent, starts=start, horizon=0)
    with pytest.raises(SimulationError, match="only images can"):
        DreamEnv(agent, starts=start, render_mode="rgb_array")
