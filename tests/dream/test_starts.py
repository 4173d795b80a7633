"""Contexts: their windows, and replay that is read beside its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from dreamer.agent import CHECKPOINTS, Agent
from dreamer.data.layout import StepLayout
from dreamer.data.replay import Replay
from dreamer.dream.replayed import ReplayedStarts
from dreamer.dream.simulation import SimulationError, Start
from dreamer.dream.starts import GivenStarts, History, PlayedStarts, join, random_actions, select
from dreamer.training.checkpoint import Checkpoints
from dreamer.types import CompactLatent
from envs.spaces import Timestep
from tests.dream.agents import single, untrained

CONTEXT, EPISODE, STEPS, CHUNK = 6, 10, 150, 64


def step_number(number: int) -> Timestep:
    """Step `number` of an environment whose episodes have ten steps and whose observation is the number itself."""
    is_last = np.array([number % EPISODE == EPISODE - 1])
    observation = {"state": np.full((1, 4), number, np.float32)}
    return Timestep(observation, np.ones(1, np.float32), np.array([number % EPISODE == 0]), is_last, is_last.copy())


def action_number(number: int) -> np.ndarray:
    """What is done at step `number`."""
    return np.array([[number, -number]], np.float32)


def write_run(folder: Path, *, steps: int) -> Agent:
    """An agent in a folder with chunk files and a checkpoint with the rest of its steps."""
    agent = untrained("CartPole-v1", path=folder, **{"replay.chunk": CHUNK})
    rssm = agent.config.world.rssm
    layout = StepLayout(agent.definition.observation_spec, action=2, deter=rssm.deter, stoch=rssm.stoch)
    replay = Replay(layout, num_envs=1, config=agent.config.replay, seed=0, directory=folder / "replay")
    latent: Any = CompactLatent(np.zeros((1, rssm.deter), bfloat16), np.zeros((1, rssm.stoch), np.uint8))  # type: ignore
    for number in range(steps):
        replay.add(step_number(number), action=action_number(number), latent=latent)
    state = replay.state()
    host = {f"replay/{name}": array for name, array in state.arrays.items() if array.size}
    Checkpoints(folder / CHECKPOINTS).save(steps, arrays=agent.params, host=host, meta={"replay": state.manifest})
    replay.close()
    return agent


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """With two chunk files, 22 further steps, and a file of the future."""
    agent = write_run(tmp_path_factory.mktemp("run"), steps=STEPS)
    (agent.path / "replay" / "env0000-chunk00000007.npz").write_bytes(b"what the run writes meanwhile")
    return agent


def assert_true_contexts(start: Start) -> None:
    """Each row shows the last steps of the numbered environment, its reset repeated where there were fewer."""
    numbers = start.observation["state"][..., 0].astype(int)
    np.testing.assert_array_equal(start.is_first, numbers % EPISODE == 0)
    assert not (numbers[:, -1] % EPISODE == EPISODE - 1).any()  # nothing follows an end
    for row, flags, actions in zip(numbers, start.is_first, start.previous_action, strict=True):
        follows = row[1:] == row[:-1] + 1
        padding = flags[1:] & (row[1:] == row[:-1])
        assert (follows | padding).all()
        for number, is_first, action in zip(row, flags, actions, strict=True):
            np.testing.assert_array_equal(action, [0, 0] if is_first else action_number(number - 1)[0])


def test_replay_is_read_and_left_alone(replayed: Agent):
    before = {path.name: path.read_bytes() for path in (replayed.path / "replay").iterdir()}
    starts = ReplayedStarts(replayed, context=CONTEXT)
    start = starts.draw(400, seed=0)
    assert_true_contexts(start)
    assert start.forks is None
    presents = set(start.observation["state"][:, -1, 0].astype(int))
    # All but ends, and but the steps at the edges of a chunk whose context lies in another one.
    cut = {number for number in range(STEPS) if number % EPISODE == 9} | {64, 65, 66, 67, 68, 128}
    assert presents <= set(range(STEPS)) - cut | {0}
    assert len(presents) > 100
    assert presents & set(range(128, STEPS))  # those that only the checkpoint holds
    assert {path.name: path.read_bytes() for path in (replayed.path / "replay").iterdir()} == before
    np.testing.assert_array_equal(
        starts.draw(5, seed=3).observation["state"], starts.draw(5, seed=3).observation["state"]
    )


def test_damaged_replay_is_left_out(replayed: Agent):
    chunk = replayed.path / "replay" / "env0000-chunk00000000.npz"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    try:
        presents = ReplayedStarts(replayed, context=CONTEXT).draw(100, seed=0).observation["state"][:, -1, 0]
    finally:
        chunk.write_bytes(content)
    assert presents.min() >= CHUNK


def test_without_replay_one_sentence_says_so(replayed: Agent, tmp_path: Path):
    with pytest.raises(SimulationError, match=f"{tmp_path} holds no replay to start from"):
        ReplayedStarts(untrained("CartPole-v1", path=tmp_path), context=CONTEXT)
    with pytest.raises(SimulationError, match="a context of 0 steps"):
        ReplayedStarts(replayed, context=0)


def test_replay_of_which_nothing_is_left_says_so(tmp_path: Path):
    agent = write_run(tmp_path, steps=CHUNK + 1)
    (tmp_path / "replay" / "env0000-chunk00000000.npz").unlink()
    with pytest.raises(SimulationError, match="can be shown with a context of 6 steps: it is too short, or damaged"):
        ReplayedStarts(agent, context=CONTEXT).draw(1, seed=0)


def test_a_history_shows_the_last_steps():
    history = History({"action": single("CartPole-v1").action_spec["action"]}, length=CONTEXT)
    with pytest.raises(SimulationError, match="nothing was seen yet"):
        history.start()
    with pytest.raises(SimulationError, match="begins with a reset"):
        history.add(step_number(3), action_number(2))
    for number in range(25):
        history.add(step_number(number), None if number % EPISODE == 0 else action_number(number - 1))
        start = history.start(fork=number)
        assert start.forks == (number,)
        assert start.observation["state"].shape == (1, CONTEXT, 4)
        assert start.observation["state"][0, -1, 0] == number
        if number % EPISODE != EPISODE - 1:
            assert_true_contexts(start)


def test_play_gives_moments_with_their_forks():
    starts = PlayedStarts(lambda seed: single("CartPole-v1", seed=seed), agent=None, context=CONTEXT, spacing=3)
    start = starts.draw(8, seed=0)
    assert start.forks is not None
    environment = single("CartPole-v1", seed=5)
    for row, fork in enumerate(start.forks):
        environment.load_fork(fork)
        state = environment.get_state()["0/env/state"]
        np.testing.assert_array_equal(state.astype(np.float32), start.observation["state"][row, -1])
    again, other = starts.draw(8, seed=0), starts.draw(8, seed=1)
    np.testing.assert_array_equal(start.observation["state"], again.observation["state"])
    assert not np.array_equal(start.observation["state"], other.observation["state"])
    resets = start.is_first.sum(-1)
    assert (start.observation["state"][resets > 1, 0] == start.observation["state"][resets > 1, 1]).all()


def test_the_agent_plays_too_and_repeatably():
    agent = untrained("CartPole-v1")
    starts = PlayedStarts(lambda seed: single("CartPole-v1", seed=seed), agent=agent, context=2, spacing=3)
    one, two = starts.draw(4, seed=0), starts.draw(4, seed=0)
    np.testing.assert_array_equal(one.observation["state"], two.observation["state"])


def test_rows_are_selected_joined_and_drawn():
    history = History(single("CartPole-v1").action_spec, length=2)
    singles = []
    for number in range(4):
        history.add(step_number(number), action_number(number - 1))
        singles.append(history.start(fork=number))
    start = join(singles)
    assert start.forks == (0, 1, 2, 3)
    assert select(start, [2, 0]).forks == (2, 0)
    assert join([singles[0], singles[1]._replace(forks=None)]).forks is None
    assert GivenStarts(start).draw(4, seed=0).forks == (0, 1, 2, 3)
    drawn = GivenStarts(start).draw(100, seed=0)
    assert set(drawn.forks or ()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(drawn.observation["state"][:, -1, 0], drawn.forks)


def test_random_actions_are_actions():
    spec = untrained("dummy").definition.action_spec
    actions = random_actions(spec, num=200, rng=np.random.default_rng(0))
    environment = single("dummy")
    environment.reset()
    environment.step(actions[:1])
    assert actions.min() >= -1
    assert (np.abs(actions).max(0) > 0.9).all()  # every class and both ends of every range are tried
