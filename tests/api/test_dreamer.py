from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import dreamer
from dreamer.evaluate import main as evaluate
from dreamer.presets import ConfigError
from dreamer.train import ConfigChangedError, main
from envs.environment import EnvironmentFault

DEBUG: dict[str, Any] = {"preset": "debug", "config": {"log.quiet": True}}


def make_cartpole() -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", render_mode="rgb_array")


@pytest.mark.slow
def test_a_function_trains_resumes_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    first = dreamer.Dreamer(env=lambda: make_cartpole(), logdir=folder, **DEBUG).learn(steps=100)
    assert first.agent.counters.agent_steps == 100
    updates = first.agent.counters.updates
    assert updates > 0

    again = dreamer.Dreamer(env=lambda: make_cartpole(), logdir=folder, **DEBUG)
    assert again.agent.counters == first.agent.counters  # before it learns
    assert again.learn(steps="120_agent") is again
    assert again.agent.counters.agent_steps == 120
    assert again.agent.counters.updates > updates

    action, _ = again.predict(np.zeros(4, np.float32), deterministic=True)
    assert again.agent.action_space.contains(action)
    evaluation = dreamer.load(again.save(tmp_path / "agent")).evaluate(make_cartpole, episodes=2)
    assert len(evaluation.episodes) == 2
    capsys.readouterr()
    assert evaluate([str(folder)]) == 1
    assert "evaluate it in Python: dreamer.load(" in capsys.readouterr().err
    assert main(["--env", "factory:<lambda>", "--preset", "debug", "--steps", "200", "--logdir", str(folder)]) == 1
    assert "go on in Python" in capsys.readouterr().err


def test_another_environment_is_not_mistaken_for_the_old(trained: Path, tmp_path: Path):
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    (folder / "spaces.json").write_text((folder / "spaces.json").read_text().replace('"n": 2', '"n": 3'))
    with pytest.raises(ConfigChangedError, match=r"its action space was Discrete\(3\) and is Discrete\(2\) now"):
        dreamer.Dreamer("CartPole-v1", logdir=folder, **DEBUG).learn(steps=300)


def test_settings_take_the_road_of_the_command_line(tmp_path: Path):
    settings = {"world.rssm.deter": 1024, "environment.num_envs": 2}
    made = dreamer.Dreamer("CartPole-v1", size="12m", seed=3, config=settings, train_ratio=64, logdir=tmp_path / "x")
    config = made.config
    assert (config.size, config.seed, config.train_ratio, config.env) == ("12m", 3, 64.0, "CartPole-v1")
    assert (config.world.rssm.deter, config.environment.num_envs) == (1024, 2)
    assert made.path == tmp_path / "x"
    assert dreamer.Dreamer("CartPole-v1").config.size == "1m"  # the suite's own
    assert dreamer.Dreamer("CartPole-v1").path == Path("runs/CartPole-v1-1m-0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "CartPole-v1", "train_ration": 3}, "did you mean --train-ratio"),
        ({"env": "CartPole-v1", "config": {"world.rssm.detre": 3}}, "did you mean --world.rssm.deter"),
        ({"env": "CartPole-v1", "size": "13m"}, "--size expects one of 1m, 12m"),
        ({"env": make_cartpole}, "give logdir="),
        ({"env": make_cartpole()}, "give a name, or a function"),
        ({"env": "CartPole-v1", "config": {"seed": 1}}, "seed: give it as an argument or in config"),
    ],
)
def test_mistakes_are_said_at_once(arguments: dict, message: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (ConfigError is one; the message is compared below)
        dreamer.Dreamer(**arguments)
    assert message in str(caught.value)


def test_learning_checks_its_steps():
    with pytest.raises(ConfigError, match="end before the first update"):
        dreamer.Dreamer("CartPole-v1", **DEBUG).learn(steps=3)


def test_what_only_the_environment_knows_is_checked_before_training(tmp_path: Path):
    """Without a word on it, Atari repeats actions four times: 100 frames are fewer steps than they seemed."""
    settings = {"preset": "debug", "config": {"log.quiet": True, "environment.action_repeat": None}}
    with pytest.raises(ConfigError, match="100_frames are 25 agent steps and end before the first update"):
        dreamer.Dreamer("atari100k_pong", logdir=tmp_path / "x", **settings).learn(steps="100_frames")
    assert not (tmp_path / "x").exists()


def test_a_device_that_comes_too_late(tmp_path: Path):
    import jax

    assert jax.default_backend() == "cpu"
    with pytest.raises(ValueError, match="device='gpu' was asked for, but JAX already runs on 'cpu'"):
        dreamer.Dreamer("CartPole-v1", device="gpu", logdir=tmp_path / "x", **DEBUG).learn(steps=200)


def test_describing_a_run_loads_no_jax():
    program = "import sys, dreamer; dreamer.Dreamer('CartPole-v1'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unknown_environment(tmp_path: Path):
    with pytest.raises(EnvironmentFault, match="did you mean CartPole-v"):
        dreamer.Dreamer("CartPoole-v1", logdir=tmp_path / "x", **DEBUG).learn(steps=200)
