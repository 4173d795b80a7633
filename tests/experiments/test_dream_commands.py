"""The commands that dream: what they say without their library, and one of them in miniature."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from experiments import dream_ppo
from experiments.benchmark import dream

AGENT = Path(__file__).parents[1] / "dream" / "data" / "cartpole_agent"


def test_without_its_simulated_absent_library_ppo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setattr(sys, "argv", ["dream_ppo", str(AGENT)])
    assert dream_ppo.main() == 1
    assert capsys.readouterr().err == "error: stable_baselines3 is missing: pip install 'dreamer-jax[sb3]'\n"


def test_a_missing_run_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["dream_ppo", str(tmp_path)])
    assert dream_ppo.main() == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds neither a run nor a saved agent")


@pytest.mark.slow
def test_throughput_in_miniature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    results = tmp_path / "figures.json"
    options = ["--futures", "2", "4", "--seconds", "0.05", "--repeats", "2", "--json", str(results)]
    monkeypatch.setattr(sys, "argv", ["dream", "CartPole-v1", *options])
    dream.main()
    figures = json.loads(results.read_text())
    assert [(figure["decode"], figure["futures"]) for figure in figures] == [
        (d, n) for d in (False, True) for n in (2, 4)
    ]
    assert all(figure["steps_per_second"] > 0 for figure in figures)
