"""The record of a server: its connections, and the work that is not done yet.

The connections, the handlers and the WebSockets write here. A drain reads it, and so does the
heartbeat, which reports the requests in flight.
"""

import asyncio
from asyncio import Future
from typing import Any, Protocol

from tornado.httputil import HTTPMessageDelegate
from tornado.websocket import WebSocketHandler

Tasks = dict[Future[Any], object]
"""Running tasks, and what each is for. It keeps them alive: an event loop only has weak references
to its tasks."""


class Stream(Protocol):
    """A response that has no end of its own."""

    def end_stream(self) -> None:
        """End soon: a drain has begun."""


class Connections:
    """The connections of one application, and what works for them."""

    def __init__(self) -> None:
        self.open: set[object] = set()
        """Every open connection that is not a WebSocket."""
        self.in_flight: dict[object, HTTPMessageDelegate] = {}
        """The open connections whose request has arrived and whose response is not yet written, and
        what receives the request."""
        self.tasks: Tasks = {}
        """The running tasks, and what each is for: a request (what receives it), a WebSocket, or
        the name of a task of the service."""
        self.websockets: set[WebSocketHandler] = set()
        """The open WebSockets; their handshake is no request in flight any more."""
        self.event_streams: dict[Stream, object] = {}
        """The open streams of server-sent events, and what receives the request of each. They are
        no requests in flight any more."""
        self.draining = asyncio.Event()
        """Set when a drain begins: what has no end of its own ends then."""

    @property
    def busy(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self.in_flight or self.tasks or self.websockets)

    @property
    def requests(self) -> set[HTTPMessageDelegate]:
        """The requests in flight: until the response is written and the handler has ended.

        So a handler counts as long as it works, even if its client has left.
        """
        # Copied at once: a thread may ask while the event loop runs.
        work = tuple(self.tasks.values())
        running = [request for request in work if isinstance(request, HTTPMessageDelegate)]
        streams = tuple(self.event_streams.values())
        return {*self.in_flight.values(), *running}.difference(streams)

    @property
    def background(self) -> list[str]:
        """The names of the running tasks of the service."""
        return [name for name in tuple(self.tasks.values()) if isinstance(name, str)]

    def closed(self, connection: object) -> None:
        """Record that a connection has closed."""
        self.open.discard(connection)
        self.in_flight.pop(connection, None)
