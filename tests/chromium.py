"""A real browser without a window, which a test or a picture drives through its DevTools protocol.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .tools import needs

START_TIMEOUT = 60.0
"""Seconds that a browser may take to start, and to respond to a command."""
MAX_MESSAGE_SIZE = 64 * 1024 * 1024
"""Bytes of a message from the browser, such as a picture."""

OPTIONS = [
    "--headless",
    "--hide-scrollbars",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--no-first-run",
    "--no-sandbox",  # root has none
]


class Page:
    """A page in the browser. `problems` and `requests` are what happened since it was created."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._results: dict[int, asyncio.Future[Any]] = {}
        self.problems: list[str] = []
        """What the console shows: errors, and violations of the Content-Security-Policy."""
        self.requests: list[str] = []
        """The URLs of all requests."""

    async def read(self) -> None:
        """Read what the browser says, until it closes."""
        while (message := await self._connection.read_message()) is not None:
            self._handle(json.loads(message))

    async def call(self, method: str, **parameters: object) -> Any:
        """Call a command of the protocol, and return its result."""
        number = next(self._numbers)
        result = self._results[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        await self._connection.write_message(json.dumps(command))
        async with asyncio.timeout(START_TIMEOUT):
            return await result

    async def run_first(self, script: str) -> None:
        """Run a script in each page that is opened from now on, before its own."""
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    async def open(self, url: str) -> None:
        """Go to a URL."""
        result = await self.call("Page.navigate", url=url)
        assert "errorText" not in result, result

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> Any:
        """Wait until the value of an expression is true, and return it."""
        async with asyncio.timeout(START_TIMEOUT):
            while not (value := await self.evaluate(expression)):  # noqa: ASYNC110 - a page
                await asyncio.sleep(0.05)
        return value

    async def show_as(self, width: int, height: int, scheme: str = "light", scale: int = 1) -> None:
        """Set the size of the window in CSS pixels, and the colour scheme: light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def picture(self) -> bytes:
        """Return what the window shows, as PNG."""
        result = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(result["data"])

    def _handle(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if "id" in message:
            error = {"errorText": message.get("error")}
            self._results.pop(message["id"]).set_result(message.get("result", error))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url')}")
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(json.dumps(parameters["args"]))


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncIterator[None]:
    """Start a browser with a profile of its own, and end it at the end of the context.

    `arguments` are further options, and the URL that it opens.
    """
    browser = await asyncio.create_subprocess_exec(
        shutil.which("google-chrome") or needs("chromium"),
        *OPTIONS,
        f"--user-data-dir={folder}",
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """Start a browser, and drive its first page."""
    async with started(folder, "--remote-debugging-port=0", "about:blank"):
        url = await _page_url(folder / "DevToolsActivePort")
        connection = await websocket_connect(url, max_message_size=MAX_MESSAGE_SIZE)
        page = Page(connection)
        reading = asyncio.create_task(page.read())
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            yield page
        finally:
            connection.close()
            await reading


async def _page_url(port_file: Path) -> str:
    """Return where the first page of the browser listens."""
    async with asyncio.timeout(START_TIMEOUT):
        while not (port := _read_port(port_file)):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)
        while True:
            response = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list")
            for target in json.loads(response.body):
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
            await asyncio.sleep(0.02)


def _read_port(port_file: Path) -> str:
    """Return the port in the file that the browser writes; nothing before it has."""
    lines = port_file.read_text().splitlines() if port_file.exists() else []
    return lines[0] if len(lines) > 1 else ""
