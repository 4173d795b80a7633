"""`python -m experiments.benchmark.dream`: steps of a world model as a simulation, with and without decoding.

For CartPole (a vector of 4) and Pong (64x64x3) with networks of `--size`, random numbers for parameters, and for as
many futures as `--futures` names: latent steps a second, counted from actions on the host to reward, continue
probability, features and prior entropy there, and the observation where it is decoded. Each figure is the median over
`--repeats` blocks of `--seconds`; `cpu_ms` is processor time of a step over all cores, which other work on the machine
disturbs less, and `load` the machine's load average.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import envs
from dreamer.agent import Agent, codecs
from dreamer.dream.model import ModelSimulation
from dreamer.dream.starts import PlayedStarts, random_actions
from dreamer.training.counters import START
from dreamer.training.state import Definition
from dreamer.validation import resolve
from envs.environment import Environment
from envs.space_json import Interface

TASKS = ("CartPole-v1", "atari100k_pong")


class Figure(NamedTuple):
    """One row of the table."""

    task: str
    size: str
    decode: bool
    futures: int
    steps_per_second: float
    step_ms: float
    cpu_ms: float
    load: float


def main() -> None:
    """Runs the command line."""
    arguments = parse()
    figures: list[Figure] = []
    print("task             decode  futures   latent steps/s   ms a step   cpu ms   load", flush=True)
    for task in arguments.tasks:
        agent, make = fresh_agent(task, size=arguments.size)
        for decode in (False, True):
            simulation = ModelSimulation(agent, decode=decode)
            for futures in arguments.futures:
                start = PlayedStarts(make, agent=None, context=1, spacing=1, with_forks=False).draw(futures, seed=0)
                figures.append(measure(task, simulation, start, decode=decode, arguments=arguments))
                print("{:16} {!s:6} {:8,} {:16,.0f} {:11.2f} {:8.2f} {:6.1f}".format(*row(figures[-1])), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([figure._asdict() for figure in figures], indent=1) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark.dream", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=TASKS, help=f"any of {', '.join(TASKS)}, or other environments")
    parser.add_argument("--size", default="1m", help="[%(default)s]")
    parser.add_argument("--futures", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=2.0, help="of a block [%(default)s]")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of a figure [%(default)s]")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    return parser.parse_args()


def fresh_agent(task: str, *, size: str) -> tuple[Agent, Any]:
    """An agent of a task that was never trained, and what makes the task from a seed."""
    config = resolve({"env": task, "size": size})

    def make(seed: int) -> Environment:
        return envs.make(task, num_envs=1, seed=seed, settings=config.environment)

    environment = make(0)
    interface = Interface.of(environment, settings=config.environment)
    environment.close()
    observation_codec, action_codec = codecs(interface)
    definition = Definition(config, observation_codec.spec, action_codec.spec)
    params = definition.init(0).params
    return Agent(definition, interface=interface, params=params, counters=START, path=Path(task), seed=0), make


def measure(
    task: str, simulation: ModelSimulation, start: Any, *, decode: bool, arguments: argparse.Namespace
) -> Figure:
    """Steps one simulation for as long as the command line says."""
    futures = len(start.is_first)
    action = random_actions(simulation.action_spec, num=futures, rng=np.random.default_rng(0))
    state, _ = simulation.begin(start, seed=0)
    state, _ = simulation.step(state, action)
    blocks: list[tuple[float, float]] = []
    for _ in range(arguments.repeats):
        began, began_cpu, steps = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < arguments.seconds:
            state, _ = simulation.step(state, action)
            steps += 1
        blocks.append(((time.perf_counter() - began) / steps, (time.process_time() - began_cpu) / steps))
    seconds, cpu_seconds = (statistics.median(column) for column in zip(*blocks, strict=True))
    load = os.getloadavg()[0]
    return Figure(task, arguments.size, decode, futures, futures / seconds, 1e3 * seconds, 1e3 * cpu_seconds, load)


def row(figure: Figure) -> tuple[Any, ...]:
    """What the table shows of it."""
    return figure.task, figure.decode, *figure[3:]


if __name__ == "__main__":
    main()
