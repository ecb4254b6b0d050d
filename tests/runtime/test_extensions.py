import asyncio
import logging
import signal
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import pytest
from tornado.httpclient import HTTPClientError
from tornado.web import RequestHandler

from runtime.extensions import Extension
from runtime.http.request import Request, request_id
from runtime.http.application import Application
from runtime.settings import Settings
from runtime.http.handler import Handler, Problem
from runtime.http.websocket import WebSocket

from .conftest import ServiceStarter
from .support import SERVICE, Client, Record, RawConnection, close, serving, wait_until
from .test_server import begin_slow_request, let_go

WITNESS = ContextVar("WITNESS", default="nobody")

logger = logging.getLogger(__name__)


class Witness(Extension):
    """Tells what it sees, and leaves its name in the context of the request."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name = name
        self._seen = seen

    def begin(self, request: Request) -> None:
        WITNESS.set(f"{WITNESS.get()}, {self._name}")
        self._seen.append(f"{self._name}: {request.method} {request.route} {request_id.get()}")

    def end(self, handler: RequestHandler) -> None:
        route = cast(Request, handler.request).route
        self._seen.append(f"{self._name}: {handler.get_status()} {route}")
        logger.info("seen")


class Plain(RequestHandler):
    """Tornado's own kind of handler."""

    def get(self) -> None:
        self.write(WITNESS.get())


class Good(Handler):
    async def get(self) -> None:
        await asyncio.sleep(0)
        self.reply(WITNESS.get())


class Refuses(Handler):
    def get(self) -> None:
        raise Problem(409)


class Fails(Handler):
    def get(self) -> None:
        raise ValueError("a mistake")


class Slow(Handler):
    def initialize(self, go_on: asyncio.Event) -> None:
        self._go_on = go_on

    async def get(self) -> None:
        await self._go_on.wait()
        raise ValueError("too late")


def make(seen: list[str], go_on: asyncio.Event) -> tuple[Application, Settings]:
    settings = Settings(max_body_size=100)
    routes = [
        ("/plain", Plain),
        ("/good", Good),
        ("/refuses", Refuses),
        ("/fails", Fails),
        ("/socket", WebSocket),
        ("/slow", Slow, {"go_on": go_on}),
    ]
    observers = [Witness("first", seen), Extension(), Witness("second", seen)]
    return Application(settings, routes, observers=observers), settings


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/plain", "/plain", 200),
        ("POST", "/plain", "/plain", 405),
        ("HEAD", "/plain", "/plain", 405),
        ("GET", "/refuses", "/refuses", 409),
        ("GET", "/fails", "/fails", 500),
        ("POST", "/refuses", "/refuses", 405),
        ("BREW", "/refuses", "/refuses", 405),
        ("GET", "/socket", "/socket", 426),
        ("GET", "/nowhere", "none", 404),
    ],
)
async def test_each_sees_each_request_once(method: str, path: str, route: str, status: int) -> None:
    seen: list[str] = []
    async with serving(*make(seen, asyncio.Event())) as client:
        assert (await client.fetch(method, path, X_Request_ID="check-17")).code == status
    assert seen == [
        f"first: {method} {route} check-17",
        f"second: {method} {route} check-17",
        f"first: {status} {route}",
        f"second: {status} {route}",
    ]


async def test_a_body_that_is_too_large_is_a_request_as_well() -> None:
    seen: list[str] = []
    async with serving(*make(seen, asyncio.Event())) as client:
        await client.post("/refuses", bytes(101), X_Request_ID="check-17")
    assert seen[::2] == ["first: POST none check-17", "first: 413 none"]


async def test_a_client_that_has_gone_is_seen_as_well() -> None:
    seen: list[str] = []
    go_on = asyncio.Event()
    async with serving(*make(seen, go_on)) as client:
        async with client.wire() as wire:
            wire.ask("/slow", X_Request_ID="check-17")
            await wait_until(lambda: client.app.in_flight)
        await wait_until(lambda: not client.app.in_flight)
        assert seen[::2] == ["first: GET /slow check-17"]
        go_on.set()
        await wait_until(lambda: len(seen) == 4)
    assert seen[2:] == ["first: 499 /slow", "second: 499 /slow"]


async def test_of_a_websocket_they_see_the_handshake() -> None:
    seen: list[str] = []
    async with serving(*make(seen, asyncio.Event())) as client:
        websocket = await client.websocket("/socket", X_Request_ID="check-17")
        await close(websocket)
        await wait_until(lambda: not client.app.websockets)
        assert seen[::2] == ["first: GET /socket check-17", "first: 101 /socket"]
        with suppress(HTTPClientError):
            await client.websocket("/socket", Origin="https://elsewhere.example")
    assert seen[6:] == ["first: 403 /socket", "second: 403 /socket"]


@pytest.mark.parametrize("path", ["/plain", "/good"])
async def test_the_handler_runs_in_the_context_that_they_leave(path: str) -> None:
    async with serving(*make([], asyncio.Event())) as client, client.wire() as wire:
        for _ in range(2):  # on one connection
            assert b"nobody, first, second" in (await wire.get(path)).body


async def test_they_see_the_end_after_the_access_line_and_as_part_of_the_request(
    log_records: list[Record],
) -> None:
    async with serving(*make([], asyncio.Event())) as client:
        await client.get("/good", X_Request_ID="check-17")
    lines = [one for one in log_records if one["level"] == "info"]
    assert [one["message"] for one in lines] == ["GET /good 200", "seen", "seen"]
    assert {one["request_id"] for one in lines} == {"check-17"}


async def test_without_observers_all_is_the_same(client: Client) -> None:
    assert client.app.observers == ()
    assert (await client.get("/items/cup")).code == 200


def watched(folder: Path) -> str:
    """Write a module that serves the stand-in with two observers; return its name."""
    (folder / "watched.py").write_text(
        f"""
import logging, sys
from contextlib import asynccontextmanager
from tests.stand_in import load, make_app, serve

def make_watched(settings):
    from {SERVICE}.observer import Observer

    class Named(Observer):
        def __init__(self, name):
            self.name = name

        @asynccontextmanager
        async def running(self):
            logging.info("%s observer entered", self.name)
            yield
            logging.info("%s observer left", self.name)

        def end(self, handler):
            logging.info("%s observer saw the end", self.name)

    app = make_app(settings)
    app.observers = [Named("first"), Named("second")]
    return app

sys.exit(serve(load(), make_watched))
"""
    )
    return "watched"


async def test_they_are_there_before_the_resources_and_after_all_requests(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = start_service(watched(tmp_path))
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        let_go(process)
        await wire.answer()
    assert await process.exit_code() == 0
    messages = [one.partition(",")[0] for one in process.messages()]
    assert [message.partition(" on ")[0] for message in messages] == [
        "first observer entered",
        "second observer entered",
        "resource entered",
        "listening",
        "slow request arrived",
        "draining",
        "GET /slow 200",
        "first observer saw the end",
        "second observer saw the end",
        "resource left",
        "second observer left",
        "first observer left",
        "stopped",
    ]
