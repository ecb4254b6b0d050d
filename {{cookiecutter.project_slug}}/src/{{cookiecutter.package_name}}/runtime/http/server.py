"""The HTTP server, which tracks open connections and requests in flight."""

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPMessageDelegate,
    ParseBodyConfig,
    ParseMultipartConfig,
    set_parse_body_config,
)
from tornado.iostream import IOStream, StreamClosedError

from ..logs.context import request_id
from ..settings import Settings
from .application import Application
from .validation import check_head

MAX_HEADER_SIZE = 16 * 1024
"""Bytes of a request's line and headers."""
LINGER = 0.5
"""Seconds to keep idle connections open while draining: a request already on its way is served."""
POLL_INTERVAL = 0.02
"""Seconds between two checks while draining."""


class StrictStream(IOStream):
    """Validates each request head before Tornado parses it."""

    def __init__(self, connection: socket.socket, *, close_after_response: bool = False) -> None:
        super().__init__(connection)
        self.close_after_response = close_after_response

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Any:
        if self.closed():
            # Closed after the previous response; Tornado would still process pipelined requests
            # in its buffer.
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


class TrackingHTTPServer(HTTPServer):
    """Tornado's HTTP server, which tracks its connections in those of `application`."""

    def initialize(  # type: ignore[override]
        self, application: Application, settings: Settings
    ) -> None:
        super().initialize(
            application,
            idle_connection_timeout=settings.idle_timeout,
            body_timeout=settings.body_timeout,
            max_body_size=settings.max_body_size,
            max_header_size=MAX_HEADER_SIZE,
        )
        # Multipart is off: its parser has a history of vulnerabilities. Tornado has one setting
        # for the whole process.
        set_parse_body_config(ParseBodyConfig(multipart=ParseMultipartConfig(enabled=False)))
        self._tracked = application.connections

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        # Tornado offers no hook for the stream class, so its stream is replaced.
        self.accept(stream.socket, address)

    def accept(
        self, connection: socket.socket, address: Any, *, close_after_response: bool = False
    ) -> None:
        """Serve a connection.

        With `close_after_response` it serves one request only, then ``Connection: close`` tells
        the client to connect anew.
        """
        stream = StrictStream(connection, close_after_response=close_after_response)
        super().handle_stream(stream, address)

    async def drain(self, listeners: Sequence[socket.socket]) -> None:
        """Accept the queued connections, stop listening, finish requests in flight, close the rest.

        WebSockets are closed with code 1001. This takes as long as the requests do.
        """
        connections = self._tracked
        # Each response closes its connection; `request.is_draining` reads this, too.
        self.conn_params.no_keep_alive = True
        for listener in listeners:
            with suppress(OSError):  # the queue is empty
                while True:
                    self.accept(*listener.accept())
        self.stop()
        await asyncio.sleep(POLL_INTERVAL)  # let the connections just accepted register
        idle_since = time.monotonic()
        while connections.open or connections.websockets:
            # On every pass: a handshake may complete meanwhile.
            for websocket in tuple(connections.websockets):
                websocket.close(1001, "service shutdown")
            if connections.busy:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                break
            await asyncio.sleep(POLL_INTERVAL)
        await self.close_all_connections()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        # Tornado calls this when a connection begins to wait for its next request. Only then has
        # the previous response been handed to the operating system.
        self._tracked.request_done(server_conn)
        request_id.set(None)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self._tracked.closed(server_conn)
        super().on_close(server_conn)
