"""A connection of the HTTP server without a socket: quick, and each step is the test's choice."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from runtime.http1.connection import Connection, Parameters
from runtime.http1.connections import Connections
from runtime.http1.defaults import DefaultHeaders
from runtime.http1.exchange import Peer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

PEER = Peer("192.0.2.1", ("192.0.2.1", 50000))


class FakeTransport(asyncio.Transport):
    """A transport whose other end is the test: it feeds what is received, and sees what is sent.

    The other end takes everything at once, until `block`.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._received: list[bytes] = []
        self._is_blocked = False
        self.sent = b""
        self.is_paused = False
        self.is_lost = False
        """Whether the protocol has been told that the connection is closed."""
        self.was_aborted = False
        self.has_written_eof = False
        self.unsent = 0
        """Bytes that it says are not taken yet; a test sets it."""
        self._is_closing = False
        protocol.connection_made(self)

    # The side of the test.

    def feed(self, data: bytes) -> None:
        """Receive data now, or when reading is no longer paused."""
        self._received.append(data)
        self._deliver()

    def feed_eof(self) -> None:
        if not self._is_closing:
            self._protocol.eof_received()

    def block(self) -> None:
        """Take nothing any more: what is sent from now on remains in the transport."""
        self._is_blocked = True

    def unblock(self) -> None:
        """Take everything."""
        self._is_blocked = False
        self._protocol.resume_writing()

    def _deliver(self) -> None:
        while self._received and not self.is_paused and not self._is_closing:
            self._protocol.data_received(self._received.pop(0))

    # The side of the protocol.

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "the protocol must be told whenever something is unsent"

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_written_eof
        if not self._is_closing:
            self.sent += data
            if self._is_blocked:
                self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.has_written_eof = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        asyncio.get_running_loop().call_soon(self._deliver)

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self.was_aborted = True
        self.close()

    def _lose(self) -> None:
        self.is_lost = True
        self._protocol.connection_lost(None)


class RecordingDelegate(HTTPMessageDelegate):
    """Records one request; when it is complete, it calls `respond` with what writes responses."""

    def __init__(self, exchange: Any, respond: Callable[[Any], None]) -> None:
        self.exchange = exchange
        self.start_line: RequestStartLine | ResponseStartLine
        self.headers: HTTPHeaders
        self.body = b""
        self.is_finished = False
        self.is_closed = False
        self._respond = respond

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        self.start_line, self.headers = start_line, headers

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def finish(self) -> None:
        self.is_finished = True
        self._respond(self.exchange)

    def on_connection_close(self) -> None:
        self.is_closed = True


class RecordingApplication(HTTPServerConnectionDelegate):
    """Records requests, and leaves the responses to the test unless it gets `respond`."""

    def __init__(self, respond: Callable[[Any], None] = lambda exchange: None) -> None:
        self.requests: list[RecordingDelegate] = []
        self._respond = respond

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        self.requests.append(RecordingDelegate(request_conn, self._respond))
        return self.requests[-1]


def connect(
    application: HTTPServerConnectionDelegate,
    *,
    closes_after_response: bool = False,
    **parameters: Any,
) -> tuple[FakeTransport, Connection]:
    """Return a new connection of an application, in the running event loop."""
    defaults = {
        "default_headers": DefaultHeaders({}),
        "idle_timeout": 60.0,
        "body_timeout": 60.0,
        "max_body_size": 1000,
    }
    connections: Connections = getattr(application, "connections", Connections())
    connection = Connection(
        Parameters(application, connections, **(defaults | parameters)),
        PEER,
        closes_after_response=closes_after_response,
    )
    return FakeTransport(connection), connection
