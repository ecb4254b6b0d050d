"""The server: accepting, slow clients, and how everything is closed."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.http1.server import (
    CLOSING_TIME,
    FEW_WEBSOCKETS,
    LINGER,
    ClosingWebSockets,
    HTTPServer,
    closing_time,
)
from runtime.settings import Settings
from runtime.testing import Record, serving, wait_until
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.websocket import WebSocketClientConnection

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.sample_app import make_app

SIZE = 20_000_000
"""Bytes of a response that no buffer of the operating system holds."""


class Waits(Handler):
    """Responds as soon as the test lets it; records whether it was told that the client left."""

    def initialize(self, arrived: asyncio.Event, released: asyncio.Event) -> None:
        self.arrived, self.released = arrived, released

    async def get(self) -> None:
        self.arrived.set()
        await self.released.wait()
        self.reply({"waited": True})


class Large(Handler):
    def get(self) -> None:
        self.finish(SIZE * b"a")


class Gate:
    """An application with a slow handler, which waits for `released`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.arrived, self.released = asyncio.Event(), asyncio.Event()
        self.app = Application(
            settings or Settings(),
            [
                Route("/slow", Waits, arrived=self.arrived, released=self.released),
                Route("/large", Large),
            ],
        )


def errors(records: list[Record]) -> list[Record]:
    return [record for record in records if record["level"] == "error"]


@asynccontextmanager
async def listening(app: Application) -> AsyncIterator[tuple[HTTPServer, socket.socket]]:
    """A server, and a socket that listens, on which it does not accept."""
    server = app.create_server()
    [listener] = bind_sockets(0, "127.0.0.1")
    with listener:
        yield server, listener
        await server.close_all_connections()


# Accepting


@pytest.mark.parametrize("proxy", ["127.0.0.1", "::ffff:127.0.0.0/104"])
async def test_proxy_is_recognised_on_a_socket_for_both_families(
    proxy: str, log_records: list[Record]
) -> None:
    app = make_app(Settings(trusted_proxies=proxy))
    server = app.create_server()
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        pytest.skip("no IPv6")
    listener.setblocking(False)
    server.add_sockets([listener])
    async with RawConnection(listener.getsockname()[1]) as connection:
        await connection.get("/")
        await connection.get("/", X_Forwarded_For="203.0.113.5")
    server.stop()
    await server.close_all_connections()
    addresses = [line["client.address"] for line in access_lines(log_records)]
    assert addresses == ["127.0.0.1", "203.0.113.5"]


async def test_proxy_on_a_unix_socket_has_an_address_that_can_be_trusted(
    tmp_path: Path, log_records: list[Record]
) -> None:
    server = make_app(Settings(trusted_proxies="0.0.0.0")).create_server()
    server.add_sockets([bind_unix_socket(str(tmp_path / "socket"))])
    _, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n")
    await wait_until(lambda: access_lines(log_records))
    writer.close()
    server.stop()
    await server.close_all_connections()
    [line] = access_lines(log_records)
    assert line["client.address"] == "203.0.113.5"


@pytest.mark.parametrize("request_", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_client_that_has_gone_before_it_is_accepted_leaves_nothing(
    request_: bytes, log_records: list[Record]
) -> None:
    app = make_app(Settings())
    async with listening(app) as (server, listener):
        with socket.create_connection(listener.getsockname()) as gone:
            gone.sendall(request_)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await wait_until(lambda: accept(server, listener))
        await wait_until(lambda: not app.connections.open)
        assert not app.connections.in_flight
    assert errors(log_records) == []


def accept(server: HTTPServer, listener: socket.socket) -> bool:
    try:
        server.accept(*listener.accept())
    except BlockingIOError:
        return False
    return True


async def test_socket_that_the_event_loop_does_not_take_is_closed() -> None:
    app = make_app(Settings())
    server = app.create_server()
    connection = socket.socket(type=socket.SOCK_DGRAM)  # neither loop serves it
    server.accept(connection, ("127.0.0.1", 0))
    assert app.connections.open
    await wait_until(lambda: not app.connections.open)
    assert connection.fileno() == -1
    await server.close_all_connections()


async def test_client_of_a_unix_socket_has_an_address(
    tmp_path: Path, log_records: list[Record]
) -> None:
    server = make_app(Settings()).create_server()
    server.add_sockets([bind_unix_socket(str(tmp_path / "socket"))])
    reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    server.stop()
    await server.close_all_connections()
    assert [line["client.address"] for line in access_lines(log_records)] == ["0.0.0.0"]


# Slow clients


async def test_idle_connections_are_closed_again_and_again() -> None:
    async with serving(make_app(Settings(idle_timeout=0.05))) as client:
        for _ in range(2):  # the search for them ends when none is open, and begins anew
            async with RawConnection(client.port) as first, RawConnection(client.port) as second:
                await first.get("/")
                assert await first.read_to_end() == b""
                assert await second.read_to_end() == b""
            await wait_until(lambda: not client.app.connections.open)


async def test_blocked_event_loop_does_not_close_what_it_has_not_read(
    log_records: list[Record],
) -> None:
    app = make_app(Settings(idle_timeout=0.02))
    async with listening(app) as (server, listener):
        with socket.create_connection(listener.getsockname()):
            await wait_until(lambda: accept(server, listener))
            # Longer than the time-out, before the loop has begun to serve it.
            time.sleep(0.05)  # noqa: ASYNC251
            await asyncio.sleep(0)
            assert app.connections.open
            await wait_until(lambda: not app.connections.open)
    assert errors(log_records) == []


async def test_client_that_never_reads_its_response_is_cut(log_records: list[Record]) -> None:
    app = Gate(Settings(idle_timeout=0.05)).app
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/large")
        await wait_until(lambda: app.connections.requests)
        await wait_until(lambda: not app.connections.open)
        assert not app.connections.busy
        assert 0 < len(await connection.read_to_end()) < SIZE
    assert errors(log_records) == []


# Draining


async def test_drain_serves_the_queued_connections() -> None:
    app = make_app(Settings())
    async with listening(app) as (server, listener):
        port = listener.getsockname()[1]
        async with (
            RawConnection(port) as early,
            RawConnection(port) as late,
            RawConnection(port) as silent,
        ):
            early.send_get("/")
            drain = asyncio.create_task(server.drain([listener]))
            await wait_until(lambda: app.connections.open)
            late.send_get("/")  # it could not know
            for connection in early, late:
                response = await connection.response()
                assert (response.status, response.headers["Connection"]) == (200, "close")
                assert await connection.read_to_end() == b""
            assert await silent.read_to_end() == b""
            await drain
        assert not app.connections.open


async def test_drain_waits_for_requests_in_flight() -> None:
    gate = Gate()
    async with serving(gate.app) as client, RawConnection(client.port) as connection:
        connection.send_get("/slow")
        await gate.arrived.wait()
        drain = asyncio.create_task(client.server.drain([]))
        done, _ = await asyncio.wait([drain], timeout=LINGER + 0.2)
        assert not done
        gate.released.set()
        response = await connection.response()
        assert (response.status, response.headers["Connection"]) == (200, "close")
        await drain


async def test_drain_waits_for_a_handler_whose_client_has_left(log_records: list[Record]) -> None:
    gate = Gate()
    async with serving(gate.app) as client, RawConnection(client.port) as connection:
        connection.send_get("/slow")
        await gate.arrived.wait()
        connection.abort()
        await wait_until(lambda: not client.app.connections.open)
        drain = asyncio.create_task(client.server.drain([]))
        done, _ = await asyncio.wait([drain], timeout=LINGER + 0.2)
        assert not done
        gate.released.set()
        await drain
    assert [line["message"] for line in access_lines(log_records)] == ["GET /slow 499"]


class Later(Handler):
    """Responds, and goes on: itself, or in a task that it starts."""

    def initialize(self, arrived: asyncio.Event, released: asyncio.Event) -> None:
        self.arrived, self.released = arrived, released

    async def get(self, way: str) -> None:
        self.reply({"accepted": True}, status=202)
        if way == "handler":
            await self._work()
        else:
            self.background(self._work())

    async def _work(self) -> None:
        self.arrived.set()
        await self.released.wait()
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["handler", "background"])
async def test_drain_waits_for_what_goes_on_after_the_response(
    way: str, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.http1.server.LINGER", 0.02)
    arrived, released = asyncio.Event(), asyncio.Event()
    route = Route("/{way}", Later, arrived=arrived, released=released)
    async with serving(Application(Settings(), [route])) as client:
        connections = client.app.connections
        response = await client.get(f"/{way}", X_Request_ID="17")
        assert response.code == 202
        await arrived.wait()
        assert connections.busy
        assert list(map(str, connections.requests)) == (["GET /{way}"] if way == "handler" else [])
        assert connections.background == (["Later._work"] if way == "background" else [])
        drain = asyncio.create_task(client.server.drain([]))
        done, _ = await asyncio.wait([drain], timeout=0.1)
        assert not done
        released.set()
        await drain
        assert not connections.busy
    [error] = errors(log_records)
    assert error["request_id"] == "17"
    assert "ZeroDivisionError" in error["exception.stacktrace"]


async def test_drain_without_connections_ends_at_once() -> None:
    server = make_app(Settings()).create_server()
    begin = time.monotonic()
    await server.drain([])
    assert time.monotonic() - begin < LINGER


# Closing WebSockets


class FakeWebSocket:
    def __init__(self, closed: list[tuple[int, str]]) -> None:
        self._closed = closed

    def close(self, code: int, reason: str) -> None:
        self._closed.append((code, reason))


class Closing:
    """Closes fake WebSockets, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None) -> None:
        self.now = 0.0
        self.open: set[Any] = set()
        self.closed: list[tuple[int, str]] = []
        clock = SimpleNamespace(**vars(time) | {"monotonic": lambda: self.now})
        monkeypatch.setattr("runtime.http1.server.time", clock)
        self._closing = ClosingWebSockets(self.open, closing_time(settings or Settings()))

    def add(self, count: int) -> None:
        self.open |= {FakeWebSocket(self.closed) for _ in range(count)}

    def after(self, seconds: float) -> int:
        """Return how many are closed then."""
        self.now += seconds
        before = len(self.closed)
        self._closing.go_on()
        return len(self.closed) - before


def test_many_websockets_are_closed_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = Closing(monkeypatch)
    sockets.add(1000)
    step = CLOSING_TIME / 50
    counts = [sockets.after(step) for _ in range(50)]
    assert set(counts) <= {19, 20, 21}
    assert sum(counts) == 1000
    assert sockets.after(step) == 0
    assert set(sockets.closed) == {(1001, "service shutdown")}


def test_few_websockets_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = Closing(monkeypatch)
    sockets.add(FEW_WEBSOCKETS)
    assert sockets.after(0) == FEW_WEBSOCKETS


def test_websockets_opened_meanwhile_are_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = Closing(monkeypatch)
    assert sockets.after(0) == 0
    sockets.add(100)
    assert sockets.after(CLOSING_TIME / 2) == 50
    sockets.add(100)
    assert sockets.after(CLOSING_TIME / 2) == 150
    assert sockets.after(CLOSING_TIME) == 0
    sockets.add(3)
    assert sockets.after(0) == 3


def test_late_pass_makes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = Closing(monkeypatch)
    sockets.add(1000)
    assert sockets.after(CLOSING_TIME / 4) == 250
    assert sockets.after(60) == 750


class Open(WebSocket):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(str(self.is_draining))


async def test_drain_closes_many_websockets_one_after_the_other() -> None:
    app = Application(Settings(), [Route("/", Open)])
    count = 2 * FEW_WEBSOCKETS
    left: list[int] = []
    async with serving(app) as client, AsyncExitStack() as stack:
        websockets = [await stack.enter_async_context(client.websocket("/")) for _ in range(count)]
        await websockets[0].write_message("draining?")
        assert await websockets[0].read_message() == "False"
        drain = asyncio.create_task(client.server.drain([]))
        await asyncio.sleep(0)
        await asyncio.gather(*(websocket.write_message("draining?") for websocket in websockets))
        for read in asyncio.as_completed([read_to_end(websocket) for websocket in websockets]):
            assert await read in ([], ["True"])
            left.append(len(app.connections.websockets))
        await drain
    # If all were closed at once, the last ones would be closed before the first had confirmed.
    assert len(set(left)) > 5
    assert {websocket.close_code for websocket in websockets} == {1001}


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_websockets_are_closed_before_a_short_drain_timeout_ends(
    timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = Closing(monkeypatch, Settings(drain_timeout=timeout))
    sockets.add(1000)
    assert sockets.after(timeout / 2) == 1000


async def read_to_end(websocket: WebSocketClientConnection) -> list[str | bytes]:
    messages = []
    while (message := await websocket.read_message()) is not None:
        messages.append(message)
    return messages


# Closing


async def test_closing_aborts_everything(log_records: list[Record]) -> None:
    gate = Gate()
    async with (
        serving(gate.app) as client,
        RawConnection(client.port) as idle,
        RawConnection(client.port) as in_flight,
        RawConnection(client.port) as sending,
        RawConnection(client.port) as receiving,
    ):
        in_flight.send_get("/slow")
        await gate.arrived.wait()
        sending.send_get("/large")
        await sending.read_until(b"\r\n\r\n")
        receiving.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
        await wait_until(lambda: len(client.app.connections.requests) == 3)
        client.server.stop()
        await client.server.close_all_connections()
        assert not client.app.connections.open
        assert await idle.read_to_end() == b""
        assert await receiving.read_to_end() == b""
        assert await in_flight.read_to_end() == b""
        assert 0 < len(await sending.read_to_end()) < SIZE
        gate.released.set()
        await wait_until(lambda: not client.app.connections.requests)
    assert errors(log_records) == []
