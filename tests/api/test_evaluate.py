from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

import dreamer
from dreamer.evaluate import main
from dreamer.evaluation import resize


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run that an evaluation may write to."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def video_frames(path: Path, *, height: int, width: int) -> np.ndarray:
    """All frames of a video, `[T, H, W, 3]`, decoded by ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    pixels = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(pixels.stdout, np.uint8).reshape(-1, height, width, 3)


def test_results_and_mp4(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = tmp_path / "videos" / "out.mp4"
    assert main([str(run), "--episodes", "3", "--video", str(video)]) == 0
    results = json.loads((run / "evaluation" / "results.json").read_text())
    scores = [episode["score"] for episode in results["episodes"]]
    assert len(scores) == results["num_episodes"] == 3
    assert results["score"] == {
        "mean": pytest.approx(np.mean(scores)),
        "std": pytest.approx(np.std(scores)),
        "min": min(scores),
        "max": max(scores),
    }
    assert [episode["length"] for episode in results["episodes"]] == scores  # CartPole pays 1 a step
    assert (results["actions"], results["seed"], results["agent_steps"]) == ("sample", 1, 200)
    assert results["environment"]["env"] == "CartPole-v1"
    assert results["environment"]["time_limit_steps"] == 500

    frames = video_frames(video, height=320, width=480)
    assert len(frames) == sum(scores) + 3  # an episode of n steps shows n + 1 states
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 3  # cart, pole, track and sky
    assert (frames[0] != frames[int(scores[0]) - 1]).any()
    printed = capsys.readouterr()
    assert f"mean {np.mean(scores):,.1f}" in printed.out
    assert f"episode 3/3: score {scores[-1]:,.1f}" in printed.err


def test_gif_and_repetition(run: Path, tmp_path: Path):
    arguments = [str(run), "--episodes", "2", "--deterministic", "--seed", "5"]
    results = run / "evaluation" / "results.json"
    assert main([*arguments, "--video", str(tmp_path / "out.gif")]) == 0
    first = json.loads(results.read_text())
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.size == (480, 320)
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    states = sum(episode["length"] + 1 for episode in first["episodes"])
    assert sum(durations) == -(-states // 2) * 40  # milliseconds: every second frame of 50 a second
    assert first["actions"] == "mode"
    assert main(arguments) == 0
    assert json.loads(results.read_text()) == first
    assert results.with_name("results-1.json").is_file()


def test_a_protocol_gives_both_numbers_and_keeps_earlier_results(run: Path, capsys: pytest.CaptureFixture[str]):
    """Training episodes beyond the checkpoint are those of a crash and do not count."""
    with (run / "episodes.csv").open() as file:
        trained = [float(row["score"]) for row in csv.DictReader(file)]
    with (run / "episodes.csv").open("a") as file:
        file.write("CartPole-v1,0,201,201,9,500.0,500\nCartPole-v1,0,1")
    assert main([str(run), "--episodes", "1"]) == 0
    assert main([str(run), "--protocol", "classic"]) == 0
    results = json.loads((run / "evaluation" / "results.json").read_text())
    played = [episode["score"] for episode in results["episodes"]]
    assert results["protocol"]["name"] == "classic"
    assert results["protocol"]["headline"] == "training_window"
    assert results["protocol"]["sticky"] is results["protocol"]["life_loss"] is None  # a pole has neither
    window, evaluation = results["training_window"], results["evaluation"]
    assert (window["score"], window["episodes"]) == (pytest.approx(np.mean(trained[-20:])), len(trained[-20:]))
    assert (evaluation["score"], evaluation["episodes"]) == (pytest.approx(np.mean(played)), 20)
    assert window["actions"] == evaluation["actions"] == "sample"
    printed = capsys.readouterr().out
    assert f"* training window   {np.mean(trained[-20:]):,.1f} over {len(trained[-20:])}" in printed
    assert "results-1.json" in printed
    assert json.loads((run / "evaluation" / "results-1.json").read_text())["num_episodes"] == 1


def test_a_protocol_that_does_not_fit_is_refused_before_anything_is_played(
    run: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(run), "--protocol", "atari100k"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("protocol atari100k: it is for environments of atari100k, and CartPole-v1 is one of classic.")
    assert main([str(run), "--protocol", "clasic"]) == 1
    assert "did you mean classic?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(run), "--protocol", "classic", "--episodes", "3"])
    assert "leave them out" in capsys.readouterr().err
    (run / "episodes.csv").write_text("env,seed\nCartPole-v1,0\n")
    assert main([str(run), "--protocol", "classic"]) == 1
    assert "episodes.csv is damaged" in capsys.readouterr().err
    assert not (run / "evaluation").exists()


def test_a_saved_agent_can_be_evaluated(trained: Path, tmp_path: Path):
    saved = dreamer.load(trained).save(tmp_path / "agent")
    assert main([str(saved), "--episodes", "1"]) == 0
    assert (saved / "evaluation" / "results.json").is_file()
    dreamer.load(saved)  # its checksums do not mind the results


def test_evaluation_from_python(trained: Path):
    from_name = dreamer.load(trained, seed=3).evaluate(episodes=2, seed=3)
    from_id = dreamer.load(trained, seed=3).evaluate("CartPole-v1", episodes=2, seed=3)
    assert from_name.episodes == from_id.episodes
    with pytest.raises(ValueError, match=r"the agent's observation space is Box.*this environment's is"):
        dreamer.load(trained).evaluate("Pendulum-v1", episodes=1)


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamer.evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_errors_are_a_sentence_and_an_exit_code(trained: Path, tmp_path: Path):
    result = run_program(str(tmp_path / "nothing"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "nothing holds neither a run nor a saved agent" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert run_program(str(trained), "--episode-count", "3").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "out.avi"], "error: out.avi: the name of a video ends in .mp4 or .gif."),
        (["--episodes", "0"], "error: 0 episodes were asked for; at least one is needed."),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(trained), *arguments]) == 1
    assert capsys.readouterr().err.strip() == message


def test_nothing_that_a_strangers_run_names_is_imported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Its module lies where somebody evaluates, as it does after an archive was unpacked there."""
    (tmp_path / "strange.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("env: CartPole-v1", "env: strange:World"))
    assert main([str(run), "--episodes", "1"]) == 1
    assert "asks for the environment strange:World, which runs a Python module" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="executed"):
        main([str(run), "--episodes", "1", "--env", "strange:World"])
    assert main([str(run), "--episodes", "1", "--env", "CartPole-v1"]) == 0


def test_a_run_without_a_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(run / "checkpoints")
    assert main([str(run)]) == 1
    assert "has no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("imageio_ffmpeg", "pip install 'dreamer-jax[video]'"), ("pygame", "gymnasium[classic-control]")],
)
def test_missing_packages_are_named(
    module: str, remedy: str, trained: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to make an import fail
    assert main([str(trained), "--video", str(tmp_path / "out.mp4")]) == 1
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_frames_have_a_sensible_size():
    assert resize(np.zeros((64, 64, 3), np.uint8)).shape == (256, 256, 3)
    assert resize(np.zeros((210, 160, 3), np.uint8)).shape == (420, 320, 3)
    assert resize(np.zeros((240, 320, 3), np.uint8)).shape == (240, 320, 3)
    assert resize(np.zeros((1000, 2000, 3), np.uint8)).shape == (240, 480, 3)
