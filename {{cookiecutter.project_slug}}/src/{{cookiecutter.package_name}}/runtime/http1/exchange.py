"""One request of a connection and its response: what Tornado's handlers call the connection."""

from asyncio import Future
from collections.abc import Callable
from typing import Protocol, cast

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPOutputError,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream

from .defaults import DefaultHeaders
from .head import Head

NO_BODY_STATUSES = frozenset((204, 304))
"""Statuses of responses without a body, beside those below 200."""
LAST_CHUNK = b"0\r\n\r\n"
OWN_HEADERS = frozenset(("Connection", "Server", "Transfer-Encoding", "X-Request-Id"))
"""Headers that the exchange writes itself, or leaves out: clients need not know the server."""


class Peer:
    """Where the requests of a connection come from.

    `address` is that of the socket, such as host and port.
    """

    __slots__ = ("address", "protocol", "remote_ip")

    def __init__(self, remote_ip: str, address: object) -> None:
        self.remote_ip = remote_ip
        self.address = address
        self.protocol = "http"

    def __str__(self) -> str:
        return self.remote_ip


class Channel(Protocol):
    """The side of a connection that an exchange uses."""

    deadline: float
    """When the client has waited too long, on the clock of the event loop."""

    @property
    def peer(self) -> Peer:
        """Where the request comes from."""
        ...

    @property
    def default_headers(self) -> DefaultHeaders:
        """What each response has unless its handler sets it."""
        ...

    @property
    def closes_after_response(self) -> bool:
        """Whether this is the last response, for reasons of the server."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether the service drains."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    def send(self, head: bytes, body: bytes = b"") -> "Future[None]":
        """Send data; the future is done when the operating system has taken all of it."""
        ...

    def is_sending(self, exchange: "Exchange") -> bool:
        """Return whether the operating system has yet to take what an exchange has sent."""
        ...

    def response_finished(self, exchange: "Exchange") -> None:
        """Go on with the next request, or close."""

    def abort(self) -> None:
        """Close at once, so that a truncated response cannot look complete."""

    def detach(self) -> IOStream:
        """Hand the socket over to another protocol."""
        ...


class ExchangeStream:
    """What ``request.connection.stream`` is to code that was written for Tornado's own server.

    Such code, server-sent events for example, asks it whether the client has left.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    def closed(self) -> bool:
        """Return whether the client has left."""
        return self._exchange.client_left or self._exchange.is_closed

    def close(self) -> None:
        """Close the connection at once."""
        self._exchange.abort()

    def write(self, data: bytes) -> "Future[None]":
        """Send a part of the body; or before the response, data as it is. Raises `HTTPOutputError`.

        So an informational response can be sent, such as ``103 Early Hints``.
        """
        return self._exchange.write(data)


class Exchange(HTTPConnection):
    """Writes the response to one request, with the framing that the request allows.

    `max_body_size` (bytes) and `body_timeout` (seconds) apply to the request's body.
    """

    def __init__(
        self, channel: Channel, head: Head, max_body_size: int, body_timeout: float
    ) -> None:
        self._channel = channel
        self._method = head.start_line.method
        self._is_1_1 = head.start_line.version == "HTTP/1.1"
        self.context = channel.peer
        self.default_headers = channel.default_headers
        """What the response has unless its handler sets it."""
        self.keep_alive = head.keep_alive
        """Whether the connection stays open after the response."""
        self.has_body = not head.body.is_complete
        """Whether the request has a body."""
        self.max_body_size = max_body_size
        self.body_timeout = body_timeout
        self.headers_sent = False
        self.is_finished = False
        self.client_left = False
        """Whether the client has closed its side of the connection before the response ended."""
        self.request_id = ""
        """The header X-Request-ID of the response; left out if it is empty."""
        self.body_size = 0
        """Body bytes of the response that were sent."""
        self._is_aborted = False
        self._is_chunked = False
        self._unsent: int | None = None
        """Body bytes that Content-Length has announced and that are not yet sent."""
        self._close_callback: Callable[[], None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more: the connection has closed, or is a WebSocket."""
        return self._channel.is_closed

    @property
    def stream(self) -> ExchangeStream:
        """The connection, as in Tornado's own server."""
        return ExchangeStream(self)

    @property
    def is_draining(self) -> bool:
        """Whether the service drains: this is the last request of its connection."""
        return self._channel.is_draining

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set what is called if the client closes the connection before the response ends."""
        self._close_callback = callback

    def set_max_body_size(self, max_body_size: int) -> None:
        """Set the limit for the body of this request, in bytes. Call it in ``prepare``."""
        self.max_body_size = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Set the time that the body of this request may take, in seconds."""
        if not self.is_finished:
            self._channel.deadline += timeout - self.body_timeout
        self.body_timeout = timeout

    @property
    def is_sending(self) -> bool:
        """Whether the operating system has yet to take what was sent.

        So it is if the client reads too slowly, also after the end of the response.
        """
        return self._channel.is_sending(self)

    def notify_close(self) -> None:
        """Tell the handler, once, that the client has closed its side of the connection."""
        if not self.is_finished:
            self.client_left = not self._is_aborted
            callback, self._close_callback = self._close_callback, None
            if callback:
                callback()

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "Future[None]":
        """Send status, headers and the beginning of the body.

        Raises `ValueError`, and closes, if a header contains a CR or LF, is not Latin-1, or if the
        Content-Length is no number; `HTTPOutputError` for more bytes than it says, or a second
        response.
        """
        if self.headers_sent:
            raise HTTPOutputError("the response has already begun")
        self.headers_sent = True
        try:
            head = self._head(cast(ResponseStartLine, start_line), headers)
        except ValueError:
            self.abort()  # handlers of Tornado cannot respond otherwise any more
            raise
        return self._channel.send(head, self._frame(chunk) if chunk else b"")

    def write(self, chunk: bytes) -> "Future[None]":
        """Send a part of the body. Raises `HTTPOutputError`."""
        if self.is_finished:
            raise HTTPOutputError("the response has already ended")
        return self._channel.send(self._frame(chunk))

    def finish(self) -> None:
        """End the response. Raises `HTTPOutputError` if Content-Length has announced more."""
        if self._unsent and not self._channel.is_closed:
            self.abort()
            raise HTTPOutputError(f"Tried to write {self._unsent} bytes less than Content-Length")
        if self._is_chunked:
            self._channel.send(LAST_CHUNK)
        if self._channel.is_closed and not self._is_aborted:
            self.client_left = True
        self.is_finished = True
        self._close_callback = None
        self._channel.response_finished(self)

    def abort(self) -> None:
        """Close the connection at once: a truncated response must not look complete."""
        self._is_aborted = True
        self._channel.abort()

    def detach(self) -> IOStream:
        """Hand the socket over to another protocol, such as WebSockets."""
        return self._channel.detach()

    def _head(self, start_line: ResponseStartLine, headers: HTTPHeaders) -> bytes:
        """Return the head of the response. Raises `ValueError`."""
        _, status, reason = start_line
        pairs = list(headers.get_all())
        fields = dict(pairs)
        lines = [f"HTTP/1.1 {status} {reason}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in pairs if name not in OWN_HEADERS]
        self._choose_framing(status, fields.get("Content-Length"))
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        if connection := self._choose_connection(status, fields.get("Connection")):
            lines.append(f"Connection: {connection}\r\n")
        if self.request_id:
            lines.append(f"X-Request-ID: {self.request_id}\r\n")
        text = "".join(lines)
        if not len(lines) == text.count("\r") == text.count("\n"):
            raise ValueError("CR or LF in a response header")
        return f"{text}{self.default_headers.lines(fields)}\r\n".encode("latin-1")

    def _choose_framing(self, status: int, content_length: str | None) -> None:
        if self._method == "HEAD" or status < 200 or status in NO_BODY_STATUSES:
            self._unsent = 0  # the headers describe the body that is left out, if any
        elif content_length is not None:
            if not (content_length.isascii() and content_length.isdigit()):
                raise ValueError("Content-Length of a response is no number of bytes")
            self._unsent = int(content_length)
        elif self._is_1_1:
            self._is_chunked = True
        else:
            self.keep_alive = False  # the end of the connection is the end of the body

    def _choose_connection(self, status: int, own: str | None) -> str | None:
        """Decide whether the connection stays open; return the header. `own` is the handler's."""
        if status == 101:
            self.keep_alive = True
            return own
        if own and "close" in own.lower():
            self.keep_alive = False
            return own
        if not self.keep_alive or self._channel.closes_after_response:
            self.keep_alive = False
            return "close"
        return own if self._is_1_1 else "Keep-Alive"

    def _frame(self, chunk: bytes) -> bytes:
        if self._unsent is not None:
            if len(chunk) > self._unsent:
                self.abort()
                raise HTTPOutputError("Tried to write more data than Content-Length")
            self._unsent -= len(chunk)
        self.body_size += len(chunk)
        if self._is_chunked and chunk:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return chunk
