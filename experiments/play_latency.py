"""How long the player takes from an action to its pixels: in process, end to end in a browser, and after many steps.

`python -m experiments.play_latency --size 12m --browser --out FILE`: an untrained agent (its speed is that of a trained
one), judged on real time. In process: from the action to the message with the pixels. End to end: from the key's own
time stamp in Chromium until the frame after it was drawn. The late latency is that after `--steps` steps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from dreamer.agent import Agent, codecs
from dreamer.play.compose import compose
from dreamer.play.measure import press_keys
from dreamer.play.player import Player
from dreamer.play.protocol import Command
from dreamer.training.counters import START
from dreamer.training.state import Definition
from dreamer.validation import resolve
from envs.space_json import Interface

BLOCK = 1000  # steps of which percentiles are taken
SETTLING = 10  # steps before the first of them
KEYS, HOLD = 300, (0.15, 0.4)  # downs and ups in the browser, and seconds between them
LEVELS = {"live streaming": 1000, "games": 100, "virtual reality": 20}  # milliseconds


def main() -> None:
    """Measures what the command line asks for, prints it and writes it."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        path = untrained(arguments.env, arguments.size).save(Path(folder) / "agent")
        order = Namespace(run=path, env=None, rate=arguments.rate, out=Path(folder) / "out", seed=1)
        with ThreadPoolExecutor(1) as executor:
            player, close = executor.submit(lambda: compose(order, say=print)).result()
            fresh, close_fresh = executor.submit(lambda: compose(order, say=print)).result()
            report = describe(arguments, player)
            if arguments.browser:
                report["end_to_end"] = asyncio.run(end_to_end(player, executor))
            report |= executor.submit(in_process, player, fresh, arguments.steps).result()
            executor.submit(close).result()
            executor.submit(close_fresh).result()
    report["load_average_at_the_end"] = os.getloadavg()[0]
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.play_latency", description="The player's latency.")
    parser.add_argument("--env", default="atari100k_pong")
    parser.add_argument("--size", default="1m")
    parser.add_argument("--rate", type=float, help="steps per second [real time]")
    parser.add_argument("--steps", type=int, default=10_000, help="after which it is measured again [%(default)s]")
    parser.add_argument("--browser", action="store_true", help="measure end to end in Chromium as well")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def untrained(env: str, size: str) -> Agent:
    """An agent with the networks of a size."""
    config = resolve({"env": env, "size": size})
    environment = envs.make(env, num_envs=1, seed=0, settings=config.environment)
    interface = Interface.of(environment, settings=config.environment)
    environment.close()
    observation_codec, action_codec = codecs(interface)
    definition = Definition(config, observation_codec.spec, action_codec.spec)
    params = definition.init(0).params
    return Agent(definition, interface=interface, params=params, counters=START, path=Path("untrained"), seed=0)


def describe(arguments: argparse.Namespace, player: Player) -> dict[str, Any]:
    """What was measured, and where."""
    return {
        "command": " ".join(["python -m experiments.play_latency", *sys.argv[1:]]),
        "env": arguments.env,
        "size": arguments.size,
        "observation": {key: list(part) for key, part in player.session.divergence.spec.items()},
        "device": str(jax.devices()[0].platform),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "load_average_at_the_start": os.getloadavg()[0],
        "levels_ms": LEVELS,
    }


def in_process(player: Player, fresh: Player, steps: int) -> dict[str, Any]:
    """Milliseconds from the action to its message: of a player that has made so many steps, and of one that begins.

    They take turns, since the machine, too, is slower at one time than at another. New episodes are left out: nobody
    waits for a key then. The processor's own time, over all cores, says what a step costs where other programs keep it
    waiting. The agent acts and sees the dream.
    """
    for one in (player, fresh):
        one.do(Command("drive", {"wheel": "agent", "eyes": "dream"}))
    for _ in range(steps):
        player.step()
    for _ in range(SETTLING):
        fresh.step()
    late, early = np.array([(timed_step(player), timed_step(fresh)) for _ in range(BLOCK)]).transpose(1, 2, 0)
    return {
        "in_process": percentiles(early[0]),
        "in_process_late": percentiles(late[0]) | {"after_steps": steps},
        "in_process_cpu_time": percentiles(early[1]),
        "in_process_cpu_time_late": percentiles(late[1]),
        "late_over_early_p50": float(np.median(late[0]) / np.median(early[0])),
        "late_over_early_p50_cpu_time": float(np.median(late[1]) / np.median(early[1])),
    }


def timed_step(player: Player) -> tuple[float, float]:
    """Milliseconds of the next step that begins no episode: of the clock, and of the processor."""
    while True:
        began = time.perf_counter(), time.process_time()
        player.step()
        if player.session.now.number:
            return (time.perf_counter() - began[0]) * 1e3, (time.process_time() - began[1]) * 1e3


async def end_to_end(player: Player, executor: ThreadPoolExecutor) -> dict[str, Any]:
    """Milliseconds from a key in Chromium to the frame that answers it, at random times of a running game."""
    found = await press_keys(player, executor, presses=KEYS // 2, hold=HOLD, seed=0)
    steps = dict(zip(("p50", "p95", "p99"), found.step_percentiles, strict=True))
    return {
        "key_to_pixels": percentiles(found.key_delays),
        "step_to_pixels": steps,
        "frames_per_second": found.frame_rate,
    }


def percentiles(delays: list[float] | np.ndarray) -> dict[str, float]:
    """p50, p95 and p99, and of how many."""
    found = zip(("p50", "p95", "p99"), np.percentile(delays, (50, 95, 99)).tolist(), strict=True)
    return {name: round(value, 2) for name, value in found} | {"count": len(delays)}


if __name__ == "__main__":
    main()
