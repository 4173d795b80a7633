"""A picture of the player's page in Chromium, after some steps: `python -m experiments.play_picture RUN OUT.png`."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from dreamer.play.browser import Browser
from dreamer.play.compose import compose
from dreamer.play.server import Server

MOST_BYTES, COLOURS = 250_000, 256  # of the file; with more bytes it gets so many colours


def main() -> None:
    """Plays the run that the command line names, and takes the picture."""
    parser = argparse.ArgumentParser(prog="python -m experiments.play_picture", description="The player's page as PNG.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--env")
    parser.add_argument("--steps", type=int, default=40, help="that are dreamt before [%(default)s]")
    parser.add_argument(
        "--wheel", choices=["you", "agent"], default="agent", help="you: keys up and down [%(default)s]"
    )
    parser.add_argument("--eyes", choices=["dream", "reality"], default="reality", help="[%(default)s]")
    parser.add_argument("--light", action="store_true", help="the light page")
    parser.add_argument("--size", type=int, nargs=2, default=[1280, 880], help="width and height [%(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        order = Namespace(run=arguments.run, env=arguments.env, rate=None, out=Path(folder), seed=arguments.seed)
        player, close = executor.submit(lambda: compose(order, say=print)).result()
        server = Server(player, executor=executor, host="127.0.0.1", say=lambda text: None)
        asyncio.run(take(server, arguments))
        executor.submit(close).result()
    shrink(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB")


def shrink(path: Path) -> None:
    """Writes the picture as tightly as it can, with fewer colours if it is still larger than a repository likes."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    whole.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        whole.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


async def take(server: Server, arguments: argparse.Namespace) -> None:
    """Plays on a page, and takes the picture while time runs."""
    address = await server.start(0)
    width, height = arguments.size
    try:
        async with Browser(width=width, height=height, dark=not arguments.light) as browser:
            await browser.open(address)
            await browser.until("window.player && player.ready && player.frames > 0", seconds=60.0)
            await browser.read(f"drive('{arguments.wheel}', '{arguments.eyes}')")
            await browser.tap("KeyP")
            turn = 0
            while await browser.read("player.now.age") < arguments.steps:
                turn += 1
                if arguments.wheel == "you":
                    await browser.tap(("ArrowUp", "ArrowDown")[turn % 2], seconds=0.4)
                await asyncio.sleep(0.05)
            await browser.screenshot(arguments.out)
    finally:
        await server.stop()


if __name__ == "__main__":
    main()
