"""`python -m tests.faults.kill_loop --kills 50`: a run that is killed with SIGKILL again and again, and always goes on.

Each time the process is killed at a random moment: while it starts, compiles, acts, learns, saves or resumes (a
checkpoint is written every half second). After each kill the newest checkpoint is read back; its arrays must hash to
what the process held in memory when it saved them (`tests.faults.witness`), and it must be the last save that was not
interrupted, or a later one. At the end the run is left alone and must
finish by the same command, with logs whose steps only rise.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests.faults.witness import digest
from tests.integration.runs import newest

ARGUMENTS = ["--env", "CartPole-v1", "--preset", "debug", "--log.quiet", "--log.every-seconds", "0.2"]
ARGUMENTS += ["--checkpoint.every-seconds", "0.5"]
ENDLESS = "10000000"  # agent steps
STARTING_SECONDS, TRAINING_SECONDS = 8.0, 2.0  # until a kill, after the start and after the first save


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args(argv)
    print(json.dumps(kill_loop(arguments.folder, kills=arguments.kills, seed=arguments.seed), indent=1))


def kill_loop(folder: Path, *, kills: int, seed: int) -> dict[str, object]:
    """Kills, looks, and says what happened; raises AssertionError where a promise does not hold."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, run, book = random.Random(seed), folder / "run", folder / "book.txt"
    during: Counter[str] = Counter()
    seen = 0
    for number in range(kills):
        before = len(read(book))
        process = start(run, book, steps=ENDLESS)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0.3, STARTING_SECONDS))
        else:
            wait_for_saves(book, before, process, count=rng.randint(1, 3))
            time.sleep(rng.uniform(0.0, TRAINING_SECONDS))
        assert process.poll() is None, f"kill {number}: the run ended by itself with exit code {process.returncode}"
        during[moment(run, read(book)[before:])] += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen = look(run, book, at_least=seen)
        print(f"kill {number + 1}: newest checkpoint at step {seen:,}", flush=True)
    resumed = sum(kind == "restore" for kind, *_ in read(book))
    end = max(150, seen + 50)  # more than the prefill
    finished = start(run, book, steps=str(end))
    assert finished.wait(timeout=300) == 0
    assert look(run, book, at_least=seen) == end
    rows = [json.loads(line)["agent_steps"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    with (run / "episodes.csv").open(encoding="utf-8") as file:
        episodes = [int(row["agent_steps"]) for row in csv.DictReader(file)]
    assert rows == sorted(set(rows))
    assert episodes == sorted(set(episodes))
    return {"kills": kills, "while": dict(during), "resumed": resumed, "agent_steps": end, "seed": seed}


def start(run: Path, book: Path, *, steps: str) -> subprocess.Popen[bytes]:
    """The run, watched by the witness."""
    command = [sys.executable, "-m", "tests.faults.witness", str(book), *ARGUMENTS]
    return subprocess.Popen([*command, "--logdir", str(run), "--steps", steps])


def wait_for_saves(book: Path, before: int, process: subprocess.Popen[bytes], *, count: int) -> None:
    """Until the process has begun to save so often; it may need minutes on a machine that does other work."""
    deadline = time.monotonic() + 300
    while sum(kind == "save" for kind, *_ in read(book)[before:]) < count:
        assert process.poll() is None, f"the run ended by itself with exit code {process.returncode}"
        assert time.monotonic() < deadline, "nothing was saved within five minutes"
        time.sleep(0.05)


def moment(run: Path, lines: list[list[str]]) -> str:
    """What the process is doing now, as far as its files and its lines of the book tell."""
    if not any(kind == "save" for kind, *_ in lines):
        return "starting or resuming"
    return "saving" if list((run / "checkpoints").glob("partial-*")) else "training"


def read(book: Path) -> list[list[str]]:
    """The lines of the book: what, step, digest."""
    return [line.split() for line in book.read_text(encoding="utf-8").splitlines()] if book.exists() else []


def look(run: Path, book: Path, *, at_least: int) -> int:
    """Reads the newest checkpoint back and compares it with the book; returns its step, 0 where there is none yet."""
    lines = read(book)
    saves = {(int(step), value) for kind, step, value in lines if kind == "save"}
    restores = {(int(step), value) for kind, step, value in lines if kind == "restore"}
    assert restores <= saves, "restored what nobody had saved"
    done = [int(line[1]) for line, after in pairwise(lines) if line[0] == after[0] == "save"]  # it was not interrupted
    if not list((run / "checkpoints").glob("0*")):
        assert not done, f"the checkpoint of step {done[-1]} is gone"
        return at_least
    restored = newest(run)
    step = restored.meta["counters"]["agent_steps"]
    assert (step, digest(*restored)) in saves, f"the arrays of checkpoint {step} are not those that were saved"
    assert step >= max([at_least, *done[-1:]]), f"checkpoint {step} is older than one that was there"
    return step


if __name__ == "__main__":
    main()
