"""Requests with bodies: 100 Continue, early responses, limits, time-outs, errors of handlers."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from runtime import Extension, Request
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.routing import Route
from runtime.settings import Settings
from runtime.testing import Record, serving, wait_until
from tornado.routing import PathMatches, Rule
from tornado.web import RequestHandler, stream_request_body

from ..support.access import access_lines
from ..support.connections import RawConnection, RawResponse
from ..support.sample_app import make_app
from ..support.transports import connect

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FRAMINGS = pytest.mark.parametrize("is_chunked", [False, True], ids=["fixed", "chunked"])


def head(size: int | None, *lines: str, path: str = "/") -> str:
    """Return the head of a request with a body of this size; chunked if it is None."""
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    lines = ("Host: a", "Content-Type: application/json", framing, *lines)
    return f"POST {path} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"


def whole(body: bytes, *, is_chunked: bool, path: str = "/") -> bytes:
    """Return a request with this body."""
    if not is_chunked:
        return head(len(body), path=path).encode() + body
    return head(None, path=path).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@stream_request_body
class Streams(Handler):
    """Responds with the size of the body; `steps` are what a test does on the way."""

    def initialize(self, **steps: Callable[["Streams"], Any]) -> None:
        self.steps = steps
        self.size = 0
        self.is_closed = False
        self._step("initialize")

    async def prepare(self) -> None:
        await self._await("prepare")

    async def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)
        await self._await("data_received")

    async def post(self) -> None:
        self.reply({"size": self.size})

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.is_closed = True
        self._step("on_connection_close")

    def _step(self, name: str) -> Any:
        return self.steps[name](self) if name in self.steps else None

    async def _await(self, name: str) -> None:
        result = self._step(name)
        if isinstance(result, Awaitable):
            await result


def app(settings: Settings | None = None, **steps: Callable[[Streams], Any]) -> Application:
    return Application(settings or Settings(), [Route("/", Streams, **steps)])


def errors(records: list[Record]) -> list[Record]:
    """Return the errors in a log that are not access lines."""
    return [r for r in records if r["level"] == "error" and r["logger"] != "access"]


async def refused(connection: RawConnection, status: int) -> RawResponse:
    """Read a problem with this status, and then the end of the connection; close it, too."""
    response = await connection.response()
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Connection"] == "close"
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert await connection.read_to_end() == b""
    connection.send_eof()
    return response


# 100 Continue


@pytest.mark.parametrize("size", [15, None])
async def test_continue_is_sent_if_the_body_is_not_there(size: int | None) -> None:
    async with (
        serving(make_app(Settings())) as client,
        RawConnection(client.port) as connection,
    ):
        for _ in range(2):
            connection.send(head(size, "Expect: 100-continue", path="/items"))
            assert await connection.read_until(b"\r\n\r\n") == CONTINUE
            body = '{"name": "cup"}'
            connection.send(body if size else f"f\r\n{body[:1]}")
            if not size:
                connection.send(f"{body[1:]}\r\n0\r\n\r\n")
            assert (await connection.response()).status == 201


async def test_continue_is_sent_once() -> None:
    async with (
        serving(make_app(Settings())) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(15, "Expect: 100-continue", path="/items"))
        assert await connection.read_until(b"\r\n\r\n") == CONTINUE
        connection.send('{"name"')
        await client.get("/")
        connection.send(': "cup"}')
        assert (await connection.response()).status == 201


async def test_continue_is_not_sent_if_the_body_is_there() -> None:
    async with (
        serving(make_app(Settings())) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(15, "Expect: 100-continue", path="/items") + '{"name": "cup"}')
        assert (await connection.response()).status == 201
        connection.send(head(15, "Expect: 100-continue", path="/items") + '{"name"')
        await client.get("/")
        connection.send(': "cup"}')
        assert (await connection.response()).status == 201
        connection.send(head(0, "Expect: 100-continue", path="/items"))
        assert (await connection.response()).status == 400


async def test_continue_is_not_sent_if_the_body_would_be_refused() -> None:
    async with (
        serving(make_app(Settings(max_body_size=20))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(21, "Expect: 100-continue", path="/items"))
        await refused(connection, 413)


async def test_continue_is_not_sent_behind_a_response() -> None:
    def prepare(handler: Streams) -> None:
        raise Problem(401)

    async with (
        serving(app(prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(10, "Expect: 100-continue"))
        await refused(connection, 401)


async def test_continue_is_not_sent_behind_the_head_of_a_response() -> None:
    transport, _ = connect(app(prepare=lambda handler: handler.flush()))
    transport.feed(head(3, "Expect: 100-continue").encode())
    await wait_until(lambda: b" 200 " in transport.sent)
    transport.feed(b"abc")
    await wait_until(lambda: transport.sent.endswith(b"0\r\n\r\n"))
    assert CONTINUE not in transport.sent


async def test_continue_waits_until_a_handler_wants_the_body() -> None:
    prepared, released = asyncio.Event(), asyncio.Event()

    async def prepare(handler: Streams) -> None:
        prepared.set()
        await released.wait()

    transport, _ = connect(app(prepare=prepare))
    transport.feed(head(3, "Expect: 100-continue").encode())
    await prepared.wait()
    assert transport.sent == b""
    released.set()
    await wait_until(lambda: transport.sent == CONTINUE)
    transport.feed(b"abc")
    await wait_until(lambda: transport.sent.endswith(b'{"size":3}'))


# Early responses


@FRAMINGS
async def test_refusal_arrives_although_the_client_goes_on_sending(is_chunked: bool) -> None:
    body = 3_000_000 * b"a"
    async with serving(make_app(Settings(max_body_size=1000))) as client:
        for _ in range(20):
            async with RawConnection(client.port) as connection:
                connection.send(whole(body, is_chunked=is_chunked, path="/items"))
                await refused(connection, 413)
        await wait_until(lambda: not client.app.connections.open)


@FRAMINGS
async def test_response_of_prepare_arrives_although_the_client_goes_on_sending(
    is_chunked: bool, log_records: list[Record]
) -> None:
    def prepare(handler: Streams) -> None:
        raise Problem(401)

    def data_received(handler: Streams) -> None:
        raise AssertionError("it has responded already")

    async with serving(app(prepare=prepare, data_received=data_received)) as client:
        for _ in range(20):
            async with RawConnection(client.port) as connection:
                connection.send(whole(900_000 * b"a", is_chunked=is_chunked))
                await refused(connection, 401)
        await wait_until(lambda: not client.app.connections.open)
    assert errors(log_records) == []
    assert len(access_lines(log_records)) == 20


async def test_refusal_reaches_a_client_that_has_closed_its_side() -> None:
    async with (
        serving(make_app(Settings(max_body_size=10))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(15, path="/items") + '{"name": "cup"}')
        connection.send_eof()
        await refused(connection, 413)
        await wait_until(lambda: not client.app.connections.open)


async def test_client_that_goes_on_sending_for_long_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.http1.connection.DISCARD_TIMEOUT", 0.05)
    async with (
        serving(make_app(Settings(max_body_size=10, idle_timeout=0.5))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(10**9, path="/items"))
        await connection.response()
        assert client.app.connections.open
        await wait_until(lambda: connection.send(b"a") or not client.app.connections.open)


async def test_nothing_of_the_body_gets_to_a_handler_that_has_responded() -> None:
    received = []

    def prepare(handler: Streams) -> None:
        handler.finish(100_000 * b"a")

    transport, _ = connect(app(prepare=prepare, data_received=received.append))
    transport.block()  # so the response is not sent at once
    transport.feed(head(500).encode())
    await wait_until(lambda: b" 200 " in transport.sent)
    for piece in 250, 250, 100_000, 10:
        transport.feed(piece * b"b")
        await asyncio.sleep(0)
    assert not transport.is_closing()
    assert not transport.is_paused  # nobody waits for it
    transport.unblock()
    await wait_until(lambda: transport.has_written_eof)
    assert received == []
    assert transport.sent.count(b"HTTP/1.1 ") == 1


async def test_response_that_is_slow_to_be_taken_is_no_slow_body() -> None:
    def prepare(handler: Streams) -> None:
        handler.finish(100_000 * b"a")

    transport, connection = connect(app(prepare=prepare), body_timeout=0.01)
    transport.block()
    transport.feed(head(500).encode())
    await wait_until(lambda: b" 200 " in transport.sent)
    connection.check_deadline(asyncio.get_running_loop().time() + 1)
    assert not transport.was_aborted


# Time-outs


@FRAMINGS
@pytest.mark.parametrize("make", [make_app, app])
async def test_slow_body_is_refused(
    is_chunked: bool, make: Callable[[Settings], Application], log_records: list[Record]
) -> None:
    path = "/" if make is app else "/items"
    async with (
        serving(make(Settings(body_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(None if is_chunked else 10, path=path) + "1\r\na")
        response = await refused(connection, 408)
        assert response.json()["detail"] == "The body did not arrive within 0.05 s."
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 408
    assert line["http.route"] == path
    assert line["request_id"] == response.headers["X-Request-ID"]
    assert errors(log_records) == []


async def test_time_that_a_handler_takes_does_not_count() -> None:
    released = asyncio.Event()
    transport, connection = connect(
        app(prepare=lambda handler: released.wait(), data_received=lambda handler: released.wait()),
        body_timeout=0.05,
    )
    loop = asyncio.get_running_loop()
    transport.feed(head(4).encode())
    for piece in b"ab", b"cd":
        released.clear()
        transport.feed(piece)
        wait_for = loop.time() + 0.06
        while loop.time() < wait_for:
            connection.check_deadline(loop.time())
            await asyncio.sleep(0.01)
        released.set()
        await wait_until(lambda: not transport.is_paused)
        connection.check_deadline(loop.time())
    await wait_until(lambda: transport.sent.endswith(b'{"size":4}'))


@FRAMINGS
async def test_handler_can_give_a_body_more_time(is_chunked: bool) -> None:
    def prepare(handler: Streams) -> None:
        handler.request.exchange.set_body_timeout(3600)

    transport, connection = connect(app(prepare=prepare), body_timeout=1)
    transport.feed(head(None if is_chunked else 10).encode())
    await wait_until(lambda: not transport.is_paused)
    now = asyncio.get_running_loop().time()
    connection.check_deadline(now + 3590)
    assert transport.sent == b""
    connection.check_deadline(now + 3610)
    await wait_until(lambda: b"did not arrive within 3600 s" in transport.sent)


@FRAMINGS
async def test_handler_can_give_a_body_less_time(is_chunked: bool) -> None:
    def prepare(handler: Streams) -> None:
        handler.request.exchange.set_body_timeout(0.05)

    async with (
        serving(app(Settings(idle_timeout=0.2), prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(None if is_chunked else 10))
        response = await refused(connection, 408)
    assert response.json()["detail"] == "The body did not arrive within 0.05 s."


# Limits


@FRAMINGS
@pytest.mark.parametrize(("limit", "status"), [(999, 413), (1000, 200), (2000, 200)])
async def test_handler_can_set_the_limit_of_a_body(
    is_chunked: bool, limit: int, status: int
) -> None:
    def prepare(handler: Streams) -> None:
        handler.request.exchange.set_max_body_size(limit)

    async with (
        serving(app(Settings(max_body_size=1500), prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(1000 * b"a", is_chunked=is_chunked))
        response = await connection.response()
        assert response.status == status
        assert status == 413 or response.json() == {"size": 1000}


@FRAMINGS
async def test_limit_that_a_handler_sets_holds_above_that_of_the_service(is_chunked: bool) -> None:
    def prepare(handler: Streams) -> None:
        handler.request.exchange.set_max_body_size(1000)

    async with (
        serving(app(Settings(max_body_size=10), prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(1000 * b"a", is_chunked=is_chunked))
        assert (await connection.response()).json() == {"size": 1000}
        connection.send(whole(1001 * b"a", is_chunked=is_chunked))
        await refused(connection, 413)


@FRAMINGS
async def test_limit_that_tornado_takes_in_prepare_is_that_of_the_body(is_chunked: bool) -> None:
    def prepare(handler: Streams) -> None:
        handler.request.connection.set_max_body_size(10**9)

    size = 3_000_000
    async with (
        serving(app(prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(size * b"a", is_chunked=is_chunked))
        assert (await connection.response()).json() == {"size": size}


class Whole(Handler):
    """Gets its body as a whole; has a limit of its own."""

    max_body_size = 1000

    async def post(self) -> None:
        self.reply({"size": len(self.request.body)})


@stream_request_body
class Pieces(Streams):
    """Gets its body in pieces; has a limit of its own."""

    max_body_size = 1000


class SlowBody(Streams):
    """Its body has less time than those of other handlers."""

    body_timeout = 0.05


@FRAMINGS
@pytest.mark.parametrize("service_limit", [10, 2000])
@pytest.mark.parametrize(
    "rule", [Route("/", Whole), Route("/", Pieces), Rule(PathMatches("/"), Whole)]
)
async def test_limit_of_a_handler_class_replaces_that_of_the_service(
    is_chunked: bool, service_limit: int, rule: Rule
) -> None:
    routes = cast(list[Route], [rule, Route("/other", Streams)])
    async with (
        serving(Application(Settings(max_body_size=service_limit), routes)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(1000 * b"a", is_chunked=is_chunked))
        assert (await connection.response()).json() == {"size": 1000}
        connection.send(whole(10 * b"a", is_chunked=is_chunked, path="/other"))
        assert (await connection.response()).json() == {"size": 10}
        connection.send(whole(1001 * b"a", is_chunked=is_chunked))
        await refused(connection, 413)


@FRAMINGS
async def test_time_that_a_handler_class_gives_its_body_replaces_that_of_the_service(
    is_chunked: bool,
) -> None:
    application = Application(Settings(idle_timeout=0.2), [Route("/", SlowBody)])
    async with serving(application) as client, RawConnection(client.port) as connection:
        connection.send(head(None if is_chunked else 10))
        response = await refused(connection, 408)
    assert response.json()["detail"] == "The body did not arrive within 0.05 s."


@FRAMINGS
@pytest.mark.parametrize("waits", [False, True])
async def test_handler_can_refuse_a_body_before_its_end(
    is_chunked: bool, waits: bool, log_records: list[Record]
) -> None:
    handlers: list[Streams] = []

    async def refuse_later() -> None:
        await asyncio.sleep(0)
        raise Problem(507, "No room is left.", headers={"Retry-After": "7"})

    def refuse(handler: Streams) -> Awaitable[None]:
        handlers.append(handler)
        if waits:
            return refuse_later()
        raise Problem(507, "No room is left.", headers={"Retry-After": "7"})

    async with (
        serving(app(data_received=refuse)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(900_000 * b"a", is_chunked=is_chunked))
        response = await refused(connection, 507)
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.in_flight
    assert response.json()["detail"] == "No room is left."
    assert response.headers["Retry-After"] == "7"
    assert [handler.is_closed for handler in handlers] == [True]
    [line] = access_lines(log_records)
    assert (line["http.route"], line["http.response.status_code"]) == ("/", 507)
    assert [e["message"] for e in errors(log_records)] == [
        "POST /: HTTP 507: Insufficient Storage (No room is left.)"
    ]


async def test_too_large_is_said_before_malformed_however_the_body_is_split() -> None:
    data = head(None).encode() + b"b\r\n0123456789a\r\nnonsense\r\n"
    for split in range(1, len(data)):
        transport, _ = connect(make_app(Settings()), max_body_size=10)
        transport.feed(data[:split])
        transport.feed(data[split:])
        await wait_until(lambda: transport.has_written_eof)  # noqa: B023
        assert transport.sent.startswith(b"HTTP/1.1 413 "), split


# Malformed bodies, and clients that leave


async def test_malformed_body_is_refused_and_its_handler_told(log_records: list[Record]) -> None:
    handlers: list[Streams] = []
    async with (
        serving(app(data_received=handlers.append)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(None) + "3\r\nabc\r\n")
        await wait_until(lambda: handlers)
        connection.send("nonsense\r\n")
        response = await refused(connection, 400)
        assert response.json()["detail"] == "The size of a chunk is malformed."
    assert handlers[0].is_closed
    [line] = access_lines(log_records)
    assert (line["http.route"], line["http.response.status_code"]) == ("/", 400)
    assert errors(log_records) == []


async def test_malformed_body_behind_the_head_of_a_response_closes(
    log_records: list[Record],
) -> None:
    handlers: list[Streams] = []

    def prepare(handler: Streams) -> Awaitable[None]:
        handlers.append(handler)
        return handler.flush()

    async with (
        serving(app(prepare=prepare)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(None))
        await connection.read_until(b"\r\n\r\n")
        connection.send("nonsense\r\n")
        assert await connection.read_to_end() == b""  # neither an end nor another response
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    assert handlers[0].is_closed
    assert [line["http.response.status_code"] for line in access_lines(log_records)] == [400]
    assert errors(log_records) == []


@pytest.mark.parametrize("leave", [RawConnection.abort, RawConnection.send_eof])
@pytest.mark.parametrize("make", [make_app, app])
async def test_request_whose_client_leaves_before_the_end_of_its_body_is_logged_once(
    make: Callable[[Settings], Application],
    leave: Callable[[RawConnection], None],
    log_records: list[Record],
) -> None:
    path = "/" if make is app else "/items"
    async with (
        serving(make(Settings())) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(10, path=path) + "abc")
        await wait_until(lambda: client.app.connections.requests)
        leave(connection)
        if leave is RawConnection.send_eof:
            response = await refused(connection, 400)
            assert response.json()["detail"] == "The body ended before it was complete."
        await wait_until(lambda: not client.app.connections.open)
        await wait_until(lambda: not client.app.connections.busy)
    [line] = access_lines(log_records)
    status = 499 if leave is RawConnection.abort else 400
    assert (line["http.route"], line["http.response.status_code"]) == (path, status)
    assert line["request_id"]
    assert errors(log_records) == []


def return_none(handler: Streams) -> None: ...


def refuse(handler: Streams) -> None:
    raise Problem(401)


def fail_at_last(handler: Streams) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("step", ["prepare", "data_received"])
@pytest.mark.parametrize("then", [return_none, refuse, fail_at_last])
async def test_handler_that_receives_a_body_is_in_flight_although_its_client_has_left(
    step: str, then: Callable[[Streams], None], log_records: list[Record]
) -> None:
    arrived, released = asyncio.Event(), asyncio.Event()

    async def work(handler: Streams) -> None:
        arrived.set()
        await released.wait()
        then(handler)

    application = app(**{step: work})
    transport, _ = connect(application)
    transport.feed(head(10).encode() + b"abc")
    await arrived.wait()
    transport.abort()
    await wait_until(lambda: transport.is_lost)
    assert len(application.connections.requests) == 1
    released.set()
    await wait_until(lambda: not application.connections.busy)
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 499
    assert len(errors(log_records)) == (then is fail_at_last)


async def test_body_that_has_arrived_before_the_client_closed_is_handled() -> None:
    released = asyncio.Event()
    transport, _ = connect(app(prepare=lambda handler: released.wait()))
    transport.feed(whole(b"abc", is_chunked=False))
    transport.feed_eof()
    released.set()
    await wait_until(lambda: transport.is_lost)
    assert transport.sent.endswith(b'{"size":3}')


# Errors of handlers


def fail(handler: Streams) -> None:
    raise ZeroDivisionError


async def cancel(handler: Streams) -> None:
    raise asyncio.CancelledError


async def fail_later(handler: Streams) -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


@FRAMINGS
@pytest.mark.parametrize(
    "steps",
    [
        {"initialize": fail},
        {"data_received": fail},
        {"data_received": fail_later},
        {"data_received": cancel},
    ],
    ids=["initialize", "data_received", "data_received later", "cancelled"],
)
async def test_error_while_a_body_is_received_is_logged_and_refused(
    is_chunked: bool, steps: dict[str, Any], log_records: list[Record]
) -> None:
    async with (
        serving(app(**steps)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(b"abc", is_chunked=is_chunked))
        response = await refused(connection, 500)
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.busy
    [error], [line] = errors(log_records), access_lines(log_records)
    assert "Error" in error["exception.stacktrace"]
    assert (line["http.route"], line["http.response.status_code"]) == ("/", 500)
    assert error["request_id"] == line["request_id"] == response.headers["X-Request-ID"]


class Initializes(Handler):
    def initialize(self, error: Exception) -> None:
        raise error

    def post(self) -> None: ...


class Observer(Extension):
    """Counts what happens to requests."""

    def __init__(self) -> None:
        self.counts = Counter[str]()

    def request_started(self, request: Request) -> None:
        self.counts["started"] += 1

    def request_finished(self, handler: RequestHandler) -> None:
        self.counts[f"finished {handler.get_status()}"] += 1

    def request_failed(self, handler: RequestHandler, error: BaseException) -> None:
        self.counts["failed"] += 1


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError(), 500), (Problem(409, "Not now."), 409)]
)
async def test_error_in_initialize_is_an_error_like_others(
    error: Exception, status: int, log_records: list[Record]
) -> None:
    observer = Observer()
    application = Application(Settings(), [Route("/", Initializes, error=error)])
    async with (
        serving(application, extensions=[observer]) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(1, "X-Request-ID: 17", "Content-Type: x", path="/") + "{")
        response = await refused(connection, status)
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.busy
    assert response.headers["X-Request-ID"] == "17"
    [line] = access_lines(log_records)
    assert (line["http.route"], line["request_id"]) == ("/", "17")
    failed = {"failed": 1} if status == 500 else {}
    assert observer.counts == {"started": 1, f"finished {status}": 1, **failed}
    assert len(errors(log_records)) == len(failed)


def too_large(handler: Streams) -> None:
    raise Problem(413, "Only small ones.")


async def too_large_later(handler: Streams) -> None:
    await asyncio.sleep(0)
    raise Problem(413, "Only small ones.")


@FRAMINGS
@pytest.mark.parametrize("raises", [too_large, too_large_later])
async def test_problem_while_a_body_is_received_is_the_response(
    is_chunked: bool, raises: Callable[[Streams], Any], log_records: list[Record]
) -> None:
    async with (
        serving(app(data_received=raises)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(whole(b"abc", is_chunked=is_chunked))
        response = await refused(connection, 413)
        assert response.json()["detail"] == "Only small ones."
    [line] = access_lines(log_records)
    assert (line["http.route"], line["http.response.status_code"]) == ("/", 413)
    assert errors(log_records) == []


@stream_request_body
class RespondsAndFails(Handler):
    def data_received(self, chunk: bytes) -> None:
        self.finish()
        raise ZeroDivisionError


async def test_error_behind_a_response_is_logged_and_not_answered(
    log_records: list[Record],
) -> None:
    async with (
        serving(Application(Settings(), [Route("/", RespondsAndFails)])) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(10) + "abc")
        assert (await connection.read_to_end()).count(b"HTTP/1.1 ") == 1
        connection.send_eof()
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.busy
    assert [line["http.response.status_code"] for line in access_lines(log_records)] == [200]
    assert len(errors(log_records)) == 1


async def test_error_of_a_handler_whose_body_is_refused_does_not_harm_the_refusal(
    log_records: list[Record],
) -> None:
    async with serving(app(Settings(body_timeout=0.05), on_connection_close=fail)) as client:
        for body, status in ("3\r\nabc\r\nx\r\n", 400), ("ffffff\r\n", 413), ("3\r\n", 408):
            async with RawConnection(client.port) as connection:
                connection.send(head(None) + body)
                await refused(connection, status)
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    assert len(errors(log_records)) == 3
    assert all(
        "ZeroDivisionError" in error["exception.stacktrace"] for error in errors(log_records)
    )


async def test_error_of_a_handler_whose_client_leaves_is_logged(log_records: list[Record]) -> None:
    async with (
        serving(app(on_connection_close=fail)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(10))
        await wait_until(lambda: client.app.connections.requests)
        connection.send_eof()
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    [error], [line] = errors(log_records), access_lines(log_records)
    assert error["logger"] == "runtime.http1.connection"
    assert line["http.response.status_code"] == 400


async def test_failed_request_is_not_reported_as_malformed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        serving(app(initialize=fail)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(head(3) + "abc")
        await refused(connection, 500)
    assert "malformed" not in caplog.text
