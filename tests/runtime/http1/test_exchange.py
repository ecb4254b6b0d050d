"""Responses: their framing, what is refused, and whether the connection stays open."""

import asyncio
import re

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http1.connection import Connection
from runtime.http1.exchange import Exchange
from runtime.settings import Settings
from runtime.testing import Record, serving, wait_until
from tornado.httputil import HTTPHeaders, HTTPOutputError, ResponseStartLine
from tornado.iostream import StreamClosedError

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.transports import FakeTransport, RecordingApplication, connect


def begin(
    method: str = "GET", version: str = "1.1", connection: str | None = None
) -> tuple[Exchange, FakeTransport]:
    """Send a request on a new connection; return what writes the response, and the transport."""
    application = RecordingApplication()
    transport, _ = connect(application)
    line = f"Connection: {connection}\r\n" if connection else ""
    transport.feed(f"{method} / HTTP/{version}\r\nHost: a\r\n{line}\r\n".encode())
    return application.requests[0].exchange, transport


def write_head(
    exchange: Exchange, status: int = 200, body: bytes | None = None, **headers: str
) -> None:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    exchange.write_headers(ResponseStartLine("", status, "Reason"), HTTPHeaders(names), body)


def begin_first_of_two(
    application: RecordingApplication,
) -> tuple[FakeTransport, Connection, Exchange]:
    """Send two requests on a new connection, and begin the response to the first one."""
    transport, connection = connect(application)
    transport.feed(2 * b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange = application.requests[0].exchange
    write_head(exchange)
    return transport, connection, exchange


def split(response: bytes) -> tuple[list[str], bytes]:
    """Return the lines of the head but for the date, and the bytes behind it."""
    head, _, body = response.partition(b"\r\n\r\n")
    return re.sub("\r\nDate: [^\r]*", "", head.decode()).split("\r\n"), body


def is_served(transport: FakeTransport) -> bool:
    """Return whether another request on a connection is read."""
    before = transport.sent
    transport.feed(b"nonsense\r\n\r\n")
    return b"HTTP/1.1 400 " in transport.sent[len(before) :]


@pytest.mark.parametrize(
    ("request_line", "status", "headers", "expected", "body"),
    [
        (("GET", "1.1"), 200, {"Content_Length": "3"}, ["Content-Length: 3"], b"abc"),
        (("GET", "1.1"), 200, {}, ["Transfer-Encoding: chunked"], b"3\r\nabc\r\n0\r\n\r\n"),
        (("GET", "1.0"), 200, {}, ["Connection: close"], b"abc"),
        (
            ("GET", "1.0"),
            200,
            {"Content_Length": "3"},
            ["Content-Length: 3", "Connection: close"],
            b"abc",
        ),
        (("HEAD", "1.1"), 200, {"Content_Length": "3"}, ["Content-Length: 3"], b""),
        (("HEAD", "1.1"), 200, {}, [], b""),
        (("GET", "1.1"), 304, {"Content_Length": "3"}, ["Content-Length: 3"], b""),
        (("GET", "1.1"), 304, {}, [], b""),
        (("GET", "1.1"), 204, {}, [], b""),
        (("POST", "1.1"), 205, {"Content_Length": "0"}, ["Content-Length: 0"], b""),
    ],
)
async def test_framing(
    request_line: tuple[str, str],
    status: int,
    headers: dict[str, str],
    expected: list[str],
    body: bytes,
) -> None:
    exchange, transport = begin(*request_line)
    write_head(exchange, status, **headers)
    if body:
        exchange.write(b"abc")
    exchange.finish()
    assert split(transport.sent) == ([f"HTTP/1.1 {status} Reason", *expected], body)
    assert transport.is_closing() is ("Connection: close" in expected)
    assert transport.is_closing() or is_served(transport)


async def test_body_without_length_ends_with_the_connection_in_http_1_0() -> None:
    exchange, transport = begin("GET", "1.0", "keep-alive")
    write_head(exchange, body=b"ab")
    exchange.finish()
    assert split(transport.sent) == (["HTTP/1.1 200 Reason", "Connection: close"], b"ab")
    assert transport.is_closing()


async def test_body_is_chunked_as_it_is_written() -> None:
    exchange, transport = begin()
    write_head(exchange, body=b"ab")
    exchange.write(b"")  # would be the last chunk
    exchange.write(17 * b"c")
    exchange.write(b"")
    exchange.finish()
    body = b"2\r\nab\r\n11\r\n" + 17 * b"c" + b"\r\n0\r\n\r\n"
    assert split(transport.sent)[1] == body
    assert exchange.body_size == 19


async def test_body_of_known_length_is_sent_as_it_is_written() -> None:
    exchange, transport = begin()
    write_head(exchange, body=b"ab", Content_Length="40005")
    exchange.write(40000 * b"c")  # large, so not copied
    exchange.write(b"def")
    exchange.finish()
    assert split(transport.sent)[1] == b"ab" + 40000 * b"c" + b"def"
    assert is_served(transport)


async def test_large_body_is_sent_behind_its_head() -> None:
    exchange, transport = begin()
    write_head(exchange, body=40000 * b"c", Content_Length="40000")
    assert split(transport.sent) == (
        ["HTTP/1.1 200 Reason", "Content-Length: 40000"],
        40000 * b"c",
    )


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_body_where_none_is_allowed_closes_the_connection(method: str, status: int) -> None:
    # A client would take it for the beginning of the next response.
    exchange, transport = begin(method)
    write_head(exchange, status)
    with pytest.raises(HTTPOutputError):
        exchange.write(b"a")
    assert transport.was_aborted
    assert split(transport.sent)[1] == b""


async def test_more_bytes_than_content_length_close_the_connection() -> None:
    exchange, transport = begin()
    write_head(exchange, body=b"a", Content_Length="3")
    exchange.write(b"bc")
    with pytest.raises(HTTPOutputError):
        exchange.write(b"d")
    assert transport.was_aborted
    assert transport.sent.endswith(b"\r\n\r\nabc")


async def test_more_bytes_than_content_length_are_not_sent_with_the_head() -> None:
    exchange, transport = begin()
    with pytest.raises(HTTPOutputError):
        write_head(exchange, body=b"abcd", Content_Length="3")
    assert transport.was_aborted
    assert transport.sent == b""


async def test_less_bytes_than_content_length_close_the_connection() -> None:
    exchange, transport = begin()
    write_head(exchange, body=b"ab", Content_Length="3")
    with pytest.raises(HTTPOutputError):
        exchange.finish()
    assert transport.was_aborted


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("A", "b\r\nSet-Cookie: c", "OK"),
        ("A", "b\nc", "OK"),
        ("A", "b\rc", "OK"),
        ("A", "b\r\n\r\nc", "OK"),
        ("A\r\nB", "c", "OK"),
        ("A", "b", "OK\r\nC: d"),
        ("A", "b", "OK\n"),
    ],
)
async def test_response_with_injected_lines_is_not_sent(name: str, value: str, reason: str) -> None:
    exchange, transport = begin()
    headers = HTTPHeaders()
    headers[name] = value  # without the checks of `add`
    with pytest.raises(ValueError, match="CR or LF"):
        exchange.write_headers(ResponseStartLine("", 200, reason), headers)
    assert transport.sent == b""


async def test_second_response_is_refused() -> None:
    exchange, transport = begin()
    write_head(exchange, Content_Length="0")
    sent = transport.sent
    with pytest.raises(HTTPOutputError):
        write_head(exchange, Content_Length="0")
    exchange.finish()
    with pytest.raises(HTTPOutputError):
        write_head(exchange, Content_Length="0")
    with pytest.raises(HTTPOutputError):
        exchange.write(b"a")
    assert transport.sent == sent
    assert is_served(transport)


async def test_server_and_request_id_cannot_be_set_by_a_handler() -> None:
    exchange, transport = begin()
    exchange.request_id = "17"
    write_head(exchange, Content_Length="0", Server="b", X_Request_Id="c")
    assert split(transport.sent)[0][1:] == ["Content-Length: 0", "X-Request-ID: 17"]


@pytest.mark.parametrize("value", ["close", "Close", "Upgrade, CLOSE"])
async def test_handler_can_close_the_connection(value: str) -> None:
    exchange, transport = begin()
    write_head(exchange, Content_Length="0", Connection=value)
    exchange.finish()
    assert split(transport.sent)[0][1:] == ["Content-Length: 0", f"Connection: {value}"]
    assert transport.is_closing()


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", None, []),
        ("1.1", "keep-alive", []),
        ("1.1", "close", ["Connection: close"]),
        ("1.0", None, ["Connection: close"]),
        ("1.0", "keep-alive", ["Connection: Keep-Alive"]),
    ],
)
async def test_connection_stays_open_if_the_client_lets_it(
    version: str, connection: str | None, expected: list[str]
) -> None:
    exchange, transport = begin("GET", version, connection)
    write_head(exchange, Content_Length="0")
    exchange.finish()
    assert split(transport.sent)[0][2:] == expected
    assert transport.is_closing() is (expected == ["Connection: close"])
    assert transport.is_closing() or is_served(transport)


@pytest.mark.parametrize("header", [{}, {"Connection": "keep-alive"}, {"Connection": "Upgrade"}])
async def test_handler_cannot_keep_a_connection_open_that_has_to_close(
    header: dict[str, str],
) -> None:
    application = RecordingApplication()
    transport, _ = connect(application, closes_after_response=True)
    transport.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    write_head(application.requests[0].exchange, Content_Length="0", **header)
    application.requests[0].exchange.finish()
    assert transport.is_closing()
    assert "Connection: close" in split(transport.sent)[0]


async def test_switching_protocols_has_no_framing() -> None:
    exchange, transport = begin(connection="Upgrade")
    write_head(exchange, 101, Connection="Upgrade", Upgrade="a")
    exchange.finish()
    assert split(transport.sent) == (
        ["HTTP/1.1 101 Reason", "Upgrade: a", "Connection: Upgrade"],
        b"",
    )
    assert not transport.is_closing()


async def test_flush_waits_until_everything_has_been_taken() -> None:
    exchange, transport = begin()
    assert exchange.write_headers(
        ResponseStartLine("", 200, "OK"), HTTPHeaders({"Content-Length": "2"})
    ).done()
    transport.block()
    writes = [exchange.write(b"a"), exchange.write(b"b")]
    assert not any(write.done() for write in writes)
    exchange.finish()
    transport.feed(b"nonsense\r\n\r\n")
    assert b" 400 " not in transport.sent  # in flight until everything has left
    transport.unblock()
    await asyncio.gather(*writes)
    await wait_until(lambda: b"HTTP/1.1 400 " in transport.sent)


async def test_writes_fail_when_the_connection_closes() -> None:
    exchange, transport = begin()
    write_head(exchange)
    transport.block()
    waiting = exchange.write(b"a")
    transport.abort()
    late = exchange.write(b"b")
    await wait_until(lambda: transport.is_lost)
    for write in waiting, late:
        with pytest.raises(StreamClosedError):
            await write
    exchange.finish()
    assert exchange.client_left


async def test_response_is_being_sent_until_the_operating_system_has_taken_it() -> None:
    application = RecordingApplication()
    transport, _, first = begin_first_of_two(application)
    assert not first.is_sending
    transport.block()
    first.write(b"a")
    first.finish()
    assert first.is_sending
    transport.unblock()
    await wait_until(lambda: len(application.requests) == 2)
    second = application.requests[1].exchange
    transport.block()
    write_head(second)
    assert second.is_sending
    assert not first.is_sending  # but what follows it
    transport.abort()
    await wait_until(lambda: transport.is_lost)
    assert not second.is_sending


async def test_request_behind_an_aborted_response_is_not_handled() -> None:
    application = RecordingApplication()
    transport, connection, exchange = begin_first_of_two(application)
    exchange.abort()
    exchange.finish()
    await wait_until(lambda: transport.is_lost)
    await asyncio.sleep(0)
    assert len(application.requests) == 1
    assert not exchange.client_left  # but the handler has failed
    assert connection.is_closed


class TooMuch(Handler):
    async def get(self) -> None:
        self.set_header("Content-Length", "3")
        self.write("abc")
        await self.flush()
        self.write("d")
        await self.flush()


class TooLittle(Handler):
    def get(self) -> None:
        self.set_header("Content-Length", "3")
        self.finish("ab")


class Injected(Handler):
    def get(self) -> None:
        self._headers["A"] = "b\r\nSet-Cookie: c"  # without the checks of set_header
        self.finish("ab")


class BodyOfNoContent(Handler):
    async def get(self) -> None:
        self.set_status(204)
        self.write("HTTP/1.1 200 OK\r\n\r\n")
        await self.flush()


class Raises(Handler):
    async def get(self) -> None:
        self.write("abc")
        await self.flush()
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("handler", "end"),
    [
        (TooMuch, b"\r\n\r\nabc"),
        (TooLittle, b""),
        (Injected, b""),
        (BodyOfNoContent, b""),
        (Raises, b"3\r\nabc\r\n"),
    ],
)
async def test_response_that_a_handler_gets_wrong_is_cut_and_logged(
    handler: type[Handler], end: bytes, log_records: list[Record]
) -> None:
    request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving(Application(Settings(), [Route("/", handler)])) as client:
        async with RawConnection(client.port) as connection:
            connection.send(request + request)
            response = await connection.read_to_end()
        await wait_until(lambda: access_lines(log_records))
        await wait_until(lambda: not client.app.connections.open)
        assert not client.app.connections.requests
    assert response.endswith(end)
    assert response.count(b"HTTP/1.1 ") <= 1
    assert b"Set-Cookie" not in response
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 500
    assert [
        record["message"] for record in log_records if record["logger"].endswith("handler")
    ] == ["GET / failed"]
