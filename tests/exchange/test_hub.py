"""A policy as Hugging Face holds it. Slow: safetensors is no part of the gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import dreamer
from dreamer import export
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.policy import by_path, policy_params

pytestmark = pytest.mark.slow
OBSERVATIONS = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(run: Path, extras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported policy; tests must not write to it."""
    folder = tmp_path_factory.mktemp("hub") / "cartpole"
    assert export.main([str(run), "--hub", str(folder)]) == 0
    return folder


def actions(agent: dreamer.Agent, *, deterministic: bool) -> np.ndarray:
    state, chosen = None, []
    for observation in OBSERVATIONS:
        action, state = agent.predict(observation, state, deterministic=deterministic)
        chosen.append(action)
    return np.stack(chosen)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_agent_comes_back(run, folder, deterministic):
    there, back = dreamer.load(run, seed=3), dreamer.load(folder, seed=3)
    np.testing.assert_array_equal(
        actions(there, deterministic=deterministic), actions(back, deterministic=deterministic)
    )
    assert (back.config, back.counters, back.is_policy_alone) == (there.config, there.counters, True)
    assert back.observation_space == there.observation_space
    assert back.evaluate(episodes=1).episodes
    again = back.save(folder.parent / "saved")  # and goes on as any agent does
    np.testing.assert_array_equal(
        actions(dreamer.load(again, seed=3), deterministic=True), actions(back, deterministic=True)
    )
    shutil.rmtree(again)


def test_others_can_read_it(run, folder):
    """By the documents of safetensors and of the hub alone."""
    from safetensors.numpy import load_file

    arrays, wanted = load_file(folder / "model.safetensors"), by_path(policy_params(dreamer.load(run).params))
    assert arrays.keys() == wanted.keys()
    assert {name.split("/")[1] for name in arrays} == {"encoder", "rssm", "actor"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, wanted[name])
    header, text = (folder / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    card = yaml.safe_load(header)
    assert card["library_name"] == "dreamer-jax"
    assert {"reinforcement-learning", "CartPole-v1"} <= set(card["tags"])
    (metric,) = card["model-index"][0]["results"][0]["metrics"]
    scores = np.loadtxt(run / "episodes.csv", delimiter=",", skiprows=1, usecols=5)[-100:]
    assert metric["type"] == "mean_reward"
    assert metric["value"] == f"{scores.mean():.2f} +/- {scores.std():.2f}"
    assert "700 frames" in text
    assert "dreamer.load(" in text
    assert json.loads((folder / "config.json").read_text())["config"]["env"] == "CartPole-v1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "spaces.json",
    ]  # fmt: skip


def test_the_card_takes_the_evaluation_where_there_is_one(run, tmp_path, extras):
    copy = shutil.copytree(run, tmp_path / "run")
    from dreamer import evaluate

    assert evaluate.main([str(copy), "--episodes", "2"]) == 0
    measured = json.loads((copy / "evaluation" / "results.json").read_text())["score"]
    assert export.main([str(copy), "--hub", str(tmp_path / "hub")]) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"{measured['mean']:.2f} +/- {measured['std']:.2f}" in card
    assert "2 episodes of evaluation" in card


def rewrite(path: Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "model.safetensors has changed"),
        ("model.safetensors", lambda data: data[: len(data) // 2], "model.safetensors has changed"),
        ("spaces.json", lambda data: data.replace(b"4", b"5"), "spaces.json has changed"),
        ("config.json", lambda data: data[:100], "damaged"),
        ("config.json", lambda data: data.replace(b'"format": 1', b'"format": 9'), "is of format 9"),
        ("config.json", lambda data: data.replace(b'"deter": 64', b'"deter": 128'), r"rssm/.* is float32\["),
        ("config.json", lambda data: data.replace(b'"deter"', b'"detter"'), "detter"),
    ],
)
def test_damage_is_one_sentence(folder, tmp_path, name, change, fault):
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = (copy / name).read_bytes()
    rewrite(copy / name, change)
    assert (copy / name).read_bytes() != before
    with pytest.raises(CheckpointError, match=fault) as found:
        dreamer.load(copy)
    assert len(str(found.value).splitlines()) == 1


def test_parameters_are_held_against_the_configuration(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    arrays = load_file(copy / "model.safetensors")
    names = sorted(arrays)
    arrays[names[0]] = arrays[names[0]].astype(np.float16)
    del arrays[names[1]]
    save_file(arrays | {"more": np.zeros(2, np.float32)}, copy / "model.safetensors")
    document = json.loads((copy / "config.json").read_text())
    from dreamer.exchange.hub import sha256

    document["sha256"]["model.safetensors"] = sha256(copy / "model.safetensors")
    (copy / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError) as found:
        dreamer.load(copy)
    for words in (f"{names[1]} is missing", "more is unknown", f"{names[0]} is float16"):
        assert words in str(found.value)


def test_nothing_is_written_over(run, folder, capsys):
    assert export.main([str(run), "--hub", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
