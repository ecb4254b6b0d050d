"""Random requests: no failure, no hang, no ambiguity, and the same understanding as Tornado's.

``FUZZ=100`` in the environment tries a hundred times as many.
"""

import asyncio
import fcntl
import logging
import os
import re
import socket
import sys
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, cast

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.routing import Route
from runtime.http1.connection import Connection
from runtime.http1.head import MAX_HEAD_SIZE
from runtime.settings import Settings
from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream
from tornado.web import stream_request_body

from ..support.transports import FakeTransport, RecordingApplication, RecordingDelegate, connect

FACTOR = int(os.environ.get("FUZZ", "1"))
MAX_BODY_SIZE = 60

examples = settings(
    database=None, deadline=None, derandomize=FACTOR == 1, max_examples=300 * FACTOR
)

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET /items/cup?b=c HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\nAccept:\tb \r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 17\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://b/items/cup HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://a\r\n\r\n",
    b'POST /items HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n{"name":"cup"}',
    b"PUT /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 5,5\r\n\r\n\r\n\r\n\n",
    b"PUT /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n0123456789abc",
    b"POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"nam\r\n9\r\ne":"cup"}\r\n0\r\n\r\n',
    b"PUT /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"1;b=c\r\n0\r\nA\r\n\r\n0\r\n\r\n\r\n0\r\n0\r\nTrailer-Field: b\r\n\r\n",
    b"PUT /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"GET /fails HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]
CHUNKED = b"PUT /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"5",
    b"ff",
    b"-",
    b"\xe9",
    b"\x80",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET ",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"%",
    b"%2f",
    b"?",
    b"#",
    b"http://",
    b"100000000000000000000",
    17_000 * b"a",
]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few requests in a row, of which a few bytes have changed."""
    data = b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 5, 30])))
        new = draw(st.sampled_from([b"", data[start:end], *TOKENS]) | st.binary(max_size=3))
        kind = draw(st.sampled_from(["replace", "insert"]))
        data = data[:start] + new + data[end if kind == "replace" else start :]
    return data


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, whole and in pieces."""
    data = draw(streams())
    places = draw(st.lists(st.integers(0, len(data)), max_size=8))
    return data, split(data, places)


def split(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, *places, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]


class Root(Handler):
    def get(self) -> None:
        self.reply({"root": True})


class Item(Handler):
    async def get(self, name: str) -> None:
        await asyncio.sleep(0)
        self.reply({"name": name})


class Items(Handler):
    def post(self) -> None:
        self.reply({"size": len(self.request.body)})


@stream_request_body
class Stream(Handler):
    async def prepare(self) -> None:
        self.body = b""
        await asyncio.sleep(0)
        if self.request.method != "PUT":
            raise Problem(405)

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.body += chunk

    def put(self) -> None:
        self.reply({"body": self.body.hex()})


class Fails(Handler):
    def get(self) -> None:
        raise Problem(404)


APP = Application(
    Settings(),
    [
        Route("/", Root),
        Route("/items", Items),
        Route("/items/{name}", Item),
        Route("/stream", Stream),
        Route("/fails", Fails),
    ],
)


class Errors(logging.Handler):
    """Collects what is logged at level error while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)


async def feed(pieces: Iterable[bytes]) -> tuple[FakeTransport, Connection]:
    """Feed pieces to a new connection, each when the one before has been dealt with."""
    transport, connection = connect(APP, max_body_size=MAX_BODY_SIZE)
    for piece in pieces:
        transport.feed(piece)
        await until_still(transport)
    return transport, connection


async def until_still(transport: FakeTransport) -> None:
    """Wait until nothing happens any more: no handler here needs as many turns of the loop."""
    before, turns = None, 0
    while turns < 8:
        await asyncio.sleep(0)
        now = (len(transport.sent), transport.is_paused, transport.is_lost, asyncio.all_tasks())
        before, turns = now, turns + 1 if now == before else 0


async def responses(pieces: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Return the statuses and bodies of the responses to a stream, without what is random."""
    transport, _ = await feed(pieces)
    transport.feed_eof()
    await until_still(transport)
    assert transport.is_lost
    return parse(transport.sent)


def parse(sent: bytes) -> list[tuple[int, bytes]]:
    """Parse responses. One to HEAD has no body; the others have one that does not begin with H."""
    parsed = []
    while sent:
        match = re.match(rb"HTTP/1\.1 (\d{3}) [ -~]+\r\n((?:[!-~]+: [ -~]*\r\n)*)\r\n", sent)
        assert match, sent
        head, sent = match[0], sent[match.end() :]
        status = int(match[1])
        if status == 100:
            continue
        [length] = re.findall(rb"\r\nContent-Length: (\d+)\r\n", head)
        body = b"" if sent.startswith(b"HTTP/1.1") else sent[: int(length)]
        sent = sent[len(body) :]
        parsed.append((status, re.sub(rb"[0-9a-f]{32}", b"id", body)))
    return parsed


@given(split_streams())
@examples
def test_any_stream_gets_responses_until_the_connection_closes(
    stream: tuple[bytes, list[bytes]],
) -> None:
    with Errors() as errors:
        whole = asyncio.run(responses([stream[0]]))
        assert asyncio.run(responses(stream[1])) == whole
    assert errors.messages == []
    assert not [status for status, _ in whole if status >= 500]


@given(split_streams())
@examples
def test_no_stream_keeps_a_connection_open(stream: tuple[bytes, list[bytes]]) -> None:
    async def wait_for_deadlines() -> None:
        transport, connection = await feed(stream[1])
        for _ in range(3):  # no head, no body, no end of what is discarded
            connection.check_deadline(asyncio.get_running_loop().time() + 1000)
            await until_still(transport)
        assert transport.is_lost
        parse(transport.sent)

    with Errors() as errors:
        asyncio.run(wait_for_deadlines())
    assert errors.messages == []


@pytest.mark.parametrize(
    "stream",
    [
        *REQUESTS,
        b"".join(REQUESTS[5:9]),
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 61\r\n\r\n" + 61 * b"a",
        CHUNKED + b"3\r\nabcd\r\n",
        CHUNKED + b"3d\r\nabcd\r\nx\r\n",
        CHUNKED + b"0\r\nHost: a\r\n\r\n",
    ],
)
def test_responses_are_the_same_wherever_a_stream_is_split(stream: bytes) -> None:
    async def check() -> None:
        whole = await responses([stream])
        assert whole
        for place in range(1, len(stream)):
            assert await responses(split(stream, [place])) == whole, place
        assert await responses(split(stream, range(len(stream)))) == whole

    with Errors() as errors:
        asyncio.run(check())
    assert errors.messages == []


Understood = tuple[str, str, list[tuple[str, str]], bytes]
"""Method, target, headers and body of a request."""


@dataclass
class Reading:
    """What a server has understood of a stream."""

    requests: list[Understood]
    is_closed: bool
    """Whether it will read no more: the client wants it so, or the rest is refused."""


def understood(application: RecordingApplication) -> list[Understood]:
    return [_understood(request) for request in application.requests if request.is_finished]


def _understood(request: RecordingDelegate) -> Understood:
    method, target, _ = cast(RequestStartLine, request.start_line)
    headers = {name: request.headers[name] for name in request.headers}
    if "Content-Length" in headers:  # Tornado leaves one of several that are equal
        headers["Content-Length"] = headers["Content-Length"].partition(",")[0].strip()
    absolute = re.match("(?i)https?://([^/?]+)/?", target)
    if absolute:  # Tornado leaves it as it is
        target, headers["Host"] = f"/{target[absolute.end() :]}", absolute[1]
    return method, target, sorted(headers.items()), request.body


def respond(connection: HTTPConnection) -> None:
    connection.write_headers(ResponseStartLine("", 200, "OK"), HTTPHeaders({"Content-Length": "0"}))
    connection.finish()


async def ours(stream: bytes) -> Reading:
    application = RecordingApplication(respond)
    transport, _ = connect(application, max_body_size=MAX_BODY_SIZE)
    transport.feed(stream)
    await until_still(transport)
    return Reading(understood(application), transport.is_closing() or transport.has_written_eof)


async def tornados(stream: bytes) -> Reading:
    near, far = socket.socketpair()
    application = RecordingApplication(respond)
    parameters = HTTP1ConnectionParameters(
        max_header_size=MAX_HEAD_SIZE, max_body_size=MAX_BODY_SIZE
    )
    with near:
        near.sendall(stream)
        io = IOStream(far)
        server = HTTP1ServerConnection(io, parameters)
        server.start_serving(application)
        waiting = 0
        while waiting < 5 and not io.closed():
            await asyncio.sleep(0)
            waiting = waiting + 1 if io.reading() and not bytes_unread(far) else 0
        reading = Reading(understood(application), io.closed())
        await server.close()
    return reading


def bytes_unread(sock: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)


MORE_THAN_TORNADO = re.compile(
    rb"""
    (^|\r\n) [!-~]+ \ https?://            # absolute targets
    | [0-9a-fA-F] [\t ]* ; [^\r\n]* \r\n   # extensions of chunks
    | \r\n 0+ \r\n [!-~]+ :               # trailer fields
    | HTTP/1\.0 \r\n                       # connections that are reused without a body
    | .{16384}                             # lines whose end is counted, or not
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""What is served here and not by Tornado."""


@given(streams())
@examples
def test_where_a_request_ends_is_understood_as_by_tornado(stream: bytes) -> None:
    mine, theirs = asyncio.run(ours(stream)), asyncio.run(tornados(stream))
    event(f"{len(mine.requests)} requests, {len(theirs.requests)} of Tornado's")
    for one, other in zip(mine.requests, theirs.requests, strict=False):
        assert one == other
    if not mine.is_closed and not theirs.is_closed:
        assert len(mine.requests) == len(theirs.requests)
    if theirs.is_closed and not MORE_THAN_TORNADO.search(stream):
        assert len(mine.requests) <= len(theirs.requests)
