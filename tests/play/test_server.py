"""The real server with a real agent, over a real WebSocket: what a page may do, and who is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from PIL import Image

from dreamer.agent import load
from dreamer.play.__main__ import main
from dreamer.play.compose import compose
from dreamer.play.protocol import read_frame
from dreamer.play.recording import RecordingError, read_recording
from dreamer.play.server import OCCUPIED, Server, is_loopback
from tests.dream.agents import untrained

SECONDS = 60.0


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained("CartPole-v1").save(tmp_path_factory.mktemp("agents") / "cartpole")


@pytest.fixture(scope="module")
def player(run, tmp_path_factory):
    arguments = Namespace(run=run, env=None, rate=60.0, out=tmp_path_factory.mktemp("out") / "play", seed=1)
    player, close = compose(arguments, say=lambda text: None)
    yield player
    close()


class Page:
    """What a page does, without a page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, **arguments) -> None:
        await self.socket.send_json({"kind": kind, **arguments})

    async def hear(self) -> dict:
        """The next message; frames are acknowledged, as if drawn."""
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        header, frames = read_frame(message.data)
        await self.say("drawn", frame=header["frame"])
        return header | {"kind": "frame", "frames": frames}

    async def until(self, condition, **defaults) -> dict:
        """The first message for which a condition holds."""
        while not condition(message := await self.hear()):
            assert message["kind"] != "error", message
        return message

    async def frame(self) -> dict:
        return await self.until(lambda message: message["kind"] == "frame")

    async def ask(self, kind: str, **arguments) -> dict:
        """The frame that answers a command, while time stands still."""
        await self.say(kind, **arguments)
        return await self.frame()


@asynccontextmanager
async def serving(player, host: str = "127.0.0.1"):
    said: list[str] = []
    with ThreadPoolExecutor(1) as executor:
        server = Server(player, executor=executor, host=host, say=said.append)
        address = (await server.start(0)).replace("0.0.0.0", "127.0.0.1")
        async with aiohttp.ClientSession() as client:
            try:
                yield server, client, address
            finally:
                await server.stop()


def socket_of(address: str) -> str:
    base, question, query = address.partition("?")
    return f"{base}socket{question}{query}"


def origin(address: str) -> dict[str, str]:
    return {"Origin": address.partition("/?")[0].rstrip("/")}


@asynccontextmanager
async def page_of(client, address):
    async with client.ws_connect(socket_of(address), headers=origin(address)) as socket:
        yield Page(socket)


def test_a_game_from_the_first_frame_to_the_last(player):
    asyncio.run(asyncio.wait_for(play_a_game(player), SECONDS))


async def play_a_game(player) -> None:
    async with serving(player) as (_, client, address), page_of(client, address) as page:
        hello = await page.hear()
        assert (hello["kind"], hello["env"], hello["picture"]) == ("hello", "CartPole-v1", "drawing")
        assert hello["worlds"] == ["dream", "reality", "action-blind", "frozen"]
        first = await page.frame()
        assert first["paused"]
        assert first["shown"] == ["dream", "reality"]

        await page.say("input", held=["ArrowRight"], sliders=[], number=1)
        stepped = await page.ask("step")
        assert (stepped["step"], stepped["action"], stepped["input"]) == (first["step"] + 1, [1.0], 1)
        assert any((a != b).any() for a, b in zip(first["frames"], stepped["frames"], strict=True))

        back = await page.ask("rewind", steps=1)
        assert back["step"] == first["step"]
        for was, now in zip(first["frames"], back["frames"], strict=True):
            np.testing.assert_array_equal(was, now)

        for left in ("frozen", "action-blind", "reality"):
            shown = await page.ask("show", left=left, right="reality")
            assert shown["shown"] == [left, "reality"]
        np.testing.assert_array_equal(*shown["frames"])
        assert shown["gap"] == 0.0
        await page.ask("show", left="dream", right="reality")

        agent = await page.ask("drive", wheel="agent", eyes="reality")
        assert (agent["wheel"], agent["eyes"]) == ("agent", "reality")
        assert sum(agent["policy"][0]) == pytest.approx(1.0, abs=1e-5)
        assert (await page.ask("temperature", value=0.25))["temperature"] == 0.25
        assert (await page.ask("anchor"))["age"] == 0

        await page.say("pause", on=False)
        running = await page.until(lambda m: m["kind"] == "frame" and m["age"] >= 5)
        assert not running["paused"]
        assert len(running["latency"]) == 3
        await page.say("pause", on=True)
        await page.until(lambda m: m["kind"] == "frame" and m["paused"])

        await page.say("gif")
        made = await page.until(lambda m: m["kind"] == "file")
        async with client.get(address + "made/" + made["name"]) as answer:
            assert answer.content_type == "image/gif"
            assert (await answer.read())[:6] == b"GIF89a"
        with Image.open(player.files[made["name"]]) as picture:
            assert picture.size[0] > picture.size[1]
        async with client.get(address + "made/../../cartpole/config.yaml") as answer:
            assert answer.status == 404


def test_a_recording_is_read_by_replay(player, run):
    saved = asyncio.run(asyncio.wait_for(record(player), SECONDS))
    definition = load(run).definition
    for world in ("dream", "reality"):
        replay = read_recording(saved / world, definition)
        assert replay.num_steps >= 80
        batch, _ = replay.sample()
        assert batch.observation["state"].shape == (4, 16, 4)
        assert (np.asarray(batch.previous_action).sum(-1) == 1.0)[~np.asarray(batch.is_first)].all()
        assert np.asarray(batch.is_last).sum() == np.asarray(batch.is_first)[:, 1:].sum() or batch.is_last[:, -1].any()
        replay.close()
    with pytest.raises(RecordingError, match="holds no recording: chunks is missing"):
        read_recording(saved, definition)


async def record(player) -> Path:
    """Eighty steps with a step back among them."""
    async with serving(player) as (_, client, address), page_of(client, address) as page:
        await page.hear()
        await page.frame()
        await page.ask("drive", wheel="agent", eyes="dream")
        assert (await page.ask("record", on=True))["recording"] == 0
        for turn in range(80):
            await page.ask("rewind" if turn == 40 else "step", **({"steps": 3} if turn == 40 else {}))
        await page.say("record", on=False)
        text = (await page.until(lambda m: m["kind"] == "notice"))["text"]
        assert (await page.frame())["recording"] is None
        return Path(text.partition(" are in ")[2])


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("{", "not JSON"),
        ('{"kind": "fly"}', "no message 'fly'"),
        (b"\0", "not bytes"),
        ('{"kind": "show", "left": "mars", "right": "dream"}', "no world 'mars'"),
    ],
)
def test_a_wrong_message_is_answered_and_the_game_goes_on(player, message, answer):
    async def scenario():
        async with serving(player) as (_, client, address), page_of(client, address) as page:
            await page.hear()
            await page.frame()
            send = page.socket.send_bytes if isinstance(message, bytes) else page.socket.send_str
            await send(message)
            while (heard := await page.hear())["kind"] != "error":
                pass
            assert answer in heard["text"]
            await page.say("step")
            await page.until(lambda m: m["kind"] == "frame")

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_a_second_page_is_told_so_and_the_first_plays_on(player):
    async def scenario():
        async with serving(player) as (_, client, address), page_of(client, address) as page:
            await page.hear()
            await page.frame()
            async with page_of(client, address) as second:
                refusal = await second.hear()
                assert refusal == {
                    "kind": "error",
                    "text": "somebody plays here already; close the other page, and reload this one",
                }
                assert (await second.socket.receive()).type is aiohttp.WSMsgType.CLOSE
                assert second.socket.close_code == OCCUPIED
            await page.ask("step")

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_a_broken_socket_stops_time_and_the_next_page_goes_on_there(player):
    async def scenario():
        async with serving(player) as (_, client, address):
            async with page_of(client, address) as page:
                await page.hear()
                await page.frame()
                await page.say("pause", on=False)
                last = await page.until(lambda m: m["kind"] == "frame" and m["age"] >= 3)
                page.socket._writer.transport.abort()  # no goodbye
            async with page_of(client, address) as page:
                while (await page.hear())["kind"] == "error":
                    await asyncio.sleep(0.05)  # the server has not noticed yet
                    page = Page(await client.ws_connect(socket_of(address), headers=origin(address)))
                again = await page.frame()
                assert again["paused"]
                assert again["step"] >= last["step"]
                await page.socket.close()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


@pytest.mark.parametrize("path", ["", "socket"])
@pytest.mark.parametrize(
    ("headers", "status", "answer"),
    [
        ({"Host": "evil.example:{port}"}, 403, "answers to localhost and 127.0.0.1"),
        ({"Origin": "http://evil.example"}, 403, "not http://evil.example"),
        ({"Origin": "null"}, 403, "not null"),
        ({"Origin": "http://127.0.0.1:1"}, 403, "not http://127.0.0.1:1"),
    ],
)
def test_who_is_not_the_page_is_refused(player, path, headers, status, answer):
    async def scenario():
        async with serving(player) as (_, client, address):
            port = address.rstrip("/").rpartition(":")[2]
            sent = {name: value.format(port=port) for name, value in headers.items()}
            async with client.get(address + path, headers=sent) as reply:
                assert reply.status == status
                assert answer in await reply.text()

    asyncio.run(scenario())


def test_beyond_this_machine_a_token_is_needed(player):
    async def scenario():
        async with serving(player, host="0.0.0.0") as (server, client, address):
            assert server.token in address
            for wrong in (address.partition("?")[0], address[:-1]):
                async with client.get(wrong) as reply:
                    assert reply.status == 401
                    assert "needs the token" in await reply.text()
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await client.ws_connect(socket_of(wrong), headers=origin(wrong))
            async with client.get(address) as reply:
                assert reply.status == 200
                assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
            async with page_of(client, address) as page:
                assert (await page.hear())["kind"] == "hello"

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("box", False)],
)
def test_what_only_this_machine_can_reach(host, expected):
    assert is_loopback(host) == expected


def test_the_page_needs_nothing_from_elsewhere():
    page = (Path(__file__).parents[2] / "dreamer/play/page.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert 'src="' not in page


def test_a_missing_run_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path / "nothing"), "--port", "0"]) == 1
    assert "holds neither a run nor a saved agent: config.yaml is missing" in capsys.readouterr().err


def test_a_taken_port_is_one_sentence(run, capsys, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(run), "--port", str(port), "--out", str(tmp_path)]) == 1
    assert f"port {port} is taken; --port 0 takes one that is free" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["x", "--rate", "99"], ["x", "--port", "-1"]])
def test_the_command_line_is_checked(arguments, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert "give" in capsys.readouterr().err


def test_ctrl_c_saves_the_recording_and_ends_with_130(run, tmp_path):
    program = [sys.executable, "-m", "dreamer.play", str(run), "--port", "0", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    address = next(line for line in lines if line.startswith("ready: ")).split()[1]

    async def scenario():
        async with aiohttp.ClientSession() as client, page_of(client, address) as page:
            await page.hear()
            await page.frame()
            await page.ask("record", on=True)
            await page.ask("step")
            process.send_signal(signal.SIGINT)
            closed = await page.socket.receive()
            assert closed.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    assert process.wait(SECONDS) == 130
    assert "2 steps of each world are in" in process.stderr.read()
    process.stderr.close()
    (folder,) = (tmp_path / "out").iterdir()
    replay = read_recording(folder / "reality", load(run).definition)
    assert replay.num_steps == 2
    replay.close()
