"""The player's latency as a person has it, without a person: from a key in Chromium to the frame that answers it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dreamer.agent import Agent
from dreamer.play.browser import Browser, find_program
from dreamer.play.compose import make_player
from dreamer.play.player import Player
from dreamer.play.server import Server
from envs.environment import Environment

MOST_CODES = 3  # different keys that are pressed
REST = 1.0  # seconds for the last frames to be drawn
PLAYING = "window.player && player.ready && player.frames > 0"


class Answers(NamedTuple):
    """What a browser noted.

    Attributes:
        key_delays: milliseconds from a key's own time stamp until the frame that answers it was drawn.
        step_percentiles: p50, p95 and p99 of the milliseconds from an action until its frame was on the screen.
        frame_rate: frames drawn in a second, at the end.
    """

    key_delays: list[float]
    step_percentiles: list[float]
    frame_rate: float


def in_browser(
    agent: Agent,
    make: Callable[[int], Environment],
    *,
    presses: int,
    hold: tuple[float, float],
    limit: float,
    seed: int,
) -> Answers:
    """Plays an agent's world model in a browser of its own, on the real server.

    Args:
        agent: whose model.
        make: makes the environment from a seed.
        presses: keys pressed, and let go: two answers each.
        hold: least and greatest seconds for which a key is down, and up.
        limit: seconds after which it is given up, compilation aside.
        seed: of environments and of the keys' times.

    Raises:
        BrowserError: there is no Chromium, or it does not do as told.
        SimulationError: the environment can be neither saved nor copied, which the player does all the time.
        TimeoutError: the limit has passed.
    """
    find_program()  # before anything is compiled
    with ThreadPoolExecutor(1, thread_name_prefix="player") as executor:
        player, close = executor.submit(
            lambda: make_player(agent, make, rate=None, folder=Path("play"), seed=seed, say=_say_nothing)
        ).result()
        try:
            pressing = press_keys(player, executor, presses=presses, hold=hold, seed=seed)
            return asyncio.run(asyncio.wait_for(pressing, limit))
        finally:
            executor.submit(close).result()


async def press_keys(
    player: Player, executor: ThreadPoolExecutor, *, presses: int, hold: tuple[float, float], seed: int
) -> Answers:
    """Presses keys that mean actions at random times of a running game; see `in_browser`."""
    server = Server(player, executor=executor, host="127.0.0.1", say=_say_nothing)
    player.pause_at_end = 0.0  # nobody waits for an answer there
    chance, codes = random.Random(seed), sorted(player.session.keymap.keys)[:MOST_CODES]
    try:
        address = await server.start(0)
        async with Browser() as browser:
            await browser.open(address)
            await browser.until(PLAYING)
            await browser.tap("KeyP")
            for number in range(2 * presses):
                await asyncio.sleep(chance.uniform(*hold))
                await browser.key(codes[number // 2 % len(codes)], down=number % 2 == 0)
            await asyncio.sleep(REST)
            wanted = "[player.keyDelays, player.now.latency, player.now.frame_rate]"
            return Answers(*await browser.read(wanted))
    finally:
        await server.stop()


def _say_nothing(text: str) -> None:
    """The server's word to a terminal where nobody plays."""
