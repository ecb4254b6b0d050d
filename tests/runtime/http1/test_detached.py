"""Connections that go on as WebSockets: nothing is lost, and nothing is mixed up."""

import asyncio
import socket
import struct

import pytest
from runtime.http.application import Application
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.http1.detached import DetachedStream, closed_stream
from runtime.settings import Settings
from runtime.testing import Record, serving, wait_until
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.transports import RecordingApplication, connect

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASK = b"\x11\x22\x33\x44"
TEXT, CLOSE = 1, 8


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a frame as a client sends it."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack("!Q", size)
    masked = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 | opcode]) + length + MASK + masked


def sent_frame(payload: bytes) -> bytes:
    """Return a frame as the service sends it."""
    return bytes([0x80 | TEXT, len(payload)]) + payload


class Echo(WebSocket):
    """Returns the beginning of each message."""

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message[:10])


def app() -> Application:
    return Application(Settings(), [Route("/", Echo)])


async def test_frames_may_come_together_with_the_handshake() -> None:
    async with serving(app()) as client, RawConnection(client.port) as connection:
        connection.send(HANDSHAKE + frame(b"a") + frame(200_000 * b"b") + frame(b"c"))
        assert (await connection.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await connection.read_until(b"a") == sent_frame(b"a")
        assert await connection.read_until(b"c") == sent_frame(10 * b"b") + sent_frame(b"c")
        connection.send(frame(b"d"))
        assert await connection.read_until(b"d") == sent_frame(b"d")
        assert client.app.connections.websockets
        assert not client.app.connections.open
        assert not client.app.connections.requests


@pytest.mark.parametrize("split", [1, 100, len(HANDSHAKE) - 1, len(HANDSHAKE), len(HANDSHAKE) + 3])
async def test_frames_arrive_however_the_data_is_split(split: int) -> None:
    data = HANDSHAKE + frame(b"message") + frame(b"", CLOSE)
    async with serving(app()) as client, RawConnection(client.port) as connection:
        connection.send(data[:split])
        await wait_until(lambda: client.app.connections.busy or client.app.connections.open)
        connection.send(data[split:])
        response = await connection.read_to_end()
        await wait_until(lambda: not client.app.connections.busy)
    assert sent_frame(b"message") in response


async def test_frames_arrive_behind_pipelined_requests() -> None:
    ordinary = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
    async with serving(app()) as client, RawConnection(client.port) as connection:
        connection.send(2 * ordinary + HANDSHAKE + frame(b"message"))
        for _ in range(2):
            assert (await connection.response()).status == 404
        assert (await connection.response()).status == 101
        assert await connection.read_until(b"message") == sent_frame(b"message")


async def test_client_that_closes_behind_its_frames_is_heard(log_records: list[Record]) -> None:
    async with serving(app()) as client, RawConnection(client.port) as connection:
        connection.send(HANDSHAKE + frame(b"a") + frame(b"b"))
        connection.send_eof()
        response = await connection.read_to_end()
        await wait_until(lambda: not client.app.connections.busy)
    assert response.startswith(b"HTTP/1.1 101 ")
    assert [record for record in log_records if record["level"] == "error"] == []
    assert access_lines(log_records)[0]["url.path"] == "/"


async def test_websocket_that_is_closed_closes_the_connection() -> None:
    async with serving(app()) as client, RawConnection(client.port) as connection:
        connection.send(HANDSHAKE)
        await connection.read_until(b"\r\n\r\n")
        [websocket] = client.app.connections.websockets
        websocket.close()
        connection.send(frame(b"", CLOSE))
        # One descriptor of the socket is left to the transport if this does not end.
        await connection.read_to_end()


async def test_client_that_has_gone_gets_a_closed_stream() -> None:
    application = RecordingApplication()
    transport, connection = connect(application)
    transport.feed(HANDSHAKE)
    exchange = application.requests[0].exchange
    transport.abort()
    stream = exchange.detach()
    assert stream.closed()
    await wait_until(lambda: transport.is_lost)
    assert exchange.detach().closed()
    assert connection.is_closed


async def test_response_before_the_handshake_must_have_left() -> None:
    application = RecordingApplication()
    transport, _ = connect(application)
    transport.feed(HANDSHAKE)
    exchange = application.requests[0].exchange
    transport.block()
    exchange.write_headers(ResponseStartLine("", 101, "Switching"), HTTPHeaders())
    assert exchange.detach().closed()  # what the transport has not sent would be lost or mixed up
    assert transport.was_aborted


async def test_stream_begins_with_what_was_received() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        stream = DetachedStream(theirs.fileno(), b"0123456789")
        theirs.close()  # the stream has a descriptor of its own
        assert await stream.read_bytes(3) == b"012"
        assert await stream.read_until(b"8") == b"345678"
        ours.sendall(b"abc")
        assert await stream.read_bytes(4) == b"9abc"
        await stream.write(b"def")
        assert await asyncio.get_running_loop().sock_recv(ours, 10) == b"def"
        ours.close()
        with pytest.raises(StreamClosedError):
            await stream.read_bytes(1)


async def test_large_beginning_is_read_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        received = bytes(range(256)) * 1000
        stream = DetachedStream(theirs.fileno(), received)
        assert await stream.read_bytes(len(received)) == received
        stream.close()


async def test_closed_stream_is_closed() -> None:
    stream = closed_stream()
    assert stream.closed()
    with pytest.raises(StreamClosedError):
        await stream.read_bytes(1)
