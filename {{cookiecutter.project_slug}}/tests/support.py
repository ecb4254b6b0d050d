"""What several tests need: the service in this process, as a process, and ways to talk to both."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import parse_headers
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClientConnection, websocket_connect

import {{ cookiecutter.package_name }} as package
from {{ cookiecutter.package_name }}.runtime.http.server import Server
from {{ cookiecutter.package_name }}.runtime.http.application import Application
from {{ cookiecutter.package_name }}.runtime.settings import Settings
from {{ cookiecutter.package_name }}.runtime.status import Vitals

PATIENCE = 30.0
"""Seconds after which a test gives up on what should happen at once."""

ROOT = Path(__file__).parents[1]
SOURCE = Path(package.__file__).parents[1]
SERVICE = package.__name__

Record = dict[str, Any]


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition to hold."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not condition():
        assert loop.time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def named(headers: dict[str, str]) -> HTTPHeaders:
    """Make headers of keyword arguments, such as ``X_Request_ID="7"``."""
    return HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})


def problem(response: HTTPResponse) -> Any:
    """Return the problem that an answer tells, which has what every problem has."""
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.body)
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["status"] == response.code
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


@dataclass(frozen=True)
class Answer:
    """What a service answers on a `Wire`."""

    status: int
    headers: HTTPHeaders
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """A connection on which a test says byte by byte what it wants."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    def send(self, text: str) -> None:
        self._writer.write(text.encode())

    def ask(self, path: str = "/", **headers: str) -> None:
        """Send a GET request without waiting for the answer."""
        lines = named({"Host": "localhost"} | headers).get_all()
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        self.send(f"GET {path} HTTP/1.1\r\n{head}\r\n")

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            start, _, lines = head.partition(b"\r\n")
            headers = HTTPHeaders(dict(parse_headers(BytesIO(lines))))
            body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        return Answer(int(start.split()[1]), headers, body)

    async def get(self, path: str = "/", **headers: str) -> Answer:
        self.ask(path, **headers)
        return await self.answer()

    async def rest(self) -> bytes:
        """Return what comes until the other end closes."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()


async def close(websocket: WebSocketClientConnection, code: int = 1000) -> None:
    """Close a WebSocket and wait for the end of it."""
    websocket.close(code)
    assert await websocket.read_message() is None


class Client:
    """Talks to a service in this process, which it can look into."""

    def __init__(self, http: AsyncHTTPClient, port: int, server: Server, app: Application) -> None:
        self._http = http
        self.port = port
        self.server = server
        self.app = app

    async def get(self, path: str = "/", **headers: str) -> HTTPResponse:
        return await self.fetch("GET", path, **headers)

    async def post(self, path: str, body: object, **headers: str) -> HTTPResponse:
        """Post a JSON document, or bytes as they are."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.fetch(
            "POST", path, data, **{"Content_Type": "application/json"} | headers
        )

    async def fetch(
        self, method: str, path: str, body: bytes | None = None, /, **headers: str
    ) -> HTTPResponse:
        request = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method,
            named(headers),
            body,
            request_timeout=PATIENCE,
            follow_redirects=False,
            allow_nonstandard_methods=True,
        )
        return await self._http.fetch(request, raise_error=False)

    async def websocket(self, path: str, **headers: str) -> WebSocketClientConnection:
        url = f"ws://127.0.0.1:{self.port}{path}"
        return await websocket_connect(HTTPRequest(url, headers=named(headers)))

    def wire(self) -> Wire:
        return Wire(self.port)


class Patient:
    """Stands for the service whose health an admin port tells; a test says how it is."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.workers: list[Vitals] = []

    def why_not_ready(self) -> list[str]:
        return self.reasons

    def vitals(self) -> list[Vitals]:
        return self.workers


@asynccontextmanager
async def serving(app: Application, settings: Settings) -> AsyncIterator[Client]:
    """Serve an application on a free port, in the event loop of the test."""
    server = Server(app, settings)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    http = AsyncHTTPClient(force_instance=True)
    try:
        yield Client(http, sockets[0].getsockname()[1], server, app)
    finally:
        http.close()
        server.stop()
        await server.close_all_connections()


class Process:
    """The service as a process of its own: its log, its ports and its end."""

    def __init__(self, module: str, folder: Path, settings: dict[str, str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name[:4] != "APP_"}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, [SOURCE, ROOT]))
        environment |= {"APP_PORT": "0", "APP_ADMIN_PORT": "0", "APP_LOG_FORMAT": "json"}
        if "workers" in Settings.model_fields:
            environment["APP_WORKERS"] = "1"
        environment |= settings
        self.folder = folder
        self._log, self._errors = folder / "stdout", folder / "stderr"
        with self._log.open("wb") as stdout, self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def records(self) -> list[Record]:
        """Return what it has logged so far."""
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def messages(self) -> list[str]:
        return [record["message"] for record in self.records()]

    def errors(self) -> str:
        return self._errors.read_text()

    async def logged(self, message: str) -> Record:
        """Wait for a record whose message starts so."""

        def found() -> list[Record]:
            ended = self._process.poll() is not None
            records = [one for one in self.records() if one["message"].startswith(message)]
            assert records or not ended, f"ended without {message!r}: {self.errors()}"
            return records

        await until(found)
        return found()[0]

    async def ports(self) -> tuple[int, int]:
        """Wait until it listens; return the public and the admin port."""
        message = (await self.logged("listening on"))["message"]
        public, admin = message.split(", admin on ")
        return int(public.rpartition(":")[2]), int(admin.rpartition(":")[2])

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    async def exit_code(self) -> int:
        await until(lambda: self._process.poll() is not None)
        return self._process.returncode

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        self._process.kill()
        self._process.wait()
