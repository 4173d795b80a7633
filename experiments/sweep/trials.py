"""One training of a sweep: its command, its folder, and how far it is, all read from what the run itself writes."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dreamer.changes import ADJUSTABLE
from dreamer.cli import read_arguments
from dreamer.config import Config
from dreamer.presets import ConfigError, diff, from_yaml, merge_layers, suite_of
from dreamer.validation import find_problems, steps_to_agent_steps
from experiments.sweep.suites import Suite, SuiteError

ACTION_REPEATS = {"atari": 4, "atari100k": 4, "dmc": 2, "dmc_vision": 2}  # of the suites' own protocols; 1 elsewhere
OWNED = {"env": "the suite's tasks", "seed": "--seeds", "logdir": "--out"}  # what a sweep decides itself
TAIL_BYTES = 65_536  # of a log, for the last few minutes
RECENT_EPISODES = 10


class Progress(NamedTuple):
    """How far a run is, from the ends of its logs.

    Attributes:
        agent_steps: done; 0 before the first row.
        rate: agent steps a second, lately; 0 where it is not known.
        score: mean of the last training episodes; None before the first.
    """

    agent_steps: int
    rate: float
    score: float | None


@dataclass(frozen=True)
class Trial:
    """One task with one seed.

    Attributes:
        task: environment.
        seed: of the training.
        config: resolved.
        flags: of `python -m dreamer.train`, the folder included.
        folder: of the run; its log lies beside it.
        variant: of the suite; empty where it has none.
    """

    task: str
    seed: int
    config: Config
    flags: tuple[str, ...]
    folder: Path
    variant: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.task, self.variant, f"seed {self.seed}"]))

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def command(self) -> list[str]:
        """What trains it, and resumes it."""
        return [sys.executable, "-m", "dreamer.train", *self.flags]

    @property
    def log(self) -> Path:
        """Everything that its processes printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def total_steps(self) -> int:
        """Agent steps at which it ends."""
        repeat = self.config.environment.action_repeat or ACTION_REPEATS.get(suite_of(self.task), 1)
        return steps_to_agent_steps(self.config.steps, repeat)

    @property
    def is_finished(self) -> bool:
        """Whether its last checkpoint is there and whole."""
        saved = [path for path in (self.folder / "checkpoints").glob("[0-9]*") if (path / "manifest.json").exists()]
        return any(int(re.match(r"\d+", path.name)[0]) >= self.total_steps for path in saved)  # pyright: ignore

    def progress(self) -> Progress:
        """How far it is."""
        try:
            rows = [json.loads(line) for line in tail(self.folder / "metrics.jsonl")]
        except ValueError:  # it is being rewritten: the next look finds it whole
            rows = []
        episodes = list(csv.reader(tail(self.folder / "episodes.csv")))[-RECENT_EPISODES:]
        scores = [float(row[5]) for row in episodes if len(row) == 7 and row[5] != "score"]
        score = sum(scores) / len(scores) if scores else None
        if not rows:
            return Progress(0, 0.0, score)
        first, last = rows[0], rows[-1]
        seconds = last["seconds"] - first["seconds"]
        rate = (last["agent_steps"] - first["agent_steps"]) / seconds if seconds > 0 else 0.0
        return Progress(last["agent_steps"], rate, score)

    def last_words(self) -> str:
        """The last line that it printed."""
        lines = [line.strip() for line in tail(self.log) if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def tail(path: Path) -> list[str]:
    """The last whole lines of a file that grows; none where it is not there."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL_BYTES))
            content = file.read()
    except FileNotFoundError:
        return []
    lines = content.decode(errors="replace").split("\n")
    return lines[1 if size > TAIL_BYTES else 0 : -1]


def plan_trials(
    suite: Suite, *, out: Path, flags: Sequence[str], seeds: Sequence[int], tasks: Sequence[str] = ()
) -> list[Trial]:
    """Every trial of a suite, checked with the parser of the training itself, all tasks of a seed before the next seed.

    Args:
        suite: what is trained.
        out: folder of the sweep.
        flags: of `python -m dreamer.train`, for every trial; they win over the suite.
        seeds: of every task.
        tasks: some of the suite's; empty: all.

    Raises:
        SuiteError: a task is not the suite's, or settings are wrong; the message names suite, task and setting.
    """
    if unknown := [task for task in tasks if task not in suite.tasks]:
        raise SuiteError(f"suite {suite.name} has no task {', '.join(unknown)} (it has {', '.join(suite.tasks)})")
    chosen = [task for task in suite.tasks if not tasks or task in tasks]
    variants = suite.variants or {"": {}}
    return [
        _plan(replace(suite, overrides={**suite.overrides, **changes}), task, seed, variant, out=out, flags=flags)
        for seed in seeds
        for task in chosen
        for variant, changes in variants.items()
    ]


def require_same(trials: Sequence[Trial]) -> None:
    """Refuses to go on with a run, or to count one, that was trained with other settings than those asked for.

    Raises:
        SuiteError: one was; the message names its folder and the settings.
    """
    for trial in trials:
        path = trial.folder / "config.yaml"
        if not (path.exists() and any((trial.folder / "checkpoints").glob("[0-9]*"))):
            continue
        changes = diff(from_yaml(path, problems=[]), trial.config)
        fixed = {name: change for name, change in changes.items() if not name.startswith(ADJUSTABLE)}
        if fixed and not trial.config.allow_config_change:
            told = ", ".join(f"{name} {old}, now {new}" for name, (old, new) in fixed.items())
            raise SuiteError(f"{trial.folder} was trained with other settings ({told}): choose another --out")


def command_line(trial: Trial) -> str:
    """The command of a trial, to be pasted into a shell or given to a scheduler."""
    return shlex.join(["python", *trial.command[1:]])


def _plan(suite: Suite, task: str, seed: int, variant: str, *, out: Path, flags: Sequence[str]) -> Trial:
    folder = out / variant / re.sub(r"[^\w.-]+", "_", task) / f"seed{seed}"
    words = ["--env", task, "--seed", str(seed), "--logdir", str(folder), "--steps", suite.steps]
    words += ["--preset", suite.preset] if suite.preset else []
    for name, value in suite.overrides.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    words += flags
    try:
        config = _resolve(words, source=", ".join(filter(None, [f"suite {suite.name}", variant, f"task {task}"])))
    except ConfigError as error:
        raise SuiteError("\n".join(error.problems)) from error
    return Trial(task, seed, config, tuple(words), folder, variant)


def _resolve(words: list[str], *, source: str) -> Config:
    problems: list[str] = []
    overrides: dict[str, Any] = read_arguments(words, problems=problems)
    config = merge_layers(overrides, problems=problems)
    problems += find_problems(config)
    if problems:
        raise ConfigError([f"{source}: {problem}" for problem in problems])
    return config
