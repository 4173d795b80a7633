"""The scores of a sweep, by its suite's protocol: a row for each task, its seeds side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from dreamer.scoring import EPISODES, read_episodes
from experiments.sweep.suites import Suite
from experiments.sweep.trials import Trial


def score_table(suite: Suite, trials: Sequence[Trial]) -> str:
    """Training-window scores of the finished trials, as Markdown."""
    lines = [f"| task | mean | seeds | {suite.protocol.window} |", "|---|---|---|---|"]
    for task in dict.fromkeys(trial.task for trial in trials):
        finished = [trial for trial in trials if trial.task == task and trial.is_finished]
        found = [suite.protocol.training_score(read_episodes(trial.folder / EPISODES)).score for trial in finished]
        scores = [score for score in found if score is not None]
        mean = f"{statistics.fmean(scores):,.1f}" if scores else "-"
        lines.append(f"| {task} | {mean} | {len(scores)} | {', '.join(f'{score:,.1f}' for score in scores)} |")
    return "\n".join(lines)
