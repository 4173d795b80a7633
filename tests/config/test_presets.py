"""The layers of configuration: their order, their strictness, and the YAML of a run folder."""

from __future__ import annotations

import dataclasses
import itertools
import typing

import pytest
import yaml

from dreamer.config import Config
from dreamer.presets import (
    ConfigError,
    all_kinds,
    config_root,
    diff,
    flatten,
    from_yaml,
    merge_layers,
    suite_of,
    to_yaml,
)
from dreamer.validation import resolve

SUITES = sorted(path.stem for path in (config_root() / "suites").glob("*.yaml"))
SIZES = typing.get_args(typing.get_type_hints(Config)["size"])
ENV_OF_SUITE = {
    "atari": "atari_pong",
    "atari100k": "atari100k_pong",
    "classic": "CartPole-v1",
    "dmc": "dmc_walker_walk",
    "dmc_vision": "dmc_vision_walker_walk",
    "gym": "my_package:MyEnv-v0",
}


@pytest.mark.parametrize(("suite", "env"), list(ENV_OF_SUITE.items()))
def test_suite_follows_from_the_name(suite, env):
    assert suite_of(env) == suite


@pytest.mark.parametrize("env", ["Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"])
def test_classic_control_has_its_suite(env):
    assert suite_of(env) == "classic"


def test_every_suite_has_an_environment_here():
    assert sorted(ENV_OF_SUITE) == SUITES


def test_every_size_has_a_file():
    assert sorted(SIZES) == sorted(path.stem for path in (config_root() / "sizes").glob("*.yaml"))


def test_published_protocols():
    atari, atari100k = resolve({"env": "atari_pong"}), resolve({"env": "atari100k_pong"})
    proprio, vision = resolve({"env": "dmc_walker_walk"}), resolve({"env": "dmc_vision_walker_walk"})
    assert [config.train_ratio for config in (atari, atari100k, proprio, vision)] == [32, 128, 512, 512]
    assert [config.environment.action_repeat for config in (atari, atari100k, proprio, vision)] == [4, 4, 2, 2]
    assert [config.environment.num_envs for config in (atari, atari100k, proprio, vision)] == [16, 1, 8, 8]
    assert (atari.environment.sticky, atari.environment.full_actions, atari.environment.grayscale) == (0.25, True, True)
    assert (atari100k.environment.sticky, atari100k.environment.full_actions) == (0.0, False)
    assert (atari.environment.image_size, atari100k.environment.image_size) == ((96, 96), (64, 64))
    assert {config.size for config in (atari, atari100k, proprio, vision)} == {"12m"}


def test_default_size_equals_its_file():
    assert diff(Config(env="x:Y-v0"), resolve({"env": "x:Y-v0"})).keys() <= {"steps", "environment.action_repeat"}


@pytest.mark.parametrize(
    ("size", "deter", "hidden", "classes", "depth", "units"),
    [
        ("1m", 512, 64, 4, 4, 64),
        ("12m", 2048, 256, 16, 16, 256),
        ("25m", 3072, 384, 24, 24, 384),
        ("50m", 4096, 512, 32, 32, 512),
        ("100m", 6144, 768, 48, 48, 768),
        ("200m", 8192, 1024, 64, 64, 1024),
        ("400m", 12288, 1536, 96, 96, 1536),
    ],
)
def test_size_sets_every_width(size, deter, hidden, classes, depth, units):
    config = resolve({"env": "atari_pong", "size": size})
    rssm = config.world.rssm
    assert (rssm.deter, rssm.hidden, rssm.classes) == (deter, hidden, classes)
    flat = flatten(config)
    assert {name: value for name, value in flat.items() if name.endswith(".units") and value != units} == {}
    assert {flat[name] for name in flat if name.endswith(".depth")} == {depth}


def test_later_layers_win(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("train_ratio: 7\nsteps: 9k_agent\nworld: {rssm: {deter: 640, hidden: 48}}\n")
    suite_only = resolve({"env": "atari_pong", "size": "1m"})
    assert (suite_only.train_ratio, suite_only.world.rssm.deter) == (32.0, 512)
    preset_too = resolve({"env": "atari_pong", "size": "1m", "preset": str(preset)})
    assert (preset_too.train_ratio, preset_too.world.rssm.deter, preset_too.world.rssm.hidden) == (7.0, 640, 48)
    assert preset_too.environment.num_envs == 16
    all_layers = resolve({"env": "atari_pong", "size": "1m", "preset": str(preset), "world.rssm.deter": 1024})
    assert (all_layers.world.rssm.deter, all_layers.world.rssm.hidden) == (1024, 48)


def test_a_preset_may_name_the_environment(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("env: dmc_walker_walk\nsize: 25m\n")
    config = resolve({"preset": str(preset)})
    assert (config.env, config.train_ratio, config.world.rssm.deter) == ("dmc_walker_walk", 512.0, 3072)
    assert resolve({"preset": str(preset), "size": "1m"}).world.rssm.deter == 512


def test_a_resolved_config_reproduces_its_run(tmp_path):
    config = resolve({"env": "dmc_walker_walk", "size": "25m", "world.rssm.deter": 1024, "seed": 3})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    again = resolve({"preset": str(tmp_path / "config.yaml")})
    assert diff(config, again) == {"preset": ("", str(tmp_path / "config.yaml"))}


def test_size_against_a_resolved_config_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(resolve({"env": "dmc_walker_walk", "size": "25m"})))
    with pytest.raises(ConfigError, match=r"--size 50m contradicts .* sets size 25m"):
        resolve({"preset": str(tmp_path / "config.yaml"), "size": "50m"})


@pytest.mark.parametrize(("suite", "size"), list(itertools.product(SUITES, SIZES)))
def test_yaml_round_trip_is_exact(suite, size, tmp_path):
    config = resolve({"env": ENV_OF_SUITE[suite], "size": size, "steps": "1e6", "optimizer.learning_rate": 1 / 3})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert from_yaml(tmp_path / "config.yaml") == config


def test_yaml_round_trip_of_every_odd_text(tmp_path):
    for text in ("null", "true", "1e-4", "30", "a: b", "# x", " y "):
        config = dataclasses.replace(Config(), env=text)
        (tmp_path / "config.yaml").write_text(to_yaml(config))
        assert from_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_ration: 3", "unknown setting train_ration; did you mean train_ratio"),
        ("world: {rssm: {deterr: 3}}", "did you mean world.rssm.deter.*valid in world.rssm: deter, hidden, stoch"),
        ("deter: 3", "did you mean world.rssm.deter"),
        ("world: {rssm: {deter: 3.5}}", "world.rssm.deter expects an integer, not 3.5"),
        ("world: {rssm: {deter: true}}", "world.rssm.deter expects an integer, not True"),
        ("replay: {online: 1}", "replay.online expects true or false, not 1"),
        ("seed:", "seed expects an integer, not None"),
        ("steps: 30000", r"steps expects text \(in quotes\), not 30000"),
        ("size: 13m", "size expects one of 1m, 12m, .*, not '13m'; did you mean"),
        ("world: 3", "world is a group of settings; set one of it"),
        ("environment: {image_size: [64]}", r"environment.image_size expects 2 integers, not \[64\]"),
        ("world: {encoder: {multipliers: [2, x]}}", "world.encoder.multipliers expects an integer, not 'x'"),
        ("- 3", "expected settings"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_presets_are_merged_strictly(text, message, tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve({"env": "atari_pong", "preset": str(preset)})


def test_exponents_are_numbers_in_yaml(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("optimizer: {learning_rate: 1e-4}\nreplay: {capacity: 2e6}\n")
    config = resolve({"env": "atari_pong", "preset": str(preset)})
    assert (config.optimizer.learning_rate, config.replay.capacity) == (1e-4, 2_000_000)


def test_unknown_preset_names_the_shipped_ones():
    with pytest.raises(ConfigError, match="no such preset; did you mean debug"):
        resolve({"env": "atari_pong", "preset": "debgu"})


@pytest.mark.parametrize("path", sorted(config_root().rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_files_resolve_and_say_where_they_come_from(path):
    problems: list[str] = []
    folder, name = path.parent.name, path.stem
    chosen = {
        "suites": {"env": ENV_OF_SUITE.get(name)},
        "sizes": {"env": "atari_pong", "size": name},
        "presets": {"env": "atari_pong", "preset": name},
    }
    config = merge_layers(chosen[folder], problems=problems)
    assert problems == []
    flat = flatten(config)
    for setting, value in _leaves(yaml.safe_load(path.read_text())):
        assert setting in all_kinds()
        assert flat[setting] == (tuple(value) if isinstance(value, list) else value)
    header = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    assert header[0].startswith("# Source: ")
    assert any("Expected: " in line for line in header)
    assert any(line.startswith(("# Time: ", "# Use: ")) for line in header)


def test_diff_lists_both_values():
    before, after = resolve({"env": "atari_pong"}), resolve({"env": "atari_pong", "world.rssm.deter": 1024})
    assert diff(before, after) == {"world.rssm.deter": (2048, 1024)}
    assert diff(before, before) == {}


def _leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
