"""`python -m tests.faults.soak --minutes 60`: training for an hour while its environment fails again and again.

Trains CartPole as `experiments/results/classic` did, in a worker process that crashes, is killed, hangs and returns
NaN by the chances of issue and catalogue (crash and NaN 1e-4 a step, hang 2e-5, step timeout 5 s). Every ten seconds
the memory and the open files of the trainer are noted; at the end the summary says whether they grew, how many faults
there were, and how the scores compare with those of the seeds without faults at the same number of steps.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.faults import flaky

SAMPLE_SECONDS = 10.0
LAST = 20  # episodes
RESULTS = Path("experiments/results")
WITHOUT_FAULTS = RESULTS / "classic" / "CartPole-v1.csv"
FIELDS = ("seconds", "agent_steps", "updates", "resident_mb", "open_files", "threads", "processes")
CHANCES = {flaky.CRASH: 5e-5, flaky.KILL: 5e-5, flaky.HANG: 2e-5, flaky.NAN: 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--run", type=Path, default=Path("runs/soak"))
    parser.add_argument("--out", type=Path, help="[experiments/results/soak, soak_times_N with --times N]")
    parser.add_argument("--times", type=float, default=1.0, help="multiplies every chance of a fault")
    parser.add_argument("overrides", nargs="*", help="further arguments of dreamer.train, after --")
    arguments = parser.parse_args()
    out = arguments.out or RESULTS / ("soak" if arguments.times == 1 else f"soak_times_{arguments.times:g}")
    out.mkdir(parents=True, exist_ok=True)
    faults = out / "faults.csv"
    faults.write_text("time,fault\n", encoding="utf-8")
    process = start(arguments.run, faults, arguments.times, arguments.overrides)
    try:
        samples = watch(process, arguments.run, out / "samples.csv", seconds=60 * arguments.minutes)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    summary = {"times": arguments.times} | summarize(samples, arguments.run, faults) | {"exit_code": code}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


def start(run: Path, faults: Path, times: float, overrides: list[str]) -> subprocess.Popen[bytes]:
    """The trainer, in a process of its own."""
    command = [sys.executable, "-m", "dreamer.train", "--env", "tests.faults.flaky:FlakyCartPole"]
    command += ["--preset", "configs/suites/classic.yaml", "--steps", "10000000", "--logdir", str(run)]
    command += ["--environment.workers", "spawn", "--environment.step-timeout", "5"]
    command += ["--environment.max-restarts", "1000", "--environment.nonfinite", "drop_episode", *overrides]
    variables = {name: str(chance * times) for name, chance in CHANCES.items()} | {flaky.LOG: str(faults.resolve())}
    return subprocess.Popen(command, env=os.environ | variables)


def watch(process: subprocess.Popen[bytes], run: Path, path: Path, *, seconds: float) -> list[dict[str, float]]:
    """Samples until the time is over or the process has ended; the file grows as it goes."""
    began, samples = time.monotonic(), []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        while time.monotonic() - began < seconds and process.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            try:
                samples.append({"seconds": round(time.monotonic() - began)} | counters(run) | usage(process.pid))
            except (FileNotFoundError, ProcessLookupError):  # it ends just now
                break
            writer.writerow(samples[-1])
            file.flush()
    return samples


def counters(run: Path) -> dict[str, float]:
    """Agent steps and updates of the newest row of the log."""
    try:
        row = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    except (FileNotFoundError, IndexError):
        return {"agent_steps": 0, "updates": 0}
    return {"agent_steps": row["agent_steps"], "updates": row["updates"]}


def usage(pid: int) -> dict[str, float]:
    """Memory, open files and threads of a process, and the number of its children."""
    root = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
    children = (root / "task" / str(pid) / "children").read_text().split()
    return {
        "resident_mb": int(status["VmRSS"].split()[0]) / 1024,
        "open_files": len(list((root / "fd").iterdir())),
        "threads": int(status["Threads"]),
        "processes": len(children),
    }


def summarize(samples: list[dict[str, float]], run: Path, faults: Path) -> dict[str, object]:
    """What the hour was like; growth is measured from the end of the first quarter to that of the run."""
    later = samples[len(samples) // 4 :]
    steps = np.array([sample["agent_steps"] for sample in later])
    memory = np.array([sample["resident_mb"] for sample in later])
    files = [int(sample["open_files"]) for sample in later]
    end = int(steps[-1])
    return {
        "minutes": samples[-1]["seconds"] / 60,
        "agent_steps": end,
        "updates": samples[-1]["updates"],
        "faults": dict(Counter(row["fault"] for row in csv.DictReader(faults.open(encoding="utf-8")))),
        "resident_mb_first_quarter_and_end": [memory[0], memory[-1]],
        "resident_mb_per_1000_steps": float(np.polyfit(steps / 1000, memory, 1)[0]),
        "open_files_first_quarter_and_end": [files[0], files[-1]],
        "open_files_at_most": max(files),
        "score": last_scores(run / "episodes.csv", until=end)[0],
        "scores_of_seeds_without_faults": last_scores(WITHOUT_FAULTS, until=end),
    }


def last_scores(path: Path, *, until: int) -> list[float]:
    """For each seed the mean score of the last 20 episodes that ended by a number of agent steps."""
    scores: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["agent_steps"]) <= until:
                scores.setdefault(row["seed"], []).append(float(row["score"]))
    return [float(np.mean(of_seed[-LAST:])) for of_seed in scores.values()]


if __name__ == "__main__":
    main()
