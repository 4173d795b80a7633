"""`python -m dreamer.play runs/x`: play a trained world model in the browser, beside the real environment.

Both begin at the same moment and get the same actions, of a person or of the agent. Ctrl-C ends it with exit code 130;
a recording that is open then is saved. Nothing that a file of the run names is executed: an environment of the form
`module:Name` has to be named once more (`--env`).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dreamer.commands import choose_device, faults, parser_of, tell

if TYPE_CHECKING:
    from dreamer.play.player import Player
    from dreamer.training.signals import Stop

PROGRAM = "python -m dreamer.play"
PORT = 8765


def main(argv: list[str] | None = None) -> int:
    """Plays the run that the command line names; returns the exit code."""
    arguments = parse(argv)
    choose_device(arguments)
    if importlib.util.find_spec("aiohttp") is None:  # said before anything is compiled
        return tell("the player needs aiohttp: pip install 'dreamer-jax[play]'")
    from dreamer.training.signals import catch_stop_signals

    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="player")
    with catch_stop_signals() as stop:
        try:
            asyncio.run(serve(arguments, stop, executor))
        except faults() as error:
            return tell(str(error))
        return stop.exit_code


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with code 2 where it is wrong."""
    parser = parser_of(PROGRAM, "Play a world model beside the truth, in the browser.")
    parser.add_argument("--rate", type=float, help="steps per second, 1 to 60 [real time, at most 30]")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; beyond this machine a token is needed")
    parser.add_argument("--port", type=int, default=PORT, help="[%(default)s]; 0: any that is free")
    parser.add_argument("--out", type=Path, help="folder of recordings and snapshots [RUN/play]")
    parser.add_argument("--seed", type=int, default=1, help="of environment and agent [%(default)s]")
    arguments = parser.parse_args(argv)
    if arguments.rate is not None and not 1 <= arguments.rate <= 60:
        parser.error(f"--rate is {arguments.rate:g}; give 1 to 60 steps per second")
    if not 0 <= arguments.port <= 65535:
        parser.error(f"--port is {arguments.port}; give 0 to 65535")
    return arguments


async def serve(arguments: argparse.Namespace, stop: Stop, executor: ThreadPoolExecutor) -> None:
    """Compiles, opens the port, and waits for the end.

    Everything that computes or simulates lives in the thread of the executor, so that the page is answered meanwhile.
    """
    from dreamer.play.compose import compose
    from dreamer.play.server import Server

    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    stop.announce = partial(announce, loop, ending)
    say(f"loading {arguments.run} ...")
    composing = loop.run_in_executor(executor, lambda: compose(arguments, say=say))
    await first_of(composing, ending.wait())
    if ending.is_set() or stop.requested:
        end_now(stop)  # a compilation cannot be interrupted, and nothing is open yet
    player, close = composing.result()
    server = Server(player, executor=executor, host=arguments.host, say=say)
    try:
        address = await server.start(arguments.port)
        say(f"ready: {address}   (Ctrl-C ends)")
        await first_of(ending.wait(), server.failed.wait())
        say("closing ...")
        await server.stop()
        await finish(player, loop, executor)
    finally:
        loop.run_in_executor(executor, close)
    if server.failure is not None:
        raise server.failure


async def finish(player: Player, loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Saves what is open."""
    saved = await loop.run_in_executor(executor, player.close)
    if saved:
        say(saved)


def announce(loop: asyncio.AbstractEventLoop, ending: asyncio.Event) -> None:
    """Tells the loop of a signal, from the thread that heard it."""
    loop.call_soon_threadsafe(ending.set)


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Waits for the first to be done."""
    tasks = [asyncio.ensure_future(thing) for thing in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def end_now(stop: Stop) -> None:
    """Ends the process while its other thread compiles."""
    say("ended before it was ready")
    sys.stderr.flush()
    os._exit(stop.exit_code)


def say(text: str) -> None:
    """One line on the terminal."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
