"""Runs of the public program danijar/dreamerv3: a folder that it logged to is a RUN like one of ours.

Of its files (written by commit e3f0224) `config.yaml` says task, seed and size, `scores.jsonl` has a row for every
training episode, and `metrics.jsonl` what `experiments.training_logs` draws. Its `step` counts env frames.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dreamer.presets import config_root
from experiments import logged
from experiments.scores.protocol import strip_prefix, suite_of
from experiments.scores.run import Facts, Run, ScoresError

SCORES = "scores.jsonl"
_SCORE = "episode/score"
_LOSS = "train/loss/"
_HEADS = {"con", "dyn", "rep", "rew", "policy", "value", "repval"}  # losses of anything else are reconstructions
_NAMES = {
    "train/val": "value",
    "train/ret": "scaled_return",
    "train/rew": "imagined_reward",
    "train/ent/action": "policy_entropy",
    "train/dyn_ent": "prior_entropy",
    f"{_LOSS}dyn": "loss/dynamics",
    f"{_LOSS}rew": "loss/reward",
    f"{_LOSS}repval": "loss/replay_value",
}


def wrote(config: Mapping[str, Any]) -> bool:
    """Whether this `config.yaml` is of that program; ours have no `task`."""
    return "task" in config


def read(folder: Path, config: Mapping[str, Any], *, method: str) -> Run:
    """The training episodes of one of its runs. What a run did again after a restart counts as the second time.

    Raises:
        ScoresError: a file is not what that program writes, or no suite has its observations.
    """
    env, seed = _environment(folder, config), config.get("seed")
    if not isinstance(seed, int):
        raise ScoresError(f"{folder} is no run of dreamerv3: its config.yaml names no seed")
    episodes: list[tuple[float, float]] = []
    for row in logged.rows(folder / SCORES):
        if _SCORE in row:
            while episodes and episodes[-1][0] >= row["step"]:
                episodes.pop()
            episodes.append((row["step"], row[_SCORE]))
    frames, scores = np.array(episodes, float).reshape(-1, 2).T
    facts = Facts(str(folder), env, _size(config))
    return Run(method, suite_of(env).name, strip_prefix(env), seed, frames, scores, facts=facts)


def in_our_names(row: Mapping[str, float]) -> dict[str, float]:
    """A row of its `metrics.jsonl` as our runs log it; a row of our own as it is."""
    if "step" not in row:
        return dict(row)
    known = {ours: row[theirs] for theirs, ours in _NAMES.items() if theirs in row}
    losses = {name.removeprefix(_LOSS): value for name, value in row.items() if name.startswith(_LOSS)}
    parts = {f"loss/reconstruction/{name}": value for name, value in losses.items() if name not in _HEADS}
    return {"env_frames": row["step"], **known, **parts}


def _environment(folder: Path, config: Mapping[str, Any]) -> str:
    """Our id of its task: it prefixes gymnasium's, shortens `ball_in_cup`, and names what it sees in its settings."""
    task = str(config["task"])
    if not task.startswith("dmc_"):
        return task.removeprefix("gym_")
    settings = config.get("env", {}).get("dmc", {})
    vectors, pictures = settings.get("proprio", True), settings.get("image", True)
    if vectors and pictures:
        raise ScoresError(
            f"{folder} saw vectors and pictures of {task}: no suite has both, so nothing compares with it"
        )
    name = re.sub("^cup_", "ball_in_cup_", task.removeprefix("dmc_"))
    return f"dmc_{name}" if vectors else f"dmc_vision_{name}"


def _size(config: Mapping[str, Any]) -> str:
    """The size of ours with as many recurrent units; empty if there is none."""
    rssm = config.get("agent", {}).get("dyn", {}).get("rssm", {})
    return _sizes().get(rssm.get("deter"), "")


@functools.cache
def _sizes() -> dict[int, str]:
    files = (config_root() / "sizes").glob("*.yaml")
    return {yaml.safe_load(file.read_text())["world"]["rssm"]["deter"]: file.stem for file in files}
