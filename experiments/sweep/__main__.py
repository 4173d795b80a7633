"""`python -m experiments.sweep SUITE --seeds 0-4 --jobs 2 --size 12m`: trains a suite; the same command continues.

Flags that are not a sweep's own are those of `python -m dreamer.train`, for every trial. Exit codes: 0 all trials are
done, 1 some failed, 2 a wrong command line, 128 + number of the signal that stopped the sweep, its trials saved.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from dreamer.cli import BAD_USAGE
from dreamer.presets import all_kinds, did_you_mean
from dreamer.train import FAULT
from dreamer.training.run_lock import RunLock, RunLockedError
from dreamer.training.signals import Stop, catch_stop_signals
from experiments.output import say
from experiments.sweep.board import Board, summary
from experiments.sweep.processes import JobsError, LocalRunner, Runner, local_slots
from experiments.sweep.queue import Queue
from experiments.sweep.results import RESULTS, write_results
from experiments.sweep.suites import Suite, SuiteError, load_suite, parse_seeds, suite_names
from experiments.sweep.trials import OWNED, Trial, command_line, plan_trials, require_same

PROGRAM = "python -m experiments.sweep"
TICK = 0.2  # seconds between two looks at the trials


def main(arguments: list[str] | None = None) -> int:
    """Runs the sweep that the command line names; returns the exit code."""
    options, flags = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        suite = load_suite(options.suite)
        out = Path(options.out or f"runs/{suite.name}")
        seeds = parse_seeds(options.seeds) if options.seeds else suite.seeds
        trials = plan_trials(suite, out=out, flags=flags, seeds=seeds, tasks=options.tasks or ())
    except (SuiteError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE
    if options.list:
        say("\n".join(map(command_line, trials)))
        return 0
    from dreamer.remote.cluster import ClusterError

    try:
        require_same(trials)
        out.mkdir(parents=True, exist_ok=True)
        lock = RunLock(out / "sweep.lock", flag="--out")
    except (OSError, RunLockedError, SuiteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAULT
    try:
        return sweep(suite, trials, options)
    except (ClusterError, JobsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAULT
    finally:
        lock.release()


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own options, and the flags of a training; exits with code 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} SUITE [options] [flags of python -m dreamer.train]",
        description="Train every task of a suite with every seed; the same command goes on where it stopped.",
        epilog=f"Suites: {', '.join(suite_names())}. Any other flag is one of python -m dreamer.train (--help there).",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", help="such as 0-4 or 0,2,5 [the suite's]")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="some of the suite's [all]")
    parser.add_argument("--jobs", type=int, help="trials at once [one for each GPU, one on a CPU, all that Ray takes]")
    parser.add_argument("--out", help="folder of the runs [runs/SUITE]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables [experiments/results]")
    parser.add_argument("--retries", type=int, default=2, help="how often what died is started again [%(default)s]")
    parser.add_argument("--list", action="store_true", help="print the command of every trial, and train nothing")
    parser.add_argument("--ray", metavar="ADDRESS", help="train on a Ray cluster: local, auto or HOST:PORT")
    parser.add_argument("--gpus", type=float, help="GPUs of a trial on Ray [1 if the cluster has any]")
    parser.add_argument("--cpus", type=float, default=1, help="CPU cores of a trial on Ray [%(default)s]")
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(["--help"] if {"-h", "--help"} & set(arguments) else [])
        parser.error(f"the first word names a suite: {', '.join(suite_names())}, or a .yaml file")
    options, flags = parser.parse_known_args(arguments[1:])
    options.suite = arguments[0]
    own = [flag for action in parser._actions for flag in action.option_strings]
    for problem in flag_problems(flags, own=own):
        parser.error(problem)
    if (options.jobs is not None and options.jobs < 1) or options.retries < 0:
        parser.error("--jobs must be 1 or more, --retries 0 or more")
    return options, flags


def flag_problems(flags: list[str], *, own: list[str]) -> list[str]:
    """What is wrong with the flags that go to the training, as far as a sweep knows better than that."""
    known, problems = all_kinds(), []
    for flag in [re.split("=", word, maxsplit=1)[0] for word in flags if word.startswith("--")]:
        name = flag.removeprefix("--").replace("-", "_")
        if name in OWNED:
            problems.append(f"{flag} is decided by {OWNED[name]}: leave it out")
        elif name not in known and (near := did_you_mean(flag, [*own, *(f"--{key}" for key in known)])):
            problems.append(f"there is no {flag}; did you mean {near.replace('_', '-')}?")
    return problems


def sweep(suite: Suite, trials: list[Trial], options: argparse.Namespace) -> int:
    """Trains what is not finished yet, shows it, and prints the scores; returns the exit code."""
    folder = options.results / suite.name
    runner = make_runner(options, trials)
    try:
        with catch_stop_signals() as stop, Board(f"{suite.name}: {len(trials)} trials") as board:
            queue = Queue(
                trials,
                runner=runner,
                retries=options.retries,
                complete=lambda trial: write_results(trial, folder),
                tell=board.tell,
            )
            done = sum(entry.status == "done" for entry in queue.entries)
            if done:
                board.tell(f"{done} of {len(trials)} trials were finished before")
            run(queue, board, stop)
    finally:
        runner.close()
    show_scores(trials)
    print(summary(queue))
    for entry in queue.entries:
        if entry.status == "failed":
            print(f"failed: {entry.trial}: {entry.note} (all of it: {entry.trial.log})")
    print(f"results: {folder}")
    if stop.requested:
        print("stopped; the same command continues")
        return stop.exit_code
    return FAULT if any(entry.status == "failed" for entry in queue.entries) else 0


def show_scores(trials: list[Trial]) -> None:
    """The tables of `experiments.table` for what is finished, beside the published scores where there are any."""
    from experiments import table
    from experiments.scores.protocol import suite_of
    from experiments.scores.published import suites_of

    by_suite: dict[str, list[str]] = {}
    for trial in trials:
        if trial.is_finished:
            spec = f"{trial.variant}={trial.folder}" if trial.variant else str(trial.folder)
            by_suite.setdefault(suite_of(trial.task).name, []).append(spec)
    for name, folders in by_suite.items():
        against = ["--against", "dreamerv3"] if name in suites_of("dreamerv3") else []
        table.main([*folders, "--suite", name, *against])
        print()


def run(queue: Queue, board: Board, stop: Stop) -> None:
    """Until nothing is left. The first signal is passed on to the trials; a second Ctrl-C ends everything at once."""
    is_stopping = False
    while not queue.is_over:
        if stop.signal is not None and not is_stopping:
            is_stopping = True
            board.tell("stopping: every trial saves when its running update is done")
            queue.stop(stop.signal)
        queue.step()
        board.refresh(queue)
        time.sleep(TICK)
    board.refresh(queue, now=True)


def make_runner(options: argparse.Namespace, trials: list[Trial]) -> Runner:
    """Where the trials run.

    Raises:
        ClusterError: there is no such Ray cluster.
        JobsError: this machine does not take so many at once.
    """
    if not options.ray:
        return LocalRunner(local_slots(options.jobs, device=trials[0].config.device))
    from experiments.sweep.on_ray import RayRunner

    return RayRunner(
        options.ray, jobs=options.jobs, cpus=options.cpus, gpus=options.gpus,
        device=trials[0].config.device,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
