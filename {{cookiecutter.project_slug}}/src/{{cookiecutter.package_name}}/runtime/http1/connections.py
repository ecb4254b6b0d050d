"""The record of a server: which connections are open, and what they are doing.

The connections and the WebSockets write here. A drain reads it, and so does the heartbeat, which
reports the requests in flight.
"""

from tornado.websocket import WebSocketHandler


class Connections:
    """The connections of one application."""

    def __init__(self) -> None:
        self.open: set[object] = set()
        """Every open connection that is not a WebSocket."""
        self.in_flight: set[object] = set()
        """The connections whose request has arrived and whose response is not yet written."""
        self.websockets: set[WebSocketHandler] = set()
        """The open WebSockets; their handshake is no request in flight any more."""

    @property
    def busy(self) -> bool:
        """Whether a request is in flight or a WebSocket is open."""
        return bool(self.in_flight or self.websockets)

    def closed(self, connection: object) -> None:
        """Record that a connection has closed."""
        self.open.discard(connection)
        self.in_flight.discard(connection)
