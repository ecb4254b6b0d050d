"""The hooks of each request: started, finished, failed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import cast

import pytest
from runtime import request_id
from runtime.extensions import Extension
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.request import Request
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.settings import Settings
from runtime.testing import Client, Record, response_json, response_problem, serving, wait_until
from tornado.httpclient import HTTPClientError
from tornado.web import Finish, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError

from ..support.connections import RawConnection, close

SEEN: ContextVar[dict[str, str]] = ContextVar("SEEN")
"""The request that each extension has seen, by its name."""

logger = logging.getLogger(__name__)


class Recorder(Extension):
    """Records the calls of its hooks, and sets a context variable."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def request_started(self, request: Request) -> None:
        SEEN.set(SEEN.get({}) | {self._name: request.id})
        self._calls.append(f"{self._name}: {request.method} {request.route} {request_id.get()}")

    def request_finished(self, handler: RequestHandler) -> None:
        route = cast(Request, handler.request).route
        self._calls.append(f"{self._name}: {handler.get_status()} {route}")
        logger.info("finished")

    def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
        route = cast(Request, handler.request).route
        self._calls.append(f"{self._name}: {route} {error!r} {request_id.get()}")


class Plain(RequestHandler):
    """One of Tornado's own handlers."""

    def get(self) -> None:
        self.write(SEEN.get({}))


class Good(Handler):
    async def get(self) -> None:
        await asyncio.sleep(0)
        self.reply(SEEN.get({}))


class Conflict(Handler):
    def get(self) -> None:
        raise Problem(409)


class Raises(Handler):
    """Raises what the test asks for."""

    def initialize(self, error: Exception) -> None:
        self._error = error

    async def get(self) -> None:
        await asyncio.sleep(0)
        raise self._error


class SlowFailure(Handler):
    def initialize(self, released: asyncio.Event) -> None:
        self._released = released

    async def get(self) -> None:
        await self._released.wait()
        raise ValueError("too late")


class FailingSocket(WebSocket):
    def open(self) -> None:
        if self.get_query_argument("fails", "") == "open":
            raise ValueError("in open")

    async def on_message(self, message: str | bytes) -> None:
        raise ValueError("in on_message")


@pytest.fixture
def calls() -> list[str]:
    """The calls of all hooks, in their order."""
    return []


@pytest.fixture
def released() -> asyncio.Event:
    """Lets the slow request continue."""
    return asyncio.Event()


@pytest.fixture
async def client(calls: list[str], released: asyncio.Event) -> AsyncIterator[Client]:
    """A client of an application with two extensions that record, and one that does nothing."""
    routes = [
        Route("/plain", Plain),
        Route("/good", Good),
        Route("/conflict", Conflict),
        Route("/fails", Raises, error=ValueError("a mistake")),
        Route("/socket", FailingSocket),
        Route("/slow", SlowFailure, released=released),
    ]
    extensions = [Recorder("first", calls), Extension(), Recorder("second", calls)]
    app = Application(Settings(max_body_size=100), routes)
    async with serving(app, extensions=extensions) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/plain", "/plain", 200),
        ("POST", "/plain", "/plain", 405),
        ("HEAD", "/plain", "/plain", 405),
        ("GET", "/conflict", "/conflict", 409),
        ("POST", "/conflict", "/conflict", 405),
        ("BREW", "/conflict", "/conflict", 405),
        ("GET", "/socket", "/socket", 426),
        ("GET", "/nowhere", "none", 404),
    ],
)
async def test_start_and_finish_are_called_once_for_each_request(
    client: Client, calls: list[str], method: str, path: str, route: str, status: int
) -> None:
    assert (await client.fetch(method, path, X_Request_ID="check-17")).code == status
    assert calls == [
        f"first: {method} {route} check-17",
        f"second: {method} {route} check-17",
        f"first: {status} {route}",
        f"second: {status} {route}",
    ]


async def test_failure_is_reported_before_the_finish(client: Client, calls: list[str]) -> None:
    assert (await client.get("/fails", X_Request_ID="check-17")).code == 500
    assert calls[::2] == [
        "first: GET /fails check-17",
        "first: /fails ValueError('a mistake') check-17",
        "first: 500 /fails",
    ]


async def test_body_over_the_limit_is_a_request_too(client: Client, calls: list[str]) -> None:
    await client.post("/conflict", bytes(101), X_Request_ID="check-17")
    assert calls[::2] == ["first: POST /conflict check-17", "first: 413 /conflict"]


async def test_request_of_a_client_that_disconnects_finishes_with_499(
    client: Client, calls: list[str], released: asyncio.Event
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send_get("/slow", X_Request_ID="check-17")
        await wait_until(lambda: client.app.connections.requests)
    assert calls[::2] == ["first: GET /slow check-17"]
    released.set()
    await wait_until(lambda: "second: 499 /slow" in calls)
    # The error is the handler's own, whether its client is still there or not.
    assert calls[2::2] == ["first: /slow ValueError('too late') check-17", "first: 499 /slow"]


async def test_request_of_a_websocket_finishes_with_its_handshake(
    client: Client, calls: list[str]
) -> None:
    async with client.websocket("/socket", X_Request_ID="check-17") as websocket:
        await close(websocket)
        await wait_until(lambda: not client.app.connections.websockets)
    assert calls[::2] == ["first: GET /socket check-17", "first: 101 /socket"]
    with pytest.raises(HTTPClientError):
        async with client.websocket("/socket", Origin="https://elsewhere.example"):
            pass
    assert calls[6:] == ["first: 403 /socket", "second: 403 /socket"]


@pytest.mark.parametrize(
    ("path", "place"), [("/socket", "on_message"), ("/socket?fails=open", "open")]
)
async def test_failure_of_an_open_websocket_is_reported(
    client: Client, calls: list[str], path: str, place: str
) -> None:
    async with client.websocket(path, X_Request_ID="check-17") as websocket:
        with suppress(WebSocketClosedError):
            await websocket.write_message("hello")
        assert await websocket.read_message() is None
    assert calls[4:] == [
        f"first: /socket ValueError('in {place}') check-17",
        f"second: /socket ValueError('in {place}') check-17",
    ]


@pytest.mark.parametrize(
    "error", [Problem(409), Problem(503, "Try again later."), HTTPError(500), Finish()]
)
async def test_responses_that_are_raised_are_not_failures(error: Exception) -> None:
    failures = await reported_failures(error)
    assert failures == []


async def test_unexpected_errors_are_failures() -> None:
    error = ValueError("a mistake")
    assert await reported_failures(error) == [error]


async def reported_failures(error: Exception) -> list[BaseException]:
    """Return what `request_failed` gets when a handler raises an error."""
    failures: list[BaseException] = []

    class Failures(Extension):
        def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
            assert isinstance(handler, Raises)
            failures.append(error)

    app = Application(Settings(), [Route("/", Raises, error=error)])
    async with serving(app, extensions=[Failures()]) as client:
        await client.get("/")
    return failures


async def test_client_that_disconnects_is_not_a_failure(calls: list[str]) -> None:
    class Streams(Handler):
        async def get(self) -> None:
            arrived.set()
            await closed.wait()
            await self.flush()

        def on_connection_close(self) -> None:
            closed.set()

    arrived, closed = asyncio.Event(), asyncio.Event()
    app = Application(Settings(), [Route("/", Streams)])
    async with serving(app, extensions=[Recorder("first", calls)]) as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/")
            await arrived.wait()
        await wait_until(lambda: "first: 499 /" in calls)
    assert [call for call in calls if "StreamClosedError" in call] == []


async def test_error_in_request_failed_does_not_prevent_the_response(
    log_records: list[Record],
) -> None:
    class Broken(Extension):
        def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
            raise LookupError("the tracker is broken")

    app = Application(Settings(), [Route("/", Raises, error=ValueError("a mistake"))])
    async with serving(app, extensions=[Broken()]) as client:
        assert response_problem(await client.get("/"))["status"] == 500
    messages = [record.get("exception.message") for record in log_records]
    assert "a mistake" in messages
    assert "the tracker is broken" in messages


@pytest.mark.parametrize("path", ["/plain", "/good"])
async def test_handler_runs_in_the_context_that_the_hooks_leave(client: Client, path: str) -> None:
    async with RawConnection(client.port) as connection:
        for request in "check-17", "check-18":
            response = await connection.get(path, X_Request_ID=request)
            assert response.json() == {"first": request, "second": request}


async def test_finish_is_called_after_the_access_line_and_within_the_request(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/good", X_Request_ID="check-17")
    records = [record for record in log_records if record["level"] == "info"]
    assert [record["message"] for record in records] == ["GET /good 200", "finished", "finished"]
    assert {record["request_id"] for record in records} == {"check-17"}


async def test_hooks_are_optional() -> None:
    async with serving(Application(Settings(), [Route("/", Good)])) as client:
        assert client.app.hooks == ()
        assert response_json(await client.get("/")) == {}


class Raising(Extension):
    """Raises in every hook."""

    def request_started(self, request: Request) -> None:
        raise ValueError("started")

    def request_finished(self, handler: RequestHandler) -> None:
        raise ValueError("finished")

    def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
        raise ValueError("failed")


class Unlucky(Handler):
    def get(self) -> None:
        raise OSError("no disk")


async def test_extension_that_raises_changes_no_response_and_stops_no_other(
    log_records: list[Record],
) -> None:
    calls: list[str] = []
    app = Application(Settings(), [Route("/", Unlucky)])
    async with serving(app, extensions=[Raising(), Recorder("other", calls)]) as client:
        response = await client.get("/")
    assert response.code == 500
    response_problem(response)
    assert len(calls) == 3
    failures = [r["message"] for r in log_records if r["message"].startswith("Raising.")]
    assert failures == [
        "Raising.request_started failed",
        "Raising.request_failed failed",
        "Raising.request_finished failed",
    ]
    assert len([r for r in log_records if r["logger"] == "access"]) == 1
