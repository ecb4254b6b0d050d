"""The server: accepts connections, closes slow ones, and drains them."""

import asyncio
import math
import socket
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import add_accept_handler
from tornado.websocket import WebSocketHandler

from ..settings import Settings
from .connection import Connection, Parameters
from .connections import Connections
from .defaults import DefaultHeaders
from .exchange import Peer

LINGER = 0.5
"""Seconds to keep idle connections open while draining: a request already on its way is served."""
POLL_INTERVAL = 0.02
"""Seconds between two checks while draining."""
CLOSING_TIME = 0.8
"""Seconds over which many WebSockets are closed: their clients must not come back all at once."""
FEW_WEBSOCKETS = 24
"""So many are closed at once."""
STREAMS_PER_TURN = 100
"""Streams of events that are ended before the event loop turns to something else."""
MAX_SWEEP_INTERVAL = 1.0
"""Seconds between two searches for slow clients, at most."""
SWEEPS_PER_TIMEOUT = 4


class HTTPServer:
    """Serves `delegate`, for example an application of Tornado. Construct it in the event loop.

    `connections` is where it records what is open. Each response has `default_headers`, unless its
    handler sets them. Time-outs and limits are those of `settings`.
    """

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        settings: Settings,
        connections: Connections | None = None,
        default_headers: DefaultHeaders | None = None,
    ) -> None:
        self._connections = connections or Connections()
        self._parameters = Parameters(
            delegate,
            self._connections,
            default_headers=default_headers or DefaultHeaders({}),
            idle_timeout=settings.idle_timeout,
            body_timeout=settings.body_timeout,
            max_body_size=settings.max_body_size,
        )
        self._loop = self._parameters.loop
        self._listeners: list[socket.socket] = []
        self._accepting: list[Callable[[], None]] = []
        self._handshakes: set[asyncio.Task[Any]] = set()
        shortest = min(settings.idle_timeout, settings.body_timeout)
        self._sweep_interval = min(shortest / SWEEPS_PER_TIMEOUT, MAX_SWEEP_INTERVAL)
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing_time = closing_time(settings)

    def add_sockets(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections from listening sockets."""
        self._listeners += sockets
        self._accepting += [add_accept_handler(sock, self.accept) for sock in sockets]

    def accept(
        self, connection: socket.socket, address: Any, *, close_after_response: bool = False
    ) -> None:
        """Serve a connection.

        With `close_after_response` it serves one request only, then ``Connection: close`` tells
        the client to connect anew.
        """
        connection.setblocking(False)
        protocol = Connection(
            self._parameters,
            Peer(_remote_ip(connection, address), address),
            closes_after_response=close_after_response,
        )
        self._connections.open.add(protocol)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: protocol, connection)
        )
        # The event loop keeps only weak references to its tasks.
        self._handshakes.add(task)
        task.add_done_callback(lambda task: self._accepted(task, protocol, connection))
        if not self._sweeper:
            self._sweeper = self._loop.call_later(self._sweep_interval, self._sweep)

    def stop(self) -> None:
        """Accept no more connections, and close the listening sockets."""
        for stop_accepting in self._accepting:
            stop_accepting()
        for listener in self._listeners:
            listener.close()
        self._accepting, self._listeners = [], []

    async def drain(self, listeners: Sequence[socket.socket]) -> None:
        """Accept the queued connections, stop listening, finish requests in flight, close the rest.

        Streams of events are ended at once; WebSockets are closed with code 1001, many of them over
        `CLOSING_TIME` at most. This takes as long as the requests do.
        """
        connections = self._connections
        connections.draining.set()
        for listener in listeners:
            with suppress(OSError):  # the queue is empty
                while True:
                    self.accept(*listener.accept())
        self.stop()
        await self._end_streams()
        closing = ClosingWebSockets(connections.websockets, self._closing_time)
        idle_since = time.monotonic()
        while connections.open or connections.busy:
            closing.go_on()
            if connections.busy:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                break
            await asyncio.sleep(POLL_INTERVAL)
        await self.close_all_connections()

    async def _end_streams(self) -> None:
        for number, stream in enumerate(tuple(self._connections.event_streams), 1):
            stream.end_stream()
            if number % STREAMS_PER_TURN == 0:
                await asyncio.sleep(0)

    async def close_all_connections(self) -> None:
        """Close all connections, and abort requests in flight."""
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        for connection in tuple(self._connections.open):
            if isinstance(connection, Connection):
                connection.close()
        while self._connections.open:  # noqa: ASYNC110 - closed in the next turns of the loop
            await asyncio.sleep(0)
        if self._sweeper:
            self._sweeper.cancel()
            self._sweeper = None

    def _accepted(
        self, task: asyncio.Task[Any], protocol: Connection, connection: socket.socket
    ) -> None:
        self._handshakes.discard(task)
        if task.cancelled() or task.exception():  # the client has already gone
            self._connections.closed(protocol)
            connection.close()

    def _sweep(self) -> None:
        """Close the connections of slow clients. One timer for all costs less than one for each."""
        self._sweeper = None
        if self._connections.open:
            self._sweeper = self._loop.call_later(self._sweep_interval, self._sweep)
        now = self._loop.time()
        for connection in tuple(self._connections.open):
            if isinstance(connection, Connection):
                connection.check_deadline(now)


def closing_time(settings: Settings) -> float:
    """Return the seconds over which WebSockets are closed: all of them before a drain is over."""
    return min(CLOSING_TIME, settings.drain_timeout / 2)


class ClosingWebSockets:
    """Closes WebSockets evenly over some seconds, those that are opened meanwhile, too."""

    def __init__(self, opened: Set[WebSocketHandler], seconds: float) -> None:
        self._open = opened
        self._seconds = seconds
        self._closed: set[WebSocketHandler] = set()
        self._begin = time.monotonic()

    def go_on(self) -> None:
        """Close those that are due."""
        left = self._open - self._closed
        total = len(left) + len(self._closed)
        elapsed = time.monotonic() - self._begin
        is_last = total <= FEW_WEBSOCKETS or elapsed >= self._seconds
        share = 1 if is_last else elapsed / self._seconds
        due = math.ceil(total * share) - len(self._closed)
        for websocket in tuple(left)[: max(due, 0)]:
            websocket.close(1001, "service shutdown")
            self._closed.add(websocket)


def _remote_ip(connection: socket.socket, address: Any) -> str:
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        # A socket for both families shows 192.0.2.1 as ::ffff:192.0.2.1.
        ip = str(address[0])
        return ip.removeprefix("::ffff:") if "." in ip else ip
    return "0.0.0.0"  # noqa: S104 - a Unix socket; what Tornado says, too
