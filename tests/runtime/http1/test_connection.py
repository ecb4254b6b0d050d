"""Connections: requests on them, limits, time-outs, and what is rejected."""

import asyncio
import re
import socket
from collections import Counter
from contextlib import AsyncExitStack
from contextvars import ContextVar
from http import HTTPStatus

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http1.connection import MAX_READ_AHEAD
from runtime.http1.exchange import Exchange
from runtime.logs.context import request_id
from runtime.settings import Settings
from runtime.testing import Client, Record, serving, wait_until
from tornado.httputil import HTTPHeaders, ResponseStartLine

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.sample_app import make_app
from ..support.transports import RecordingApplication, connect

REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


async def test_connection_is_reused_for_further_requests(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        for _ in range(3):
            response = await connection.get("/")
            assert response.status == HTTPStatus.OK
            assert "Connection" not in response.headers
        assert len(client.app.connections.open) == 1
    await wait_until(lambda: not client.app.connections.open)


async def test_idle_connection_is_open_but_has_no_request_in_flight(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        await connection.get("/")
        await wait_until(lambda: not client.app.connections.requests)
        assert len(client.app.connections.open) == 1
        assert not client.app.connections.busy


async def test_pipelined_requests_are_handled_in_order(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        connection.send(REQUEST + REQUEST.replace("GET /", "GET /nowhere"))
        assert (await connection.response()).status == HTTPStatus.OK
        assert (await connection.response()).status == HTTPStatus.NOT_FOUND


async def test_nothing_is_handled_behind_the_last_request(client: Client) -> None:
    last = REQUEST.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    async with RawConnection(client.port) as connection:
        connection.send(last + REQUEST)
        assert (await connection.read_to_end()).count(b"HTTP/1.1 ") == 1


async def test_each_request_of_a_connection_has_its_own_id(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        first = await connection.get("/", X_Request_ID="first")
        second = await connection.get("/nowhere", X_Request_ID="second")
        third = await connection.get("/")
    ids = [response.headers["X-Request-ID"] for response in (first, second, third)]
    assert ids[:2] == ["first", "second"]
    assert second.json()["request_id"] == "second"
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in access_lines(log_records)] == ids


async def test_malformed_request_is_logged_without_the_id_of_the_one_before(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        await connection.get("/", X_Request_ID="first")
        connection.send("nonsense\r\n\r\n")
        await connection.read_to_end()
    [record] = [record for record in log_records if record["message"].startswith("malformed")]
    assert record["request_id"] not in {None, "first"}


async def test_header_lines_that_end_in_bare_lf_are_rejected(client: Client) -> None:
    for bare in (
        REQUEST.replace("localhost\r\n", "localhost\n"),
        REQUEST.replace("HTTP/1.1\r\n", "HTTP/1.1\n"),
        REQUEST.replace("\r\n\r\n", "\n\n"),
        REQUEST.replace("\r\n\r\n", "\r\n\n"),
    ):
        async with RawConnection(client.port) as connection:
            connection.send(bare)
            assert (await connection.read_to_end()).startswith(b"HTTP/1.1 400 ")


async def test_body_may_contain_bare_lf(client: Client) -> None:
    assert (await client.post("/items", b'{\n"name":\n"cup"}')).code == HTTPStatus.CREATED


async def test_chunked_body_has_the_same_size_limit() -> None:
    head = (
        "POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    async with serving(make_app(Settings(max_body_size=20))) as client:
        async with RawConnection(client.port) as connection:
            connection.send(head + 'f\r\n{"name": "cup"}\r\n0\r\n\r\n')
            assert (await connection.response()).status == HTTPStatus.CREATED
        async with RawConnection(client.port) as connection:
            connection.send(f"{head}15\r\n{21 * ' '}\r\n0\r\n\r\n")
            assert (await connection.read_to_end()).startswith(b"HTTP/1.1 413 ")


async def test_headers_are_limited_to_16_kib(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        assert (await connection.get("/", Cookie=15 * 1024 * "x")).status == HTTPStatus.OK
    async with RawConnection(client.port) as connection:
        connection.send_get("/", Cookie=17 * 1024 * "x")
        assert b" 200 " not in await connection.read_to_end()


@pytest.mark.parametrize(("line", "status"), [("A: b\n", 400), ("A: b", 431), ("A b", 431)])
async def test_head_that_is_too_large_is_refused_wherever_it_is_split(
    line: str, status: int
) -> None:
    start = f"GET / HTTP/1.1\r\nHost: a\r\n{line}"
    data = f"{start}\r\nC: {16 * 1024 * 'd'}\r\n\r\n".encode()
    for place in 10, len(start), len(start) + 1, 16384, 16385, len(data) - 1, len(data):
        transport, _ = connect(RecordingApplication())
        transport.feed(data[:place])
        transport.feed(data[place:])
        assert transport.sent.startswith(f"HTTP/1.1 {status} ".encode()), place


async def test_idle_connection_is_closed_after_idle_timeout() -> None:
    async with (
        serving(make_app(Settings(idle_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        assert await connection.read_to_end() == b""


async def test_connection_is_closed_if_the_body_exceeds_body_timeout() -> None:
    async with (
        serving(make_app(Settings(body_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send("POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123")
        assert b" 201 " not in await connection.read_to_end()
        await wait_until(lambda: not client.app.connections.requests)


async def test_connection_closes_before_a_request_without_a_trace(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send("GET / HTTP/1.1\r\nHos")
        await wait_until(lambda: client.app.connections.open)
    await wait_until(lambda: not client.app.connections.open)
    assert access_lines(log_records) == []
    assert not [record for record in log_records if record["level"] == "error"]


async def test_connection_for_one_request_asks_the_client_to_connect_anew(client: Client) -> None:
    ours, theirs = socket.socketpair()
    client.server.accept(theirs, ("127.0.0.1", 0), close_after_response=True)
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(REQUEST.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in head


class Gate:
    """Lets the requests at `/slow` go on, and records what happens to them."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.arrived = Counter[str]()
        self.told = Counter[str]()
        """How often the handlers were told that the client has closed."""


class Waits(Handler):
    """Responds with its name as soon as the test lets it."""

    def initialize(self, gate: Gate) -> None:
        self.gate = gate

    async def get(self, name: str) -> None:
        self.gate.arrived[name] += 1
        await self.gate.opened.wait()
        self.reply({"name": name, "id": request_id.get()})

    def on_connection_close(self) -> None:
        self.gate.told[self.path_kwargs["name"]] += 1


class Quick(Handler):
    def get(self, name: str) -> None:
        self.reply({"name": name, "id": request_id.get()})


def gated_app(
    gate: Gate, settings: Settings | None = None, waits: type[Waits] = Waits
) -> Application:
    return Application(
        settings or Settings(),
        [Route("/slow/{name}", waits, gate=gate), Route("/quick/{name}", Quick)],
    )


def requests(*paths: str, lines: str = "") -> str:
    return "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n" for path in paths)


def names(responses: bytes) -> list[str]:
    """Return the names in several responses."""
    return re.findall(r'"name":"(\w+)"', responses.decode())


async def test_pipelined_request_waits_for_the_one_before() -> None:
    gate = Gate()
    async with serving(gated_app(gate)) as client, RawConnection(client.port) as connection:
        connection.send(requests("/slow/a", "/quick/b", "/slow/c"))
        await wait_until(lambda: gate.arrived)
        other = await client.get("/quick/other")  # several turns of the event loop
        assert other.code == HTTPStatus.OK
        assert gate.arrived == {"a": 1}
        gate.opened.set()
        assert [(await connection.response()).json()["name"] for _ in range(3)] == list("abc")


async def test_response_comes_before_the_refusal_of_what_follows() -> None:
    gate = Gate()
    async with serving(gated_app(gate)) as client, RawConnection(client.port) as connection:
        connection.send(requests("/slow/a") + "nonsense\r\n\r\n" + requests("/quick/b"))
        await wait_until(lambda: gate.arrived)
        gate.opened.set()
        assert (await connection.response()).json()["name"] == "a"
        assert re.findall(rb"HTTP/1.1 \d+", await connection.read_to_end()) == [b"HTTP/1.1 400"]


async def test_empty_line_before_a_request_is_ignored(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        for _ in range(2):
            connection.send(f"\r\n{REQUEST}")
            assert (await connection.response()).status == HTTPStatus.OK
        connection.send(f"\r\n\r\n{REQUEST}")
        assert (await connection.read_to_end()).startswith(b"HTTP/1.1 400 ")


async def test_reading_stops_while_requests_enough_have_been_read() -> None:
    application = RecordingApplication()
    transport, _ = connect(application)
    request = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (2000 * b"a")
    count = MAX_READ_AHEAD // len(request) + 2
    for sent in range(count):
        assert not transport.is_paused
        transport.feed(request)
        assert len(application.requests) == 1, sent
    assert transport.is_paused
    for position in range(count):
        await wait_until(lambda: len(application.requests) == position + 1)  # noqa: B023
        respond(application.requests[position].exchange)
    assert transport.sent.count(b"HTTP/1.1 204 ") == count
    assert not transport.is_paused


def respond(exchange: Exchange) -> None:
    exchange.write_headers(ResponseStartLine("", 204, "No Content"), HTTPHeaders())
    exchange.finish()


@pytest.mark.parametrize("paths", [["/quick/a"], ["/quick/a", "/quick/b", "/quick/c"]])
async def test_client_that_has_no_more_to_ask_gets_its_responses(paths: list[str]) -> None:
    async with serving(gated_app(Gate())) as client, RawConnection(client.port) as connection:
        connection.send(requests(*paths))
        connection.send_eof()
        assert names(await connection.read_to_end()) == [path[-1] for path in paths]
        await wait_until(lambda: not client.app.connections.open)


CHUNKED = (
    "POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET http://localhost/items/cup HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET HTTP://other.example:80/items/cup?a=b HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (f'{CHUNKED}f;a;b=c;d="e f"\r\n{{"name": "cup"}}\r\n0;g\r\n\r\n', 201),
        (f'{CHUNKED}f\r\n{{"name": "cup"}}\r\n0\r\nX-Checksum: 1\r\nX-Signed: a\r\n\r\n', 201),
    ],
    ids=["absolute", "absolute for another host", "extensions", "trailers"],
)
@pytest.mark.parametrize("has_more_to_ask", [True, False])
async def test_unusual_request_is_answered_as_usual(
    client: Client, request_: str, status: int, has_more_to_ask: bool, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send(request_)
        if not has_more_to_ask:
            connection.send_eof()
        response = await connection.response()
        assert (response.status, response.json()) == (status, {"name": "cup"})
        if not has_more_to_ask:
            assert await connection.read_to_end() == b""
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == status
    assert line["url.path"] in {"/items", "/items/cup"}


async def test_slow_handler_of_a_client_that_has_no_more_to_ask_is_told_and_heard(
    log_records: list[Record],
) -> None:
    gate = Gate()
    async with serving(gated_app(gate)) as client, RawConnection(client.port) as connection:
        connection.send(requests("/slow/a", "/slow/b", "/quick/c"))
        await wait_until(lambda: gate.arrived)
        connection.send_eof()
        await wait_until(lambda: gate.told)
        assert client.app.connections.requests
        gate.opened.set()
        assert names(await connection.read_to_end()) == ["a", "b", "c"]
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    assert gate.told == {"a": 1}
    assert access_lines(log_records)[0]["http.response.status_code"] == 499


@pytest.mark.parametrize("pipelined", [1, 3])
async def test_quick_response_to_a_client_that_has_no_more_to_ask_is_logged_as_it_was(
    pipelined: int, log_records: list[Record]
) -> None:
    transport, _ = connect(gated_app(Gate()))
    transport.feed(requests(*pipelined * ["/quick/a"]).encode())
    transport.feed_eof()  # before the handler has begun
    await wait_until(lambda: transport.is_lost)
    assert names(transport.sent) == pipelined * ["a"]
    lines = access_lines(log_records)
    assert [line["http.response.status_code"] for line in lines] == pipelined * [200]


@pytest.mark.parametrize("has_more_to_ask", [True, False])
async def test_slow_handler_has_any_time_while_its_client_waits(has_more_to_ask: bool) -> None:
    gate = Gate()
    settings = Settings(idle_timeout=0.05, body_timeout=0.05)
    async with (
        serving(gated_app(gate, settings)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(requests("/slow/a"))
        await wait_until(lambda: gate.arrived)
        if not has_more_to_ask:
            connection.send_eof()
        for _ in range(2):
            async with RawConnection(client.port) as idle:
                await idle.read_to_end()  # so its time would be over, too
        gate.opened.set()
        assert (await connection.response()).json()["name"] == "a"


async def test_client_that_has_gone_is_told_and_logged(log_records: list[Record]) -> None:
    gate = Gate()
    async with serving(gated_app(gate)) as client, RawConnection(client.port) as connection:
        connection.send(requests("/slow/a", "/slow/b"))
        await wait_until(lambda: gate.arrived)
        connection.abort()
        await wait_until(lambda: gate.told)
        await wait_until(lambda: not client.app.connections.open)
        assert len(client.app.connections.requests) == 1
        gate.opened.set()
        await wait_until(lambda: not client.app.connections.busy)
    assert gate.arrived == gate.told == {"a": 1}
    assert [line["message"] for line in access_lines(log_records)] == ["GET /slow/a 499"]


class Long(Handler):
    """Responds with more than a client takes at once."""

    def get(self) -> None:
        self.finish(1000 * b"a")


@pytest.mark.parametrize("has_more_to_ask", [True, False])
async def test_client_that_reads_a_response_slowly_has_any_time_and_one_that_stops_has_not(
    has_more_to_ask: bool,
) -> None:
    transport, connection = connect(Application(Settings(), [Route("/", Long)]), idle_timeout=10)
    transport.block()
    transport.feed(requests("/").encode())
    await wait_until(lambda: transport.sent)
    if not has_more_to_ask:
        transport.feed_eof()
    now = asyncio.get_running_loop().time()
    for unsent in range(900, 0, -100):
        transport.unsent = unsent
        connection.check_deadline(connection.deadline - 0.01)
        connection.check_deadline(connection.deadline + 0.01)
        assert not transport.was_aborted
        assert connection.deadline <= now + 20
    connection.check_deadline(connection.deadline + 0.01)
    assert transport.was_aborted


async def test_time_without_a_response_does_not_count_as_slow_reading() -> None:
    gate = Gate()
    transport, connection = connect(gated_app(gate), idle_timeout=10)
    transport.feed(requests("/slow/a").encode())
    await wait_until(lambda: gate.arrived)
    gate.opened.set()
    transport.block()
    await wait_until(lambda: transport.sent)
    assert connection.deadline < float("inf")
    transport.unblock()
    connection.check_deadline(connection.deadline - 1)  # now for the next request
    assert not transport.was_aborted


class Fails(Waits):
    def on_connection_close(self) -> None:
        super().on_connection_close()
        raise ZeroDivisionError


@pytest.mark.parametrize("leaves", [True, False])
async def test_error_of_a_handler_that_is_told_is_logged(
    leaves: bool, log_records: list[Record]
) -> None:
    gate = Gate()
    async with (
        serving(gated_app(gate, waits=Fails)) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send(requests("/slow/a", lines="X-Request-ID: 17\r\n"))
        await wait_until(lambda: gate.arrived)
        if leaves:
            connection.abort()
        else:
            connection.send_eof()
        await wait_until(lambda: gate.told)
        gate.opened.set()
        if not leaves:
            assert names(await connection.read_to_end()) == ["a"]
        await wait_until(lambda: access_lines(log_records))
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    [error] = [record for record in log_records if record["level"] == "error"]
    assert "ZeroDivisionError" in error["exception.stacktrace"]
    assert error["request_id"] == "17"


async def test_ids_never_get_to_another_request(log_records: list[Record]) -> None:
    gate = Gate()
    async with serving(gated_app(gate)) as client, AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(RawConnection(client.port)) for _ in range(3)
        ]
        for number, connection in enumerate(connections):
            connection.send(
                requests("/slow/a", lines=f"X-Request-ID: {number}a\r\n")
                + requests("/quick/b")
                + requests("/quick/c", lines=f"X-Request-ID: {number}c\r\n")
                + "nonsense\r\n\r\n"
            )
        await wait_until(lambda: gate.arrived["a"] == 3)
        gate.opened.set()
        seen = set()
        for number, connection in enumerate(connections):
            first, second, third = [await connection.response() for _ in range(3)]
            for response in first, second, third:
                assert response.json()["id"] == response.headers["X-Request-ID"]
            assert (first.json()["id"], third.json()["id"]) == (f"{number}a", f"{number}c")
            assert (await connection.response()).status == HTTPStatus.BAD_REQUEST
            seen.add(second.json()["id"])
    ids = [record["request_id"] for record in log_records if record["logger"] != "asyncio"]
    assert len(seen) == 3
    assert Counter(ids).keys() >= {"0a", "0c", "1a", "1c", "2a", "2c", *seen}
    assert set(Counter(ids).values()) == {1}


LEAK = ContextVar("LEAK", default="nothing")


class Leaks(Handler):
    """Sets a context variable wherever it can, and responds with what it was before."""

    def initialize(self) -> None:
        self.before = LEAK.get()
        LEAK.set("initialize")

    async def get(self) -> None:
        LEAK.set("get")
        await asyncio.sleep(0)
        self.reply(self.before)
        LEAK.set("get, after the response")


async def test_context_variables_never_get_to_another_request() -> None:
    request = requests("/")
    async with serving(Application(Settings(), [Route("/", Leaks)])) as client:
        for _ in range(2):
            async with RawConnection(client.port) as connection:
                for pipelined in request, 3 * request, request:
                    connection.send(pipelined)
                    for _ in range(pipelined.count("GET")):
                        assert (await connection.response()).json() == "nothing"


async def test_connection_of_http_1_0_is_reused_if_the_client_asks_for_it(client: Client) -> None:
    old = REQUEST.replace("1.1", "1.0")
    async with RawConnection(client.port) as connection:
        for _ in range(2):
            connection.send(old.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n"))
            assert (await connection.response()).headers["Connection"] == "Keep-Alive"
        connection.send(old)
        assert (await connection.response()).headers["Connection"] == "close"
        assert await connection.read_to_end() == b""


async def test_head_that_takes_too_long_is_not_waited_for() -> None:
    async with (
        serving(make_app(Settings(idle_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        await connection.get("/")
        connection.send("GET / HTTP/1.1\r\n")
        assert await connection.read_to_end() == b""
        await wait_until(lambda: not client.app.connections.open)
