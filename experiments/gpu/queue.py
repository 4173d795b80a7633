"""`python -m experiments.gpu.queue --slice-minutes 10 --runs FOLDER --out FOLDER`: trainings in order of worth.

Nobody needs to watch: the first run that is not finished goes on where it stopped, and gets SIGTERM early enough to
save before the slice is over; one that fails makes way for the next and is tried again in the next slice. After every
run `OUT/episodes.csv` holds what all of them have scored, and `OUT/queue.json` how far they are; when nothing is left
to train, the update of every workload of the benchmark is timed (`OUT/results.json`). Small files, and few of them: a
lent machine gives back no more.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.gpu import measure
from experiments.gpu.measurements import WORKLOADS
from experiments.gpu.process import STATIC, gpu_facts
from experiments.sweep.results import COLUMNS, RESULTS, episode_rows, put_rows
from experiments.sweep.suites import load_suite
from experiments.sweep.trials import Trial, plan_trials

SAVED = 128 + signal.SIGTERM  # exit code of a run that was told to stop and has saved
CLOSING = 60.0  # seconds of a slice in which a run saves
LEAST = 45.0  # seconds below which no run is begun: it would do no more than compile
GLANCE = 0.5
EPISODES, STATUS = "episodes.csv", "queue.json"
MINIATURE = ("--preset", "debug", "--steps", "400_agent", "--log.video-every", "0")


class Job(NamedTuple):
    """One training: a task of a suite, trained as that suite's protocol says, with a size of the model."""

    suite: str
    task: str
    size: str

    def __str__(self) -> str:
        return f"{self.task}-{self.size}"


JOBS = (
    Job("atari100k", "atari100k_pong", "12m"),
    Job("atari100k", "atari100k_pong", "200m"),
    Job("atari100k", "atari100k_breakout", "12m"),
    Job("atari100k", "atari100k_breakout", "200m"),
    Job("atari100k", "atari100k_boxing", "12m"),
    Job("atari100k", "atari100k_ms_pacman", "12m"),
    Job("dmc_proprio", "dmc_walker_walk", "12m"),
    Job("dmc_proprio", "dmc_cheetah_run", "12m"),
    Job("dmc_vision", "dmc_vision_walker_walk", "12m"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains for one slice; exit code 1 if a run failed."""
    began = time.monotonic()
    arguments = parse(argv)
    if arguments.unpack:
        print("\n".join(str(path) for path in unpack(arguments.unpack, RESULTS)))
        return 0
    if not arguments.miniature and not gpu_facts(STATIC):
        print("error: no NVIDIA GPU is visible (nvidia-smi): rehearse on a CPU with --miniature", file=sys.stderr)
        return 1
    jobs = [job for job in JOBS if not arguments.only or str(job) in arguments.only]
    trials = {job: plan(job, arguments.runs, miniature=arguments.miniature) for job in jobs}
    arguments.out.mkdir(parents=True, exist_ok=True)
    deadline = began + 60 * arguments.slice_minutes
    failed = work(trials, arguments.out, deadline=deadline)
    print(overview(trials, failed), flush=True)
    if all(trial.is_finished or job in failed for job, trial in trials.items()):
        code = throughput(arguments.out, seconds=deadline - time.monotonic(), miniature=arguments.miniature)
        return 1 if failed else code
    return 1 if failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [str(job) for job in JOBS]
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.queue", description=__doc__)
    parser.add_argument("--slice-minutes", type=float, default=10.0, help="after which everything has ended and saved")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="where the runs live [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help=f"{EPISODES} and {STATUS} [%(default)s]")
    parser.add_argument("--only", nargs="+", choices=names, metavar="JOB", help=", ".join(names))
    parser.add_argument("--miniature", action="store_true", help="a rehearsal with tiny networks on a CPU")
    parser.add_argument("--unpack", type=Path, metavar=EPISODES, help="only write its rows into experiments/results")
    return parser.parse_args(argv)


def plan(job: Job, runs: Path, *, miniature: bool) -> Trial:
    """The training of a job, with the settings of its suite."""
    flags = MINIATURE if miniature else ("--size", job.size, "--log.video-every", "0")
    folder = runs / (f"miniature-{job.size}" if miniature else job.size)
    return plan_trials(load_suite(job.suite), out=folder, flags=flags, seeds=(0,), tasks=(job.task,))[0]


def work(trials: dict[Job, Trial], out: Path, *, deadline: float) -> dict[Job, str]:
    """Trains until all is finished or the slice is over; returns what failed, with its last words.

    Args:
        trials: in order of worth.
        out: gets the results after every run.
        deadline: on the monotonic clock.
    """
    failed: dict[Job, str] = {}
    for job, trial in trials.items():
        seconds = deadline - CLOSING - time.monotonic()
        if trial.is_finished or seconds < LEAST:
            continue
        print(f"{job} ...", flush=True)
        code = train(trial, seconds=seconds, deadline=deadline)
        if code == -signal.SIGKILL:
            failed[job] = "killed at the end of the slice, as it had not saved yet; goes on from its last checkpoint"
        elif code not in (0, SAVED):
            failed[job] = f"exit code {code}: {trial.last_words()}"
        write(trials, failed, out)
    write(trials, failed, out)
    return failed


def throughput(out: Path, *, seconds: float, miniature: bool) -> int:
    """Times the update of every workload that has no figure yet; the exit code of the measuring."""
    flags = ["--out", str(out), "--minutes", str(max(seconds, 0) / 60), "--only", *WORKLOADS]
    return measure.main([*flags, *(["--miniature"] if miniature else [])])


def train(trial: Trial, *, seconds: float, deadline: float) -> int:
    """Runs a training to its end, or for so many seconds and until it has saved; the deadline kills it."""
    trial.folder.parent.mkdir(parents=True, exist_ok=True)
    stop = time.monotonic() + seconds
    with trial.log.open("ab") as log:
        process = subprocess.Popen(
            trial.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if wait(process, until=stop) is None:
                process.terminate()
            code = wait(process, until=deadline)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode if code is None else code


def wait(process: subprocess.Popen, *, until: float) -> int | None:
    """The exit code, None where it is still running at that time."""
    while process.poll() is None and time.monotonic() < until:
        time.sleep(GLANCE)
    return process.poll()


def write(trials: dict[Job, Trial], failed: dict[Job, str], out: Path) -> None:
    """All episodes so far, and how far every run is; each file whole or not at all."""
    begun = {job: trial for job, trial in trials.items() if (trial.folder / "episodes.csv").exists()}
    partial = out / f"{EPISODES}.partial"
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["suite", "task", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        for job, trial in begun.items():
            writer.writerows({"suite": job.suite, "task": job.task, **row} for row in episode_rows(trial))
    os.replace(partial, out / EPISODES)
    status = {str(job): how_far(trial) | {"failed": failed.get(job)} for job, trial in trials.items()}
    partial = out / f"{STATUS}.partial"
    partial.write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, out / STATUS)


def how_far(trial: Trial) -> dict[str, Any]:
    """Of a run: steps, score and speed so far."""
    progress = trial.progress()
    return {
        "agent_steps": progress.agent_steps,
        "total_steps": trial.total_steps,
        "agent_steps_per_second": round(progress.rate, 2),
        "score_of_last_episodes": progress.score,
        "is_finished": trial.is_finished,
    }


def overview(trials: dict[Job, Trial], failed: dict[Job, str]) -> str:
    """A line for every job."""
    lines = []
    for job, trial in trials.items():
        far = how_far(trial)
        state = failed.get(job) or ("finished" if far["is_finished"] else "goes on" if far["agent_steps"] else "waits")
        score = "" if far["score_of_last_episodes"] is None else f"{far['score_of_last_episodes']:.1f}"
        lines.append(f"{job!s:<30}{far['agent_steps']:>9,} of {far['total_steps']:>9,} steps {score:>9}  {state}")
    return "\n".join(lines)


def unpack(episodes: Path, results: Path) -> list[Path]:
    """Writes tables as a sweep leaves them, `results/gpu_<size>/<suite>/<task>.csv`, from `OUT/episodes.csv`."""
    with episodes.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tables: dict[Path, list[dict[str, str]]] = {}
    for row in rows:
        path = results / f"gpu_{row['size']}" / row["suite"] / f"{row['task']}.csv"
        tables.setdefault(path, []).append({name: row[name] for name in COLUMNS})
    return [put_rows(path, table) for path, table in tables.items()]


if __name__ == "__main__":
    sys.exit(main())
