"""Connections: which are open, and which of them carry a request."""

import asyncio
import socket
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream, StreamClosedError

from .request import request_id
from .application import Application
from ..settings import Settings
from .validation import check_head

MAX_HEADER_SIZE = 16 * 1024


class StrictStream(IOStream):
    """Hands the head of a request on only when `strict` lets it pass."""

    def __init__(self, connection: socket.socket, *, for_one_request: bool = False) -> None:
        super().__init__(connection)
        self.for_one_request = for_one_request

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Any:
        if self.closed():
            # The answer before was the last. Tornado would still handle what was sent behind it.
            raise StreamClosedError
        data = cast(asyncio.Future[bytes], super().read_until_regex(regex, max_bytes))
        checked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        data.add_done_callback(lambda _: _check(data, checked))
        return checked


def _check(data: asyncio.Future[bytes], checked: asyncio.Future[bytes]) -> None:
    if checked.cancelled():
        return
    try:
        check_head(data.result())
    except Exception as error:
        checked.set_exception(error)
    else:
        checked.set_result(data.result())


class Server(HTTPServer):
    """Tornado's server; it keeps the books of its connections, whatever handles their requests."""

    def initialize(self, application: Application, settings: Settings) -> None:  # type: ignore[override]
        super().initialize(
            application,
            idle_connection_timeout=settings.idle_timeout,
            body_timeout=settings.body_timeout,
            max_body_size=settings.max_body_size,
            max_header_size=MAX_HEADER_SIZE,
        )
        self.open: set[object] = set()
        self._in_flight = application.in_flight

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        self.accept(stream.socket, address)

    def accept(
        self, connection: socket.socket, address: Any, *, for_one_request: bool = False
    ) -> None:
        """Serve a connection; if only for one request, the client is told to come back."""
        stream = StrictStream(connection, for_one_request=for_one_request)
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        # Tornado calls this when it begins to wait for a connection's next request, and only then
        # is the answer to the one before with the operating system.
        self.open.add(server_conn)
        self._in_flight.discard(server_conn)
        request_id.set(None)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.open.discard(server_conn)
        self._in_flight.discard(server_conn)
        super().on_close(server_conn)
