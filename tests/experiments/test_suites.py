"""Suites name environments that exist and settings that a training takes; faults of one are said in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import pytest
from ale_py import roms

import envs
from dreamer.presets import suite_of
from dreamer.protocols import PROTOCOLS
from experiments.sweep.suites import SuiteError, load_suite, parse_seeds, suite_names
from experiments.sweep.trials import Trial, plan_trials

SIZES = {
    "ablations": 1,
    "ablations_memory": 1,
    "atari100k": 26,
    "atari57": 57,
    "classic": 5,
    "dmc_proprio": 18,
    "dmc_vision": 20,
    "smoke": 2,
}
GOOD = "protocol: classic\nsteps: 1k_agent\nseeds: 0-1\ntasks: [CartPole-v1]\n"


def trials(name: str) -> list[Trial]:
    """One for each task."""
    return plan_trials(load_suite(name), out=Path("out"), flags=[], seeds=[0])


def test_the_shipped_suites_have_their_tasks():
    assert {name: len(load_suite(name).tasks) for name in suite_names()} == SIZES
    assert load_suite("dmc_vision").seeds == tuple(range(8))


@pytest.mark.parametrize("name", SIZES)
def test_every_trial_is_a_training_of_the_suites_protocol(name: str):
    """Planning resolves the flags with the training's own parser; budgets of frames end in the protocol's window."""
    for trial in trials(name):
        protocol = load_suite(name).protocol
        assert suite_of(trial.task) in protocol.suites
        frames = trial.total_steps * (trial.config.environment.action_repeat or 1)
        assert protocol.window.reached_by(frames)
        assert protocol.training_score([(frames, 1.0)]).episodes == 1


def test_atari_and_gymnasium_environments_are_there():
    games = {task.partition("_")[2] for name in ("atari100k", "atari57") for task in load_suite(name).tasks}
    assert games <= set(roms.get_all_rom_ids())
    for task in (*load_suite("classic").tasks, *load_suite("smoke").tasks):
        assert gymnasium.spec(task).id == task


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="dm-control does not install on Python 3.13")
def test_control_environments_are_there():
    from envs.dmc import split_task

    tasks = [*load_suite("dmc_proprio").tasks, *load_suite("dmc_vision").tasks]
    assert len({split_task(task) for task in tasks}) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_every_environment_follows_its_protocol(name: str):
    """Each is made once, with the settings of its trial, and reset."""
    for trial in trials(name):
        environment = envs.make(trial.task, num_envs=1, seed=0, settings=trial.config.environment)
        environment.reset()
        differences = load_suite(name).protocol.differences(trial.task, environment.protocol)
        environment.close()
        assert differences == [], trial.task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "seed: 3\n", "unknown setting 'seed'; did you mean seeds?"),
        (GOOD.replace("classic", "clasic"), "did you mean classic?"),
        (GOOD.replace("0-1", "4-0"), "expected seeds such as 0-4 or 0,2,5, not '4-0'"),
        (GOOD.replace("[CartPole-v1]", "CartPole-v1"), "tasks must be a list"),
        (GOOD.replace("[CartPole-v1]", "[a, b, a]"), "a stands in tasks twice"),
        (GOOD.replace("steps: 1k_agent\n", ""), "steps is missing"),
        (GOOD + "overrides: 3\n", "overrides must be settings"),
        (GOOD + "tasks: [\n", "cannot be read as YAML"),
        (GOOD + "overrides: {world: {rssm: {detr: 4}}}\n", "task CartPole-v1: .*detr; did you mean .*deter"),
        (GOOD.replace("1k_agent", "1k_steps"), "task CartPole-v1: .*expected a number"),
    ],
)
def test_faults_of_a_suite_are_named(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match=message) as raised:
        trials(str(path))
    assert "mine" in str(raised.value)


def test_overrides_reach_the_training_and_flags_win(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + "preset: debug\noverrides: {train_ratio: 8, world: {rssm: {deter: 128}}}\n")
    suite = load_suite(str(path))
    (trial,) = plan_trials(suite, out=tmp_path, flags=["--train-ratio", "4"], seeds=[7])
    assert (trial.config.train_ratio, trial.config.world.rssm.deter, trial.config.seed) == (4.0, 128, 7)
    assert (trial.config.preset, trial.total_steps) == ("debug", 1000)
    with pytest.raises(SuiteError, match="suite mine has no task Pong"):
        plan_trials(suite, out=tmp_path, flags=[], seeds=[0], tasks=["Pong"])


def test_seeds_and_names():
    assert parse_seeds("0-2,5,1") == (0, 1, 2, 5)
    assert parse_seeds([3, 4]) == (3, 4)
    with pytest.raises(SuiteError, match="did you mean smoke"):
        load_suite("smok")
    assert {load_suite(name).protocol.name for name in SIZES} <= set(PROTOCOLS)
