"""A headless Chromium driven over its DevTools protocol, for what only a real browser can tell.

It needs a `chromium` on the PATH (Debian: `apt-get install chromium`; `CHROMIUM` names another one) and aiohttp, which
the `play` extra brings.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--mute-audio",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS, ANSWER_SECONDS, END_SECONDS = 30.0, 30.0, 5.0
KEYS = {
    "Space": (" ", 32),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
    "Comma": (",", 188),
    "Period": (".", 190),
}  # names and numbers of those that are not letters or digits


WITNESS = """
window.failures = [];
addEventListener("error", event => failures.push(String(event.message)));
addEventListener("unhandledrejection", event => failures.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", event => failures.push(event.violatedDirective));
"""


class BrowserError(RuntimeError):
    """There is no browser, or it does not do as told."""


def find_program() -> str:
    """The Chromium that is used.

    Raises:
        BrowserError: there is none.
    """
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise BrowserError("no Chromium is installed here: apt-get install chromium, or name one in CHROMIUM")
    return program


class Browser:
    """One page in a Chromium of its own: `async with Browser() as browser: await browser.open(address)`."""

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = True) -> None:
        self._size, self._dark = (width, height), dark
        self._profile = tempfile.mkdtemp(prefix="dreamer-chromium-")
        self._count = 0
        self._process: asyncio.subprocess.Process | None = None
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Browser:
        try:
            return await self._start(find_program())
        except BaseException:
            await self._end()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _start(self, program: str) -> Browser:
        window = f"--window-size={self._size[0]},{self._size[1]}"
        self._process = await asyncio.create_subprocess_exec(
            *(program, *FLAGS, window, f"--user-data-dir={self._profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is meant for us; the browser is closed below
        )
        self._client = aiohttp.ClientSession()
        port = await self._port()
        async with self._client.get(f"http://127.0.0.1:{port}/json") as answer:
            page = next(target for target in await answer.json() if target["type"] == "page")
        self._socket = await self._client.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=2**27)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.resize(*self._size)
        return self

    async def _end(self) -> None:
        """Closes what was opened, also where it began to start only."""
        if self._client is not None:
            await self._client.close()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol.

        Raises:
            BrowserError: it refuses, or says nothing.
        """
        self._count += 1
        try:
            await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    message = await self._socket.receive_json()
                    if message.get("id") == self._count:
                        break
        except (TypeError, ConnectionError, aiohttp.ClientError) as error:  # TypeError: a closing is no text
            raise BrowserError(f"Chromium is gone in the middle of {method}") from error
        if "error" in message:
            raise BrowserError(f"{method}: {message['error']['message']}")
        return message["result"]

    async def open(self, address: str) -> None:
        """Loads a page, and notes in `window.failures` what goes wrong in it."""
        await self.call("Page.enable")
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=WITNESS)
        await self.call("Page.navigate", url=address)

    async def resize(self, width: int, height: int) -> None:
        """Makes the window so large."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)

    async def read(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON.

        Raises:
            BrowserError: it throws.
        """
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']['exception'].get('description')}")
        return result["result"].get("value")

    async def until(self, expression: str, *, seconds: float = 20.0) -> Any:
        """Waits until an expression is true, and returns it.

        Raises:
            BrowserError: it is not within so many seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not (value := await self.read(expression)):
            if loop.time() > end:
                raise BrowserError(f"after {seconds:g} s this is not true: {expression}")
            await asyncio.sleep(0.02)
        return value

    async def key(self, code: str, *, down: bool) -> None:
        """Presses a key, or lets it go."""
        key, number = KEYS.get(code, (code[-1].lower(), ord(code[-1])))
        kind = "rawKeyDown" if down else "keyUp"
        await self.call("Input.dispatchKeyEvent", type=kind, code=code, key=key, windowsVirtualKeyCode=number)

    async def tap(self, code: str, *, seconds: float = 0.0) -> None:
        """Presses a key for so long."""
        await self.key(code, down=True)
        await asyncio.sleep(seconds)
        await self.key(code, down=False)

    async def screenshot(self, path: str | Path) -> None:
        """Writes a PNG of the window."""
        picture = await self.call("Page.captureScreenshot", format="png")
        Path(path).write_bytes(base64.b64decode(picture["data"]))

    async def _port(self) -> str:
        """The port that it chose; it writes it into its profile."""
        path = Path(self._profile) / "DevToolsActivePort"
        loop = asyncio.get_running_loop()
        end = loop.time() + START_SECONDS
        while not (path.exists() and path.read_text().strip()):
            if loop.time() > end or self._process is None or self._process.returncode is not None:
                raise BrowserError("Chromium does not start")
            await asyncio.sleep(0.05)
        return path.read_text().splitlines()[0]
