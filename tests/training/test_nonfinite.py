"""What is not finite costs its update, never the run or what it has learned."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dreamer.train import main
from dreamer.training.checkpoint import Checkpoints
from dreamer.training.collect import Collector, NonFiniteActionError
from dreamer.training.learn import Learner, NonFiniteError
from dreamer.training.state import TrainState
from dreamer.training.step import train_step
from dreamer.types import CompactLatent
from envs.spaces import Timestep
from tests.integration.runs import newest
from tests.model.tiny import random_batch, tiny_definition


def leaves(state) -> dict[str, np.ndarray]:
    if isinstance(state, TrainState):
        state = state._replace(key=jax.random.key_data(state.key))
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def test_such_an_update_changes_nothing():
    definition = tiny_definition(**{"optimizer.warmup": 0})
    step = jax.jit(partial(train_step, definition))
    good = random_batch(definition)
    start, _, metrics = step(definition.init(0), good)
    assert metrics["skipped"] == 0
    for name, bad in {
        "reward": good._replace(reward=good.reward.at[1, 3].set(jnp.nan)),
        "observation": good._replace(observation={"state": good.observation["state"].at[0, 0, 0].set(jnp.inf)}),
    }.items():
        after, _, metrics = step(start, bad)
        assert metrics["skipped"] == 1, name
        assert not np.isfinite(metrics["loss/total"]), name
        before = leaves(start._replace(step=start.step + 1, skipped=start.skipped + 1))
        for path, leaf in leaves(after).items():
            np.testing.assert_array_equal(leaf, before[path], err_msg=f"{name}: {path}")
    again, _, _ = step(after, bad)
    assert again.skipped == 2
    # Loss and gradient are finite, and only the new parameters would not be.
    overflown = start._replace(optimizer=jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), start.optimizer))
    after, _, metrics = step(overflown, good)
    assert np.isfinite([metrics["loss/total"], metrics["gradient_norm"]]).all()
    assert metrics["skipped"] == 1
    for path, leaf in leaves(after.params).items():
        np.testing.assert_array_equal(leaf, leaves(start.params)[path], err_msg=path)
    learned, expected = step(again, good)[0], step(start._replace(step=again.step), good)[0]
    for path, leaf in leaves(learned).items():
        np.testing.assert_array_equal(leaf, leaves(expected)[path], err_msg=path)


class Stream:
    """Hands out numbered batches, and remembers which latents came back."""

    def __init__(self):
        self.taken, self.written = 0, []

    def take(self):
        self.taken += 1
        return self.taken, self.taken

    def write_back(self, positions, latent):
        assert positions == latent
        self.written.append(positions)


def learner_of(skipped: list[int], stream: Stream, *, max_skipped: int) -> Learner:
    """One whose update n reports `skipped[n]` skipped ones in a row, and the number of its batch as latents."""
    steps = iter(skipped)
    return Learner(None, train_step=lambda _, batch: (None, batch, {"skipped": next(steps)}), stream=stream,
                   max_skipped=max_skipped)  # fmt: skip


def test_worthless_latents_stay_out_of_replay():
    stream = Stream()
    learner = learner_of([0, 1, 2, 0, 1, 0, 0], stream, max_skipped=3)
    for _ in range(7):
        learner.update()
    assert stream.written == [1, 4, 6]
    assert learner.skipped == 3


def test_too_many_in_a_row_end_the_run_with_their_last_batch():
    learner = learner_of([0, 1, 0, 1, 2, 3, 4], Stream(), max_skipped=3)
    for _ in range(6):
        learner.update()
    with pytest.raises(NonFiniteError, match="3 updates in a row") as error:
        learner.update()
    assert error.value.batch == 6


class Environments:
    """Two that always show the same."""

    num_envs, can_fork = 2, False
    acted = 0

    def reset(self):
        flags = np.zeros(2, bool)
        return Timestep({"state": np.zeros((2, 3), np.float32)}, np.zeros(2, np.float32), ~flags, flags, flags)

    def begin(self, action):
        self.acted += 1

    def wait(self, seconds):
        return True

    def step(self, action):
        return self.reset()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["action", "latent"])
def test_what_the_policy_gives_enters_replay_only_if_finite(what, value):
    definition, env, stored = tiny_definition(), Environments(), []
    action = np.full((2, 3), -3e38, np.float32)
    deter = np.full((2, 8), 3e38).astype(ml_dtypes.bfloat16)
    steps = [(0, action, CompactLatent(deter, np.zeros((2, 4), np.uint8)))]
    poisoned = {"action": action.copy(), "latent": deter.copy()}
    poisoned[what][1, 2] = value
    steps.append((0, poisoned["action"], CompactLatent(poisoned["latent"], np.zeros((2, 4), np.uint8))))
    given = iter(steps)
    collector = Collector(env, definition=definition, policy_step=lambda *arguments: next(given), seed=0)
    sink = SimpleNamespace(add=lambda timestep, **rest: stored.append(rest))
    collector.step({}, sink, meanwhile=bool)
    with pytest.raises(NonFiniteActionError, match=f"policy's {what} for environment 1 is not finite"):
        collector.step({}, sink, meanwhile=bool)
    assert len(stored) == env.acted == 1


def test_a_policy_that_is_not_finite_ends_the_run_and_is_not_saved(tmp_path: Path, monkeypatch, capsys):
    def refuse(self, *arguments, **rest):
        raise NonFiniteActionError("the policy's action is not finite")

    monkeypatch.setattr(Collector, "step", refuse)
    command = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "5000", "--log.quiet"]
    assert main([*command, "--logdir", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "error: the policy's action is not finite\n"
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() is None


@pytest.mark.slow
def test_a_run_that_diverges_stops_with_its_checkpoints_intact(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A learning rate of 1e30 is finite in its first step and ruins every loss after it."""
    command = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "5000", "--logdir", str(tmp_path / "run")]
    divergence = ["--optimizer.learning-rate", "1e30", "--optimizer.warmup", "0", "--optimizer.max-skipped", "3"]
    assert main([*command, *divergence, "--checkpoint.every-seconds", "0.05"]) == 1
    message = capsys.readouterr().err
    assert "not finite in 3 updates in a row" in message
    path = tmp_path / "run" / "nonfinite_batch.npz"
    assert str(path) in message
    with np.load(path, allow_pickle=False) as batch:
        assert batch[".reward"].shape == batch[".is_first"].shape
        assert np.isfinite(batch[".observation['state']"]).all()
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest() is not None
    assert newest(tmp_path / "run").meta["counters"]["updates"] <= 4
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["skipped_in_total"] >= 2
    for path, leaf in jax.tree_util.tree_leaves_with_path(newest(tmp_path / "run").arrays["train"].params):
        assert np.isfinite(leaf).all(), path
