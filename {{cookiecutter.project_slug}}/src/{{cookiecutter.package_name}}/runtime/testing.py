"""What the tests of a service use: an application in the test's process, or a real process.

Import its fixtures in ``tests/conftest.py``, and name them in ``__all__``:

- `clean_environment` (automatic) hides your settings, proxies and `.env` from the tests.
- `log_records` lists what the test's process logs.
- `start_service` starts the service as a real process and ends it after the test.

An application in the test's own process, over real sockets::

    async with serving(make_app(Settings())) as client:
        response = await client.get("/greetings/Ada")
        assert response_json(response) == {"message": "Hello, Ada!"}
"""

import asyncio
import codecs
import io
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .extensions import Extension
from .http.application import Application
from .http.resources import Resource
from .http1.server import HTTPServer
from .logs.formatters import JsonFormatter, RedactionFilter
from .settings import PREFIX
from .version import ServiceInfo

__all__ = [
    "Client",
    "Event",
    "Events",
    "Record",
    "ServiceProcess",
    "ServiceStarter",
    "clean_environment",
    "log_records",
    "open_events",
    "pytest_asyncio_loop_factories",
    "response_json",
    "response_problem",
    "serving",
    "start_service",
    "wait_until",
]

WAIT_TIMEOUT = 30.0
"""Seconds after which a test gives up on what should happen at once."""
POLL_INTERVAL = 0.005
"""Seconds between two checks of a condition."""
CREATION_FLAGS: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""On Windows the service must be in a group of its own to be sent Ctrl-Break."""

PACKAGE = __name__.removesuffix("runtime.testing").rstrip(".")
"""The package of the service."""
SOURCE = Path(__file__).parents[__name__.count(".")]
"""The folder from which the package is imported."""

Record = dict[str, Any]
"""A log record, as one JSON line has it."""

_numbers = itertools.count()


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds. Fails the test after `WAIT_TIMEOUT` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_TIMEOUT
    while not condition():
        assert loop.time() < deadline, "the condition does not hold"
        await asyncio.sleep(POLL_INTERVAL)


def response_json(response: HTTPResponse) -> Any:
    """Return the JSON of a response."""
    assert response.headers["Content-Type"] == "application/json"
    return orjson.loads(response.body)


def response_problem(response: HTTPResponse) -> Any:
    """Return the problem of an error response; check that it has what every problem has."""
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = orjson.loads(response.body)
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["status"] == response.code
    assert problem["request_id"] == response.headers["X-Request-ID"]
    return problem


class Client:
    """Sends requests to an application in this process.

    Keyword arguments are headers: ``X_Request_ID="7"``. A response of any status is returned, not
    raised; redirects are not followed.
    """

    def __init__(
        self, http: AsyncHTTPClient, port: int, server: HTTPServer, app: Application
    ) -> None:
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
        """Send any request."""
        request = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method,
            _headers(headers),
            body,
            request_timeout=WAIT_TIMEOUT,
            follow_redirects=False,
            allow_nonstandard_methods=True,
        )
        return await self._http.fetch(request, raise_error=False)

    @asynccontextmanager
    async def websocket(
        self, path: str, **headers: str
    ) -> AsyncIterator[WebSocketClientConnection]:
        """Open a WebSocket, and close it at the end of the context.

        Raises `tornado.httpclient.HTTPError` if it is refused.
        """
        url = f"ws://127.0.0.1:{self.port}{path}"
        connection = await websocket_connect(HTTPRequest(url, headers=_headers(headers)))
        try:
            yield connection
        finally:
            connection.close()

    @asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncIterator["Events"]:
        """Open a stream of events, and leave it at the end of the context.

        Raises `tornado.httpclient.HTTPClientError` if the response is another one. ::

            async with client.events("/prices", Last_Event_ID="7") as events:
                assert (await anext(events)).id == "8"
        """
        async with open_events(self.port, path, **headers) as events:
            yield events


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    data: str
    event: str = "message"
    """Its type."""
    id: str = ""
    """What a client that connects again sends as Last-Event-ID."""

    def json(self) -> Any:
        return orjson.loads(self.data)


class Events(AsyncIterator[Event]):
    """The events of a stream, as a client gets them.

    Ends when the stream ends; raises `ConnectionError` if it is cut.
    """

    last_event_id = ""
    """What a client that connects again would send as Last-Event-ID."""
    retry: int | None = None
    """Milliseconds that a client is to wait before it connects again."""
    comments = 0
    """Comments so far, such as those that keep a connection alive."""

    def __init__(self, headers: HTTPHeaders, reader: asyncio.StreamReader) -> None:
        self.headers = headers
        self._events = self._read(reader)

    async def __anext__(self) -> Event:
        """Wait for the next event. Fails the test after `WAIT_TIMEOUT` seconds."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            return await anext(self._events)

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[Event]:
        fields: dict[str, list[str]] = {}
        async for line in _lines(reader):
            if line:
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
                continue
            self.comments += len(fields.get("", []))
            self.last_event_id = fields.get("id", [self.last_event_id])[-1]
            if "retry" in fields:
                self.retry = int(fields["retry"][-1])
            if "data" in fields:
                kind = fields.get("event", [""])[-1]
                yield Event("\n".join(fields["data"]), kind or "message", self.last_event_id)
            fields = {}


@asynccontextmanager
async def open_events(port: int, path: str, **headers: str) -> AsyncIterator[Events]:
    """Open a stream of events of a process that listens on a port; see `Client.events`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in _headers(headers).get_all()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(WAIT_TIMEOUT):
            start, _, head = (
                (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n")
            )
        status = int(start.split()[1])
        fields = HTTPHeaders.parse(head)
        if status != 200 or fields.get("Content-Type") != "text/event-stream":
            raise HTTPClientError(status, f"no stream of events: {start}")
        yield Events(fields, reader)
    finally:
        writer.close()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the lines of a chunked body."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    text = ""
    try:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            chunk = await reader.readexactly(size + 2)
            *lines, text = (text + decoder.decode(chunk[:-2])).split("\n")
            for line in lines:
                yield line
    except asyncio.IncompleteReadError:
        raise ConnectionError("the stream is cut") from None


def _headers(headers: Mapping[str, str]) -> HTTPHeaders:
    return HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})


@asynccontextmanager
async def serving(
    app: Application,
    *,
    extensions: Sequence[Extension] = (),
    resources: Mapping[Resource[Any], object] | None = None,
) -> AsyncIterator[Client]:
    """Serve an application on a free port, in the event loop of the test.

    Its resources are opened, but for those that `resources` replaces, by fakes for example:
    ``resources={ORDERS: FakeStore()}``. Derive a fake from the real class, so that type checkers
    compare the two. Resources are not checked.
    """
    fakes = resources or {}
    info = ServiceInfo("test", "0")
    app.hooks = extensions
    asyncio.get_running_loop().set_exception_handler(app.handle_error_of_loop)
    server = app.create_server()
    http = AsyncHTTPClient(force_instance=True)
    async with AsyncExitStack() as stack:
        for extension in extensions:
            await stack.enter_async_context(extension.lifespan(info, app.config))
        for resource in app.declared_resources:
            if resource not in fakes:
                lifespan = resource.lifespan(app.config)
                app.resources[resource] = await stack.enter_async_context(lifespan)
        for resource, value in fakes.items():
            app.resources[resource] = value
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            yield Client(http, sockets[0].getsockname()[1], server, app)
        finally:
            http.close()
            server.stop()
            await server.close_all_connections()


class ServiceProcess:
    """The service as a process of its own: its log, its ports and its exit.

    `module` is started with ``python -m``; `settings` are environment variables. Ports are chosen
    by the operating system, and there is one process unless `settings` say otherwise.
    """

    def __init__(self, module: str, folder: Path, settings: Mapping[str, str]) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
        }
        path = [str(SOURCE), environment.get("PYTHONPATH", "")]
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "APP_PORT": "0",
            "APP_ADMIN_PORT": "0",
            "APP_LOG_FORMAT": "json",
            "APP_WORKERS": "1",
            # In the folder, and short: a socket's path may have about a hundred bytes.
            "APP_CONTROL_SOCKET": f"{next(_numbers)}.sock",
            **settings,
        }
        self.module = module
        self.folder = folder
        self.environment = environment
        self._log, self._errors = folder / "stdout", folder / "stderr"
        with self._log.open("wb") as stdout, self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - the test chooses the module
                [sys.executable, "-m", module],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                creationflags=CREATION_FLAGS,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def records(self) -> list[Record]:
        """Return the log records so far, access lines included; each has its ``worker``."""
        lines = self._log.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def messages(self) -> list[str]:
        """Return the messages of the log records so far."""
        return [record["message"] for record in self.records()]

    def errors(self) -> str:
        """Return what it has written to standard error so far."""
        return self._errors.read_text("utf-8", "backslashreplace")

    async def logged(self, message: str) -> Record:
        """Wait for a log record whose message starts with `message`, and return it."""

        def found() -> list[Record]:
            has_exited = self._process.poll() is not None
            records = [r for r in self.records() if r["message"].startswith(message)]
            assert records or not has_exited, f"exited without {message!r}: {self.errors()}"
            return records

        await wait_until(found)
        return found()[0]

    async def ports(self) -> tuple[int, int]:
        """Wait until it listens; return the public and the admin port."""
        message = (await self.logged("listening on"))["message"]
        public, admin = message.split(", admin on ")
        return int(public.rpartition(":")[2]), int(admin.rpartition(":")[2])

    def send_signal(self, signum: int) -> None:
        """Send a signal. On Windows SIGTERM would not let it drain: there it is a Ctrl-Break."""
        if sys.platform == "win32" and signum == signal.SIGTERM:
            signum = signal.CTRL_BREAK_EVENT
        self._process.send_signal(signum)

    async def reload(self) -> None:
        """Send SIGHUP and wait until every worker is replaced. For several workers only."""
        before = self.messages().count("reloaded")
        self.send_signal(signal.SIGHUP)
        await wait_until(lambda: self.messages().count("reloaded") > before)

    async def exit_code(self) -> int:
        """Wait for its exit; return the exit code."""
        await wait_until(lambda: self._process.poll() is not None)
        return self._process.returncode

    def kill(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self._process.wait()


class ServiceStarter:
    """Starts processes in a folder; see the fixture `start_service`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[ServiceProcess] = []

    def __call__(self, module: str = PACKAGE, **settings: object) -> ServiceProcess:
        """Start the service. ``start_service(workers=2)`` sets APP_WORKERS."""
        environment = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
        process = ServiceProcess(module, self._folder, environment)
        self._processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let tests run in the event loop that a service has on Windows; elsewhere it is the usual one.

    pytest-asyncio calls it if `conftest.py` imports it.
    """
    return {"asyncio": asyncio.SelectorEventLoop}


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[ServiceStarter]:
    """Start the service as a real process: ``start_service(workers=2, drain_timeout=1)``.

    Keyword arguments are settings. ``port_per_worker=True`` needs a `port` of your own.
    """
    starter = ServiceStarter(tmp_path)
    yield starter
    starter.kill_all()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide APP_, OTEL_ and proxy variables and `.env`; the test runs in a folder of its own."""
    for name in list(os.environ):
        # Clients that read HTTP_PROXY and its like would ask the proxy for 127.0.0.1.
        if name.upper().startswith((PREFIX, "OTEL_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class _RecordList(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.addFilter(RedactionFilter())
        self.records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(orjson.loads(self.format(record)))


@pytest.fixture
def log_records() -> Iterator[list[Record]]:
    """What this process has logged, down to level debug, as the lines of the log have it."""
    handler, root = _RecordList(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.records
    root.setLevel(level)
    root.removeHandler(handler)
