"""The page in a real Chromium, from its first frame to the end. `apt-get install chromium` brings the browser.

The gate's machine may have none, hence slow; `test_server.py` says the same to the same server over a real WebSocket.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dreamer.agent import load
from dreamer.evaluation import make_environment
from dreamer.play.browser import Browser
from dreamer.play.compose import compose
from dreamer.play.measure import in_browser
from dreamer.play.player import Player
from dreamer.play.recording import read_recording
from dreamer.play.server import Server
from envs.environment import Environment
from tests.dream.agents import untrained

READY = "window.player && player.ready && player.now && player.frames > 0"
PIXELS = """[0, 1].map(i => {
  const canvas = document.getElementById("view" + i);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return [...data].reduce((a, b) => (31 * a + b) | 0, 7);
})"""  # a number for the picture of each panel
SECONDS = 240.0


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained("CartPole-v1").save(tmp_path_factory.mktemp("agents") / "cartpole")


@pytest.mark.slow
def test_a_person_plays_in_chromium(run, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        order = Namespace(run=run, env=None, rate=30.0, out=tmp_path / "out", seed=1)
        player, close = executor.submit(lambda: compose(order, say=print)).result()
        try:
            asyncio.run(asyncio.wait_for(play(player, executor), SECONDS))
        finally:
            executor.submit(close).result()
    (recording,) = (tmp_path / "out").glob("recording-*")
    replay = read_recording(recording / "dream", load(run).definition)
    assert replay.num_steps > 10
    replay.close()
    assert list((tmp_path / "out").glob("snapshot-*.gif"))


@pytest.mark.slow
def test_keys_are_timed_in_chromium_and_nothing_is_left(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    agent = load(run)

    def make(seed: int) -> Environment:
        return make_environment(agent, None, seed=seed)

    found = in_browser(agent, make, presses=10, hold=(0.08, 0.16), limit=60, seed=0)
    assert len(found.key_delays) == 20
    assert 0 < np.median(found.key_delays) < 1000
    with pytest.raises(TimeoutError):
        in_browser(agent, make, presses=1000, hold=(0.08, 0.16), limit=3, seed=0)
    assert list(tmp_path.iterdir()) == []  # profiles of both browsers; those die with them
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed


async def play(player: Player, executor: ThreadPoolExecutor) -> None:
    server = Server(player, executor=executor, host="127.0.0.1", say=print)
    address = await server.start(0)
    async with Browser() as browser:
        await browser.open(address)
        await browser.until(READY)
        await keys_change_the_pictures(browser)
        await worlds_can_be_chosen(browser)
        await time_runs_and_is_recorded(browser)
        await a_second_page_is_told(address)
        await server.stop()
        await browser.until("document.getElementById('status').textContent.startsWith('not connected')")
        again = Server(player, executor=executor, host="127.0.0.1", say=print)
        await again.start(int(address.rstrip("/").rpartition(":")[2]))
        await browser.until("document.getElementById('status').textContent === 'paused'")  # it came back by itself
        failures = [text for text in await browser.read("failures") if "WebSocket" not in text]
        assert failures == []
        await again.stop()


async def keys_change_the_pictures(browser: Browser) -> None:
    """Steps to the right and to the left, from the same moment, part in both worlds.

    What an untrained dream predicts differs by less than a pixel: there the numbers beside the picture tell.
    """
    pictures, numbers = [], []
    for code in ("ArrowRight", "ArrowLeft"):
        start = await browser.read("player.now.step")
        for _ in range(3):  # a cart moves by the second step
            await browser.key(code, down=True)
            step = await browser.read("player.now.step")
            await browser.tap("Period")
            await browser.until(f"player.now.step === {step + 1}")
            await browser.key(code, down=False)
        pictures.append(await browser.read(PIXELS))
        numbers.append(await browser.read("player.now.panels[0].numbers"))
        await browser.tap("KeyZ")
        await browser.until(f"player.now.step === {start}")
    (_, real_right), (_, real_left) = pictures
    assert real_right != real_left
    assert numbers[0] != numbers[1]


async def worlds_can_be_chosen(browser: Browser) -> None:
    """Reality beside itself is the same picture."""
    choose = "(left => {{ left.value = '{0}'; left.onchange({{target: left}}); }})(document.getElementById('left'))"
    await browser.read(choose.format("reality"))
    await browser.until("player.now.shown[0] === 'reality'")
    await browser.tap("Period")
    left, right = await browser.read(PIXELS)
    assert left == right
    assert await browser.read("document.getElementById('gap').textContent") == "0.00"
    await browser.read(choose.format("dream"))
    await browser.until("player.now.shown[0] === 'dream'")


async def time_runs_and_is_recorded(browser: Browser) -> None:
    """Recording and a GIF of a running game, with the latency shown and the agent at the wheel."""
    await browser.tap("KeyC")
    await browser.until("player.now.recording !== null")
    await browser.tap("KeyP")
    frames = await browser.read("player.frames")
    await browser.tap("ArrowRight", seconds=0.2)
    await browser.until(f"player.frames > {frames + 10} && player.keyDelays.length > 0")
    assert await browser.read("Number(document.getElementById('d0').textContent)") > 0
    await browser.tap("KeyT")
    await browser.until("player.now.wheel === 'agent'")
    await browser.tap("KeyC")
    await browser.until("document.getElementById('toast').textContent.includes('steps of each world are in')")
    await browser.tap("KeyG")
    await browser.until("player.last.kind === 'file' && !!document.querySelector('#toast a')")
    await browser.until("(async () => (await fetch(document.querySelector('#toast a').href)).ok)()")
    await browser.tap("KeyP")
    await browser.until("player.now.paused")


async def a_second_page_is_told(address: str) -> None:
    """One player, one page."""
    async with Browser() as other:
        await other.open(address)
        await other.until("document.getElementById('toast').textContent.startsWith('somebody plays here already')")
