"""Result files and run folders with invented scores."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from experiments.scores.own import COLUMNS

Episodes = Iterable[tuple[int, float]]  # env frames at the end, score


def write_results(path: Path, seeds: dict[int, Episodes], **facts: str) -> Path:
    """A result file; `facts` are columns that are the same in every row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for seed, episodes in seeds.items():
            for frames, score in episodes:
                counters = {"agent_steps": frames // 4, "env_frames": frames, "updates": frames // 32}
                writer.writerow({"seed": seed, "score": score, "length": 100} | counters | facts)
    return path


def write_run(folder: Path, env: str, seed: int, episodes: Episodes) -> Path:
    """A run folder, as far as tables read it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"env: {env}\nseed: {seed}\nsize: 12m\n")
    rows = [f"{env},{seed},{frames // 4},{frames},{frames // 32},{score},100\n" for frames, score in episodes]
    if rows:
        header = "env,seed,agent_steps,env_frames,updates,score,length\n"
        (folder / "episodes.csv").write_text(header + "".join(rows))
    return folder
