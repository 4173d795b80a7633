"""The player behind a page: one page of this machine at a time, unless it was told to listen elsewhere.

`/` is the page, `/socket` its WebSocket, `/made/NAME` a snapshot. Everybody on a machine, and every web page that is
open there, can reach a loopback port: so the `Host` must be a name of this machine (a foreign page may have made its
own name point here) and the `Origin` the page itself. Elsewhere a token from the terminal is needed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from dreamer.play.pace import Screen
from dreamer.play.player import Player
from dreamer.play.protocol import MOST_BYTES, Command, ProtocolError, parse

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
MOST_UNSEEN = 2  # frames on their way; more would only wait in the socket
PATIENCE = 1.0  # seconds after which a frame that nobody draws is given up
HEARTBEAT = 15.0  # seconds after which a page that does not answer is gone
OCCUPIED, FAILED = 4001, 4002  # close codes
CSP = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
HEADERS = {
    "Content-Security-Policy": f"{CSP}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Server:
    """Serves one player.

    Args:
        player: what is played; only the thread of `executor` touches it.
        executor: one thread.
        host: address to listen at.
        say: tells the terminal.

    Attributes:
        token: what a page has to know; None where only this machine can connect.
        failure: what ended the game, if anything did.
        failed: set together with `failure`.
    """

    def __init__(
        self, player: Player, *, executor: ThreadPoolExecutor, host: str, say: Callable[[str], object]
    ) -> None:
        self._player, self._executor, self._host, self._say = player, executor, host, say
        self.token = None if is_loopback(host) else secrets.token_urlsafe(16)
        self.failure: Exception | None = None
        self.failed = asyncio.Event()
        self._socket: web.WebSocketResponse | None = None
        self._runner: web.AppRunner | None = None
        self._is_closing = False
        self._page = resources.files("dreamer.play").joinpath("page.html").read_bytes()

    async def start(self, port: int) -> str:
        """Listens; returns the address of the page.

        Raises:
            OSError: it cannot listen there.
        """
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [web.get("/", self._index), web.get("/socket", self._connect), web.get("/made/{name}", self._made)]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, port).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(f"port {port} is taken; --port 0 takes one that is free") from error
        bound = self._runner.addresses[0][1]
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{name}:{bound}/" + (f"?token={self.token}" if self.token else "")

    async def stop(self) -> None:
        """Closes page and port."""
        self._is_closing = True
        if self._socket is not None:
            await self._socket.close(code=1001, message=b"the player was closed")
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuses who is not the page that this server gave out; see the module."""
        if self.token is None and not _is_own_name(request.host):
            return _refuse(403, f"this player answers to {' and '.join(LOOPBACK_NAMES)} only, not to {request.host}")
        origin = request.headers.get("Origin")
        if (origin is not None or request.path == "/socket") and urlsplit(origin or "").netloc != request.host:
            return _refuse(
                403, f"the page of this player is http://{request.host}/, not {origin or 'one without Origin'}"
            )
        if self.token is not None and not hmac.compare_digest(
            request.query.get("token", "").encode(), self.token.encode()
        ):
            return _refuse(401, "this player needs the token that it printed: open the whole address of the terminal")
        response = await handler(request)
        if not isinstance(response, web.WebSocketResponse):
            response.headers.update(HEADERS)
        return response

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _made(self, request: web.Request) -> web.StreamResponse:
        path = self._player.files.get(request.match_info["name"])
        if path is None or not path.is_file():
            return _refuse(404, "there is no such file")
        disposition = {"Content-Disposition": f'attachment; filename="{path.name}"'}
        return web.Response(body=path.read_bytes(), content_type="image/gif", headers=disposition)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MOST_BYTES, compress=False)
        await socket.prepare(request)
        if self._socket is not None:
            await _tell(socket, "error", "somebody plays here already; close the other page, and reload this one")
            await socket.close(code=OCCUPIED, message=b"occupied")
            return socket
        self._socket = socket
        self._say("a page is open")
        try:
            await self._play(socket)
        except ConnectionError:
            pass  # the page is gone in the middle of a frame
        except Exception as error:
            self.failure = error
            with contextlib.suppress(ConnectionError):
                await _tell(socket, "error", f"the game ended: {error}")
                await socket.close(code=FAILED, message=b"failed")
            self.failed.set()
        finally:
            self._socket = None
            await self._call(self._player.leave)
            if not self._is_closing:
                self._say("the page is closed; time stands still until one is opened")
        return socket

    async def _play(self, socket: web.WebSocketResponse) -> None:
        """Carries out what the page wants and makes the steps that are due, until it is gone."""
        inbox: asyncio.Queue[Command | None] = asyncio.Queue(maxsize=256)
        screen, player = Screen(), self._player
        reader = asyncio.create_task(self._read(socket, inbox, screen))
        next_command = asyncio.create_task(inbox.get())
        try:
            await socket.send_json(await self._call(player.hello))
            await self._send(socket, screen, player.frame, taken=time.monotonic())
            while True:
                await asyncio.wait({next_command}, timeout=self._wait(screen))
                if not next_command.done():
                    if screen.unseen >= MOST_UNSEEN:
                        screen.forget()
                    await self._send(socket, screen, player.step, taken=time.monotonic())
                    continue
                if (command := next_command.result()) is None:
                    return
                next_command = asyncio.create_task(inbox.get())
                if command.kind != "drawn":
                    await self._obey(socket, screen, command, is_last=inbox.empty())
        finally:
            for task in (reader, next_command):
                task.cancel()
            await asyncio.gather(reader, next_command, return_exceptions=True)

    def _wait(self, screen: Screen) -> float | None:
        """Seconds until something has to be done without a word of the page; None: nothing until then."""
        due = self._player.wait(time.monotonic())
        return PATIENCE if due is not None and screen.unseen >= MOST_UNSEEN else due

    async def _obey(self, socket: web.WebSocketResponse, screen: Screen, command: Command, *, is_last: bool) -> None:
        """Carries out a command. A key that changes something is answered by a step at once, if one may be made."""
        player, now = self._player, time.monotonic()
        hurries = is_last and screen.unseen < MOST_UNSEEN and player.hurries(command, now)
        for message in await self._call(player.do, command):
            await socket.send_json(message)
        if hurries:
            await self._send(socket, screen, player.step, taken=now)
        elif command.kind != "input":
            await self._send(socket, screen, player.frame, taken=now)

    async def _read(self, socket: web.WebSocketResponse, inbox: asyncio.Queue[Command | None], screen: Screen) -> None:
        """Puts what the page says into the inbox; what makes no sense is answered."""
        async for message in socket:
            try:
                if message.type is not WSMsgType.TEXT:
                    raise ProtocolError("messages are JSON text, not bytes")
                command = parse(message.data)
                if command.kind == "drawn":  # here, as a step under way would delay it
                    screen.drawn(command.arguments["frame"], now=time.monotonic())
                await inbox.put(command)
            except ProtocolError as error:
                await _tell(socket, "error", str(error))
        await inbox.put(None)

    async def _send(
        self, socket: web.WebSocketResponse, screen: Screen, make: Callable[..., tuple[int, bytes]], *, taken: float
    ) -> None:
        """Makes a frame and sends it; `taken`: when its action was, in seconds."""
        seen = {"latency": screen.percentiles(), "frame_rate": screen.rate(time.monotonic())}
        number, frame = await self._call(make, **seen)
        screen.send(number, taken=taken)
        await socket.send_bytes(frame)

    async def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Runs something of the player in its thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*arguments, **named))


def _is_own_name(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isdigit() else host
    return name in LOOPBACK_NAMES or is_loopback(name.strip("[]"))


def _refuse(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=HEADERS)


async def _tell(socket: web.WebSocketResponse, kind: str, text: str) -> None:
    await socket.send_str(json.dumps({"kind": kind, "text": text}))
