"""The HTTP server of the runtime, to be used as Tornado's."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from runtime.http1 import server as http1
from runtime.settings import Settings
from tornado.http1connection import _GzipMessageDelegate
from tornado.httpserver import HTTPServer, _HTTPRequestContext
from tornado.httputil import HTTPConnection, HTTPMessageDelegate

MAX_BODY_SIZE = 100 * 1024 * 1024
"""Bytes of a body, if a test does not say it; as in Tornado."""
BODY_TIMEOUT = 86400
"""Seconds for a body, if a test does not say it; in Tornado there is no limit."""


class RuntimeServer(HTTPServer):
    """The server of the runtime with the constructor and the methods of Tornado's, without TLS.

    After ``HTTPServer.configure(RuntimeServer)`` the constructor of Tornado's class returns it.

    What Tornado's server does beside serving connections, it does here as well, with Tornado's own
    code: it calls applications that are functions, applies forwarded headers, and decompresses
    requests. The size of a head (``max_header_size``) cannot be set.
    """

    def initialize(self, request_callback: Any, **options: Any) -> None:
        super().initialize(request_callback, **options)
        self._server: http1.HTTPServer | None = None

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        assert self.ssl_options is None
        self._server = self._server or _call_in_event_loop(self._make_server)
        self._server.add_sockets(list(sockets))

    def stop(self) -> None:
        if self._server:
            self._server.stop()

    async def close_all_connections(self) -> None:
        if self._server:
            await self._server.close_all_connections()

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        if self.xheaders or self.protocol:
            request_conn.context = self._forwarding_context(request_conn)
        delegate = super().start_request(server_conn, request_conn)
        if self.conn_params.decompress:
            limit = self.conn_params.max_body_size or MAX_BODY_SIZE
            return _GzipMessageDelegate(delegate, self.conn_params.chunk_size, limit)
        return delegate

    def _make_server(self) -> http1.HTTPServer:
        parameters = self.conn_params
        settings = Settings(
            idle_timeout=parameters.header_timeout,
            body_timeout=parameters.body_timeout or BODY_TIMEOUT,
            max_body_size=parameters.max_body_size or MAX_BODY_SIZE,
        )
        server = http1.HTTPServer(self, settings)
        server._parameters.max_piece_size = parameters.chunk_size
        return server

    def _forwarding_context(self, request_conn: HTTPConnection) -> _HTTPRequestContext:
        """Return what Tornado applies forwarded headers to."""
        stream: Any = SimpleNamespace(socket=SimpleNamespace(family=socket.AF_INET))
        address = (request_conn.context.remote_ip,)
        return _HTTPRequestContext(stream, address, self.protocol, self.trusted_downstream)


def _call_in_event_loop(function: Callable[[], Any]) -> Any:
    """Call a function in the event loop; most of Tornado's tests start it later."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.get_event_loop().run_until_complete(_call(function))
    return function()


async def _call(function: Callable[[], Any]) -> Any:
    return function()
