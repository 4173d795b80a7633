"""What a run from a dataset refuses before it begins, and what its plan and its counters say; without minari."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dreamer import export
from dreamer.exchange.offline import DatasetCollector
from dreamer.plan import DatasetFacts, Machine, startup_plan
from dreamer.presets import ConfigError
from dreamer.train import main
from dreamer.training.counters import Counters
from dreamer.training.progress import Progress
from dreamer.validation import resolve
from envs.spaces import DiscreteSpec, VectorSpec
from tests.exchange.test_episodes import random_steps
from tests.model.tiny import tiny_definition

OFFLINE = {"env": "CartPole-v1", "offline": "mine/x-v0", "preset": "debug", "steps": "300"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": "400k_frames"}, "counts updates: give their number"),
        ({"steps": "30k_agent"}, "counts updates: give their number"),
        ({"train_ratio": 64}, "has no use for --train-ratio"),
        ({"ray.collectors": 1}, "without --ray.collectors"),
        ({"hosts.count": 2, "hosts.coordinator": "a:1"}, "without --hosts.count"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, words):
    with pytest.raises(ConfigError) as found:
        resolve(OFFLINE | settings)
    (problem,) = found.value.problems
    assert words in problem


def test_steps_are_updates_and_may_be_few():
    """An acting run with as few steps would end before its first update."""
    resolve(OFFLINE | {"steps": "3"})
    with pytest.raises(ConfigError, match="before the first update"):
        resolve({"env": "CartPole-v1", "preset": "debug", "steps": "3"})


def test_the_plan_says_that_nobody_acts():
    plan = startup_plan(
        resolve(OFFLINE | {"steps": "20000"}),
        observation_spec={"state": VectorSpec(4)},
        action_spec={"action": DiscreteSpec((2,))},
        protocol={"env": "CartPole-v1"},
        device="CPU",
        parameter_counts={"actor": 10},
        action_repeat=1,
        logdir=Path("runs/x"),
        dataset=DatasetFacts("mine/x-v0", 12, 3456),
        machine=Machine(10**12, 10**12),
        width=120,
    )
    rows = dict(line.split(maxsplit=1) for line in plan.splitlines() if len(line[:1].strip()) and " " in line)
    assert rows["updates"].startswith("20,000 from the dataset alone; the environment is never stepped")
    assert rows["steps"] == "0 agent steps = 0 frames"
    assert rows["dataset"].startswith("mine/x-v0: 12 episodes, 3,456 observations")
    assert rows["replay"].startswith("3,456 steps x ")
    assert "WARNING" not in plan


def test_progress_is_that_of_the_updates():
    progress = Progress(200, quiet=True)
    progress.update(Counters(0, 0, 50))
    assert "| 25.0% |" in progress.line()
    assert str(Counters(0, 0, 50)) == "50 updates"
    assert str(Counters(9, 36, 1)) == "9 agent steps"


def without(monkeypatch, *names: str) -> None:
    """As where the packages are not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def test_a_missing_package_is_named_before_anything_is_made(monkeypatch, tmp_path, capsys):
    without(monkeypatch, "minari", "safetensors", "flatbuffers")
    words = ["--env", "CartPole-v1", "--preset", "debug", "--steps", "9", "--offline", "x/mine-v0", "--log.quiet"]
    assert main([*words, "--logdir", str(tmp_path / "run")]) == 1
    assert "pip install -e '.[minari]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    for form, target in {"minari": "x/mine-v0", "hub": tmp_path / "hub", "stablehlo": tmp_path / "file"}.items():
        assert export.main([str(tmp_path / "run"), f"--{form}", str(target)]) == 1
        error = capsys.readouterr().err
        assert f"pip install -e '.[{form}]'" in error
        assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_export_needs_a_form(capsys):
    with pytest.raises(SystemExit) as found:
        export.main(["runs/x"])
    assert found.value.code == 2
    assert "--policy, --hub, --stablehlo, --minari" in capsys.readouterr().err


def test_an_export_of_nothing_is_one_sentence(tmp_path, capsys):
    assert export.main([str(tmp_path / "none"), "--policy", str(tmp_path / "out")]) == 1
    assert "holds neither a run nor a saved agent" in capsys.readouterr().err


class ThreeEpisodes:
    """A source in memory; counts what was asked of it."""

    facts = DatasetFacts("mine/x-v0", 3, 21)

    def __init__(self):
        self.asked = []

    def steps(self, *, start):
        self.asked.append(start)
        yield from (random_steps(seed) for seed in range(start, 3))


class Kept:
    """A sink that keeps rewards and latents."""

    def __init__(self):
        self.rewards, self.latents = [], []

    def add(self, timestep, *, action, latent):
        assert timestep.observation.keys() == {"eye", "arm/0", "arm/1"}
        assert action.shape == (1, 7)
        self.rewards.append(float(timestep.reward[0]))
        self.latents.append(latent)


def test_reading_goes_on_where_it_was_stopped():
    definition, sink, source = tiny_definition(), Kept(), ThreeEpisodes()
    collector = DatasetCollector(source, definition)
    answers = iter([True, False])  # stopped after the second episode
    collector.step({}, sink, meanwhile=lambda: next(answers))
    assert not collector.is_complete
    later = DatasetCollector(source, definition)
    later.restore(collector.state(), None)
    later.step({}, sink, meanwhile=lambda: True)
    assert later.is_complete
    assert source.asked == [0, 2]
    expected = [float(reward) for seed in range(3) for reward in random_steps(seed)["reward"]]
    assert sink.rewards == expected
    assert all(not np.asarray(latent.stoch).any() for latent in sink.latents)
