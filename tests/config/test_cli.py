"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreamer.cli import parse
from dreamer.config import Config
from dreamer.presets import all_kinds, flatten

REPOSITORY = Path(__file__).resolve().parents[2]


def run_python(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "100", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=60
    )


def parse_line(line: str) -> Config:
    return parse(line.split())


def test_the_documented_flags():
    config = parse_line(
        "--env atari_pong --size 25m --seed 3 --logdir runs/x --steps 400k_frames --train-ratio 64 "
        "--world.rssm.deter 1024 --behavior.critic.slow-target true --environment.image-size 64 48"
    )
    assert (config.env, config.size, config.seed, config.logdir) == ("atari_pong", "25m", 3, "runs/x")
    assert (config.steps, config.train_ratio, config.world.rssm.deter) == ("400k_frames", 64.0, 1024)
    assert (config.world.rssm.hidden, config.behavior.critic.slow_target) == (384, True)
    assert config.environment.image_size == (64, 48)


def test_every_setting_is_a_flag():
    config = parse(["--env", "atari_pong", "--environment.camera", "1", "--environment.action-bound", "2.0"])
    arguments = []
    for name, value in flatten(config).items():
        words = list(map(str, value)) if isinstance(value, tuple) else str(value).split()
        arguments += [f"--{name.replace('_', '-')}", *words] if words else []
    parsed = flatten(parse(arguments))
    assert parsed == flatten(config)
    assert set(parsed) == set(all_kinds())


@pytest.mark.parametrize(
    "spelling",
    [
        ["--world.rssm.prior-layers", "3"],
        ["--world.rssm.prior_layers", "3"],
        ["--world.rssm.prior-layers=3"],
        ["--world.rssm.prior-layers", "1", "--world.rssm.prior-layers", "3"],
    ],
)
def test_spellings_of_a_flag(spelling):
    assert parse(["--env", "atari_pong", *spelling]).world.rssm.prior_layers == 3


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--replay.online=false", "replay.online", False),
        ("--replay.online False", "replay.online", False),
        ("--log.quiet", "log.quiet", True),
        ("--replay.capacity 2e6", "replay.capacity", 2_000_000),
        ("--optimizer.learning-rate 1e-4", "optimizer.learning_rate", 1e-4),
        ("--environment.sticky None", "environment.sticky", None),
        ("--environment.image-size=32,48", "environment.image_size", (32, 48)),
        ("--environment.image-size None", "environment.image_size", None),
        ("--world.encoder.multipliers 1 2", "world.encoder.multipliers", (1, 2)),
        ("--logdir 007", "logdir", "007"),
    ],
)
def test_values_of_every_kind(words, name, value):
    assert flatten(parse_line(f"--env atari_pong {words}"))[name] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--env atari_pong --train-ration 3", "did you mean --train-ratio?"),
        ("--env atari_pong --world.rssm.deterr 3", "did you mean --world.rssm.deter?"),
        ("--env atari_pong --batch-size 3", "did you mean --replay.batch-size?"),
        ("--env atari_pong --seed one", "--seed expects an integer, not 'one'"),
        ("--env atari_pong --seed", "--seed needs a value"),
        ("--env atari_pong --seed 1 2", "--seed takes one value, not 2"),
        ("--env atari_pong --world.rssm 1 --world.rssm.deter 512", "--world.rssm is a group of settings"),
        ("--env atari_pong --seed.x 1 --seed 2", "--seed expects an integer"),
        ("atari_pong", "did you mean --env atari_pong?"),
        ("", "--env is missing"),
    ],
)
def test_mistakes_get_a_remedy(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_line(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_all_mistakes_are_listed_at_once(capsys):
    with pytest.raises(SystemExit):
        parse_line("--train-ration 3 --seed x --replay.batch-size 0 --world.rssm.deter 1027 --preset nope")
    errors = capsys.readouterr().err
    for part in ("train-ration", "--seed", "--replay.batch-size", "1027", "--preset nope", "--env is missing"):
        assert part in errors
    assert errors.startswith("6 problems with the configuration:")


def test_a_typo_is_answered_within_a_second_and_without_jax():
    code = "import sys, dreamer.cli\ntry: dreamer.cli.parse()\nfinally: print('jax' in sys.modules)"
    started = time.monotonic()
    result = run_python("-c", code, "--env", "atari_pong", "--train-ration", "3")
    assert time.monotonic() - started < 2.0  # about 0.2 s; slack for a busy machine
    assert (result.returncode, result.stdout.strip()) == (2, "False")
    assert "did you mean --train-ratio?" in result.stderr


def test_help_shows_every_setting_within_100_columns():
    result = run_python("-c", "import dreamer.cli; dreamer.cli.parse()", "--env", "CartPole-v1", "--help")
    assert result.returncode == 0, result.stderr
    for name in all_kinds():
        assert f"--{name.replace('_', '-')} " in result.stdout
    assert "D, width of the recurrent state [512]" in result.stdout  # the comment, and this command's size
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_own_envs_and_configs_folders_do_no_harm(tmp_path):
    for folder in ("envs", "configs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    code = (
        "import dreamer, envs.spaces; from dreamer.validation import resolve; "
        "print(resolve({'env': 'atari_pong'}).train_ratio, envs.__file__)"
    )
    result = run_python("-c", code, cwd=tmp_path)
    assert result.stdout.split() == ["32.0", str(REPOSITORY / "envs" / "__init__.py")], result.stderr
