"""A run's replay as a real Minari dataset, and training from one. Slow: the package is no part of the gate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from gymnasium import spaces

from dreamer import export
from dreamer.data.trajectories import Tally, read_episodes
from dreamer.exchange.episodes import to_native, to_steps
from dreamer.exchange.minari_store import Dataset, DatasetError, write_dataset
from dreamer.exchange.run_replay import open_replay
from dreamer.train import main
from tests.exchange.test_episodes import ACTIONS, CODECS, OBSERVATIONS, random_steps
from tests.exchange.test_episodes import T as LENGTH
from tests.integration.runs import newest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
NAME = "cartpole/mine-v0"
OFFLINE = ["--offline", NAME, "--env", "CartPole-v1", "--preset", "debug", "--log.quiet"]


@pytest.fixture(scope="session")
def dataset(run: Path, datasets: Path) -> Path:
    """The run's replay as dataset `NAME`."""
    assert export.main([str(run), "--minari", NAME]) == 0
    return datasets / NAME


def test_replay_there_and_back_changes_no_bit(run, dataset):
    replay = open_replay(run)
    stored = list(read_episodes(run / "replay", layout=replay.layout, state=replay.state, tally=Tally()))
    data = Dataset(NAME)
    codecs = {"observation_codec": replay.observation_codec, "action_codec": replay.action_codec}
    back = [to_steps(episode, **codecs) for episode in data.episodes()]
    assert len(stored) == len(back) == data.num_episodes > 10
    assert sum(len(steps["reward"]) for steps in back) == 700
    for before, after in zip(stored, back, strict=True):
        for name, array in after.items():
            executed = slice(-1) if name == "action" else slice(None)  # nobody executed the last one
            assert array.dtype == before[name].dtype
            np.testing.assert_array_equal(array[executed], before[name][executed])


def test_minari_itself_finds_it(dataset):
    import minari

    assert NAME in minari.list_local_datasets()
    found = minari.load_dataset(NAME)
    assert found.env_spec.id == "CartPole-v1"
    assert (found.total_steps, found.total_episodes) == (sum(map(len, found)), len(found))
    for episode in found:
        assert len(episode.observations) == len(episode.actions) + 1
        assert all(found.observation_space.contains(seen) for seen in episode.observations)
        assert all(found.action_space.contains(action) for action in episode.actions)
        assert (episode.terminations | episode.truncations).tolist() == [False] * (len(episode) - 1) + [True]
    terminated = [episode for episode in found if episode.terminations[-1]]
    assert len(terminated) >= len(found) - 1  # all but the one that the end of the run cut


def test_images_and_nested_spaces_survive_the_disk(datasets):
    import minari

    kept = [random_steps(seed) for seed in range(3)]
    native = [to_native(steps, **CODECS) for steps in kept]
    about = {"observation_space": OBSERVATIONS, "action_space": ACTIONS, "env": "mine", "description": "a test"}
    write_dataset("nested/images-v0", iter(native), **about)
    assert minari.load_dataset("nested/images-v0").total_steps == 3 * LENGTH
    for steps, episode in zip(kept, Dataset("nested/images-v0").episodes(), strict=True):
        again = to_steps(episode, **CODECS)
        for name in steps.keys() - {"action"}:
            np.testing.assert_array_equal(again[name], steps[name])


def test_what_cannot_be_read_or_written_is_said_in_words(run, dataset, datasets, capsys, tmp_path):
    def interrupted():
        yield from ()
        raise KeyboardInterrupt

    about = {"observation_space": OBSERVATIONS, "action_space": ACTIONS, "env": "mine", "description": "a test"}
    with pytest.raises(KeyboardInterrupt):
        write_dataset("half/done-v0", interrupted(), **about)
    assert not list((datasets / "half").glob("*"))
    for name, words in {NAME: "exists already", "no version": "is no id", "a": "is no id"}.items():
        assert export.main([str(run), "--minari", name]) == 1
        assert words in capsys.readouterr().err
    assert export.main([str(tmp_path), "--minari", "half/other-v0"]) == 1
    assert "holds no run" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="There is no dataset nowhere/to-be-v0"):
        Dataset("nowhere/to-be-v0")
    (dataset / "data" / "metadata.json").rename(dataset / "data" / "kept")
    try:
        (dataset / "data" / "metadata.json").write_text('{"env_spec": "{}"}')
        with pytest.raises(DatasetError, match="does not hold its spaces"):
            Dataset(NAME)
    finally:
        (dataset / "data" / "kept").rename(dataset / "data" / "metadata.json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "MountainCar-v0"], "vector of 2"),
        (["--env", "Acrobot-v1"], "vector of 6"),
        (["--replay.capacity", "600", "--replay.chunk", "64"], "--replay.capacity"),
        (["--replay.batch-size", "200"], "lower --replay.batch-size"),
        (["--offline", "nowhere/to-be-v0"], "There is no dataset"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(dataset, tmp_path, capsys, arguments, words):
    assert main([*OFFLINE, "--steps", "3", "--logdir", str(tmp_path / "run"), *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_offline_run_only_learns_and_resumes_exactly(dataset, tmp_path, capfd):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    arguments = [word for word in OFFLINE if word != "--log.quiet"]
    assert main([*arguments, "--steps", "12", "--logdir", str(whole)]) == 0
    told = capfd.readouterr()
    assert "12 from the dataset alone" in told.out
    assert f"{NAME}: " in told.out
    assert "done: 12 updates from a dataset" in told.out
    for steps in ("5", "12"):
        assert main([*OFFLINE, "--steps", steps, "--logdir", str(halves)]) == 0
    one, two = newest(whole), newest(halves)
    assert one.meta["counters"] == two.meta["counters"] == {"agent_steps": 0, "env_frames": 0, "updates": 12}
    jax.tree.map(np.testing.assert_array_equal, one.arrays["train"].params, two.arrays["train"].params)
    for name, array in one.host.items():
        np.testing.assert_array_equal(array, two.host[name])
    assert not (whole / "episodes.csv").exists()
    assert main([*OFFLINE, "--offline", "other/one-v0", "--steps", "12", "--logdir", str(whole)]) == 1
    assert "offline" in capfd.readouterr().err


def test_kill_9_costs_no_more_than_in_other_runs(dataset, extras, tmp_path):
    killed, quiet = tmp_path / "killed", tmp_path / "quiet"
    words = [*OFFLINE, "--steps", "30", "--checkpoint.every-seconds", "0.5"]
    repository = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), str(extras)])}
    program = [sys.executable, "-m", "dreamer.train", *words, "--logdir", str(killed)]
    process = subprocess.Popen(program, env=environment)
    try:
        deadline = time.monotonic() + 120
        while not list(killed.glob("checkpoints/0*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(program, env=environment, check=True)
    assert main([*words, "--logdir", str(quiet)]) == 0
    one, two = newest(killed), newest(quiet)
    assert one.meta["counters"]["updates"] == 30
    # Another process optimizes its program otherwise than a test's: the same to rounding, not bit by bit.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        *(found.arrays["train"].params for found in (one, two)),
    )


def test_a_saved_offline_agent_plays(dataset, tmp_path):
    import dreamer

    assert main([*OFFLINE, "--steps", "3", "--logdir", str(tmp_path / "run")]) == 0
    evaluation = dreamer.load(tmp_path / "run").evaluate(episodes=2)
    assert len(evaluation.episodes) == 2


def test_another_environments_bounds_are_refused(datasets, tmp_path, capsys):
    box = spaces.Box(-1.0, 1.0, (4,), np.float32)
    about = {"observation_space": box, "action_space": spaces.Discrete(3), "env": "mine", "description": "a test"}
    write_dataset("wrong/actions-v0", iter(()), **about)
    assert main([*OFFLINE, "--offline", "wrong/actions-v0", "--steps", "3", "--logdir", str(tmp_path / "run")]) == 1
    assert "takes Discrete(2)" in capsys.readouterr().err
