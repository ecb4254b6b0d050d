"""One connection: reads requests, passes them on, and sends the responses in order.

A connection is always in one `Phase`. `_process` goes from one to the next as far as what has
arrived allows, and stops where something has to be waited for: more data, a handler that takes its
time with a piece of the body, or the response.

Every request has a context of its own: without it all connections of a listening socket would share
the context variables of one, such as the request id.
"""

import asyncio
import logging
import math
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from enum import Enum, auto
from functools import partial
from typing import Protocol, cast, runtime_checkable

from tornado.httputil import HTTPInputError, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, StreamClosedError

from .body import MAX_PIECE_SIZE, Body, FixedBody
from .connections import Connections
from .defaults import DefaultHeaders
from .detached import DetachedStream, closed_stream
from .errors import RequestError
from .exchange import Exchange, Peer
from .head import HEAD_END, MAX_HEAD_SIZE, Head, check_incomplete, parse_head
from .refusal import refusal

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_READ_AHEAD = 64 * 1024
"""Bytes of further requests that are read while a response is not finished."""
DISCARD_TIMEOUT = 2.0
"""Seconds for which the rest of a refused request is read and discarded.

Closing at once would reset the connection, and the client might never see why.
"""
NO_DELEGATE = HTTPMessageDelegate()
NO_BODY = FixedBody(0)
INCOMPLETE_BODY = "The body ended before it was complete."
LARGE_BODY = 32 * 1024
"""Bytes from which a body is not copied to be sent together with its head."""

logger = logging.getLogger(__name__)


class Phase(Enum):
    """What a connection waits for."""

    HEAD = auto()
    """The head of a request."""
    BODY = auto()
    """The rest of its body."""
    RESPONSE = auto()
    """The end of the response; the request has arrived."""
    DISCARDING = auto()
    """The end of what the client sends; everything has been sent."""
    CLOSED = auto()


# In Python 3.11 looking up a member in its class takes as long as a call.
HEAD, BODY, RESPONSE, DISCARDING, CLOSED = Phase


@runtime_checkable
class RefusingDelegate(Protocol):
    """A delegate that can end a request that its handler cannot handle."""

    def refuse(self, error: BaseException) -> bool:
        """Respond with an error, through the exchange, and log the request.

        Called after `on_connection_close` if the handler has begun to receive the body. Return
        False if there is nothing to log, and no response.
        """
        ...

    def discard_body(self) -> None:
        """Expect no more of the body: the response has ended before it."""


class Parameters:
    """What the connections of a server have in common. Times are in seconds, sizes in bytes."""

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        connections: Connections,
        *,
        default_headers: DefaultHeaders,
        idle_timeout: float,
        body_timeout: float,
        max_body_size: int,
    ) -> None:
        self.delegate = delegate
        self.connections = connections
        self.default_headers = default_headers
        self.idle_timeout = idle_timeout
        self.body_timeout = body_timeout
        self.max_body_size = max_body_size
        self.max_piece_size = MAX_PIECE_SIZE
        self.is_draining = connections.draining.is_set
        """Whether each response closes its connection. Bound once: each response asks."""
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()
        """Where the context of each request begins."""
        self.sent: Future[None] = self.loop.create_future()
        """Shared by all writes that need not wait."""
        self.sent.set_result(None)


class Connection(asyncio.Protocol):
    """A client's connection.

    With `closes_after_response` it serves one request, and tells the client to connect anew.
    """

    # Ten thousand idle connections should not take much memory.
    __slots__ = (
        "_body",
        "_buffer",
        "_closes_after_response",
        "_context",
        "_delegate",
        "_exchange",
        "_expects_continue",
        "_is_reading",
        "_is_sending",
        "_parameters",
        "_pending",
        "_pending_since",
        "_phase",
        "_skipped_line",
        "_transport",
        "_unsent",
        "_waiting",
        "deadline",
        "has_eof",
        "peer",
    )

    def __init__(
        self, parameters: Parameters, peer: Peer, *, closes_after_response: bool = False
    ) -> None:
        self.peer = peer
        self.deadline = math.inf
        """When the client has waited too long, on the clock of the event loop."""
        self.has_eof = False
        self._parameters = parameters
        self._closes_after_response = closes_after_response
        self._transport: asyncio.Transport
        self._phase = HEAD
        self._buffer = b""
        """What has arrived and is not yet used."""
        self._skipped_line = False
        self._is_reading = True
        self._pending: Future[None] | None = None
        """What the delegate does with the last piece of the request."""
        self._pending_since = 0.0
        self._is_sending = False
        """Whether the operating system has not yet taken all of what was sent."""
        self._unsent = 0.0
        """Bytes that would still be unsent if it had taken none since the last look."""
        self._waiting: list[Future[None]] = []
        """The writes that wait for it."""
        # Of the current request:
        self._exchange: Exchange | None
        self._delegate: HTTPMessageDelegate
        self._context: Context
        self._body: Body
        self._expects_continue = False
        self._forget_request()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # So pause_writing and resume_writing say exactly whether something is unsent.
        self._transport.set_write_buffer_limits(0)
        self._parameters.connections.open.add(self)
        self.deadline = self._parameters.loop.time() + self._parameters.idle_timeout

    def data_received(self, data: bytes) -> None:
        is_unwanted = self._phase is RESPONSE and not self._body.is_complete
        if self._phase not in (DISCARDING, CLOSED) and not is_unwanted:
            self._buffer = self._buffer + data if self._buffer else data
            self._process()

    def eof_received(self) -> bool:
        self.has_eof = True
        if self._phase is RESPONSE and self._exchange:
            # Has it left, or only no more to ask? That cannot be told apart. The handler is told,
            # and its response is sent. Not now: it may be about to begin, and respond at once.
            self._parameters.loop.call_soon(
                self._notify_close, self._exchange, context=self._parameters.context.copy()
            )
        self._process()
        return True  # keeps the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, phase, pending = self._exchange, self._phase, self._pending
        context, delegate = self._context, self._delegate
        self._phase, self._buffer = CLOSED, b""
        self._forget_request()
        self._parameters.connections.closed(self)
        self._is_sending = False
        for future in self._waiting:
            if not future.done():
                future.set_exception(StreamClosedError(real_error=exc))
                future.exception()  # otherwise asyncio logs it if no handler awaits it
        self._waiting = []
        if not exchange or exchange.is_finished:
            return
        if phase is RESPONSE:
            _notify(context, exchange.notify_close)
            return
        _notify(context, delegate.on_connection_close)
        end = partial(_end_incomplete, exchange, delegate, context)
        if pending:  # the handler still works on the beginning, or on a piece of the body
            tasks = self._parameters.connections.tasks
            tasks[pending] = delegate
            pending.add_done_callback(tasks.pop)
            pending.add_done_callback(end, context=self._parameters.context.copy())
        else:
            end()

    def pause_writing(self) -> None:
        self._is_sending, self._unsent = True, math.inf
        if self._phase is RESPONSE:
            self._set_response_deadline()

    def resume_writing(self) -> None:
        self._is_sending = False
        if self._phase is RESPONSE:
            self._set_response_deadline()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if self._exchange and self._exchange.is_finished:
            self._end_exchange(self._exchange)

    # What an exchange calls.

    @property
    def is_closed(self) -> bool:
        return self._phase is CLOSED or self._transport.is_closing()

    @property
    def default_headers(self) -> DefaultHeaders:
        return self._parameters.default_headers

    @property
    def closes_after_response(self) -> bool:
        return (
            self._closes_after_response
            or self._parameters.is_draining()
            or not self._body.is_complete  # an early response: the rest will not be read
        )

    @property
    def is_draining(self) -> bool:
        return self._parameters.is_draining()

    def send(self, head: bytes, body: bytes = b"") -> "Future[None]":
        if self.is_closed:
            future = self._parameters.loop.create_future()
            future.set_exception(StreamClosedError())
            future.exception()
            return future
        if len(body) < LARGE_BODY:
            self._transport.write(head + body if body else head)
        else:
            self._transport.writelines((head, body))
        if not self._is_sending:
            return self._parameters.sent
        self._unsent += len(head) + len(body)
        future = self._parameters.loop.create_future()
        self._waiting.append(future)
        return future

    def is_sending(self, exchange: Exchange) -> bool:
        return self._is_sending and exchange is self._exchange

    def response_finished(self, exchange: Exchange) -> None:
        if exchange is not self._exchange:
            return  # the connection has closed
        if not self._body.is_complete:  # the rest of it is not wanted
            exchange.keep_alive = False
            if isinstance(self._delegate, RefusingDelegate):
                self._delegate.discard_body()
        if self._is_sending:
            self._phase = RESPONSE
            self._set_response_deadline()
        else:
            self._end_exchange(exchange)

    def abort(self) -> None:
        self._transport.abort()

    def detach(self) -> IOStream:
        if self.is_closed or self._is_sending:
            self.abort()
            return closed_stream()
        fd = self._transport.get_extra_info("socket").fileno()
        stream = DetachedStream(fd, self._buffer)
        self._phase, self._buffer = CLOSED, b""
        self._forget_request()
        self._parameters.connections.closed(self)
        self._transport.abort()  # closes its own descriptor only
        return stream

    # What the server calls.

    def close(self) -> None:
        """Close, and abort the request in flight."""
        if self._phase is RESPONSE or self._is_sending:
            self.abort()
        else:
            self._transport.close()

    def check_deadline(self, now: float) -> None:
        """Close if the client has waited too long. `now` is the time of the event loop."""
        if now < self.deadline or self._pending or self._makes_progress():
            return
        if self._phase is BODY and self._exchange:
            seconds = self._exchange.body_timeout
            self._refuse(RequestError(408, f"The body did not arrive within {seconds:g} s."))
        else:
            self.abort()

    def _set_response_deadline(self) -> None:
        """A handler may take its time; a client must go on reading what is sent."""
        parameters = self._parameters
        is_sending = self._is_sending
        self.deadline = parameters.loop.time() + parameters.idle_timeout if is_sending else math.inf

    def _makes_progress(self) -> bool:
        """Return whether the client has read a part of the response since the last call."""
        if not self._is_sending or self._phase is not RESPONSE:
            return False
        unsent = self._transport.get_write_buffer_size()
        if unsent >= self._unsent:
            return False
        self._unsent = unsent
        self._set_response_deadline()
        return True

    # Reading

    def _process(self) -> None:
        """Go on as far as what has arrived allows."""
        try:
            while self._step():
                pass
        except RequestError as error:
            self._refuse(error)
        except HTTPInputError:
            # Of Tornado; its message may repeat what the client has sent.
            part = "target or a header" if self._phase is HEAD else "body"
            self._refuse(RequestError(400, f"The {part} is malformed."))
        except (Exception, asyncio.CancelledError) as error:
            self._refuse(error)
        if self.has_eof and not self._pending:
            self._handle_eof()
        self._set_reading()

    def _step(self) -> bool:
        """Do one step. Return whether another one may be possible."""
        if self._pending:
            if not self._pending.done():
                return False
            done, self._pending = self._pending, None
            self.deadline += self._parameters.loop.time() - self._pending_since
            done.result()  # raises what the delegate has raised
        if self._phase is HEAD:
            return bool(self._buffer) and self._read_head()
        return self._phase is BODY and self._read_body()

    def _read_head(self) -> bool:
        data = self._buffer
        if data.startswith(b"\r\n") and not self._skipped_line:
            # Source: RFC 9112, 2.2: an empty line before a request is ignored.
            self._skipped_line = True
            data = self._buffer = data[2:]
        end = data.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) or end > MAX_HEAD_SIZE:
            check_incomplete(data)
            return False
        self._buffer = data[end:]
        self._begin(parse_head(data[:end]))
        return True

    def _begin(self, head: Head) -> None:
        parameters = self._parameters
        exchange = Exchange(self, head, parameters.max_body_size, parameters.body_timeout)
        self._exchange = exchange
        self._body = head.body
        self._expects_continue = head.expects_continue and not self._buffer
        self._skipped_line = False
        self._context = parameters.context.copy()
        delegate = parameters.delegate.start_request(self, exchange)
        self._delegate = parameters.connections.in_flight[self] = delegate
        received = self._context.run(delegate.headers_received, head.start_line, head.headers)
        if self._exchange is exchange:  # otherwise it is finished already
            self._phase = BODY
            self.deadline = parameters.loop.time() + exchange.body_timeout
            if received is not None:
                self._wait_for(received)

    def _read_body(self) -> bool:
        exchange, body = self._exchange, self._body
        if exchange is None:
            return False  # the response is finished
        if body.is_complete:
            self._phase = RESPONSE
            self.deadline = math.inf
            if self._is_sending:
                self._set_response_deadline()
            self._context.run(self._delegate.finish)
            return True
        _check_size(body, exchange)
        if not self._buffer:
            self._send_continue()
            return False
        try:
            piece, self._buffer = body.decode(self._buffer, self._parameters.max_piece_size)
        finally:  # too large comes before malformed, however the data was split
            _check_size(body, exchange)
        if piece:
            received = self._context.run(self._delegate.data_received, piece)
            if received is not None:
                self._wait_for(received)
        return bool(piece) or body.is_complete

    def _send_continue(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            if not self._exchange or not self._exchange.headers_sent:
                self.send(CONTINUE)

    def _wait_for(self, awaitable: Awaitable[None]) -> None:
        """Wait until the delegate is ready for more."""
        future = self._context.run(asyncio.ensure_future, awaitable)
        if not future.done():
            self._pending, self._pending_since = future, self._parameters.loop.time()
            context = self._parameters.context.copy()
            future.add_done_callback(self._on_ready, context=context)
        else:
            future.result()

    def _on_ready(self, future: "Future[None]") -> None:
        if self._pending is future and self._phase is not CLOSED:
            self._process()
        elif not future.cancelled():
            future.exception()  # the connection has closed meanwhile

    def _set_reading(self) -> None:
        """Read only if there is room: while the handler is busy, the client has to wait."""
        is_full = self._phase is RESPONSE and len(self._buffer) > MAX_READ_AHEAD
        wants_more = not self._pending and not is_full
        if wants_more != self._is_reading and not self.is_closed and not self.has_eof:
            self._is_reading = wants_more
            if wants_more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # The end

    def _notify_close(self, exchange: Exchange) -> None:
        if exchange is self._exchange:
            _notify(self._context, exchange.notify_close)

    def _end_exchange(self, exchange: Exchange) -> None:
        """Go on after a response that the operating system has taken completely."""
        is_complete = self._body.is_complete
        self._forget_request()
        self._parameters.connections.in_flight.pop(self, None)
        if not exchange.keep_alive:
            self._close(discard=not is_complete)
            return
        self._phase = HEAD
        self.deadline = self._parameters.loop.time() + self._parameters.idle_timeout
        if self._buffer or self.has_eof:
            # Not now: this is the context, and the stack, of a handler.
            context = self._parameters.context.copy()
            self._parameters.loop.call_soon(self._process, context=context)

    def _forget_request(self) -> None:
        self._exchange = None
        self._delegate = NO_DELEGATE
        self._context = self._parameters.context
        self._body = NO_BODY

    def _refuse(self, error: BaseException) -> None:
        """Respond with an error and close: what follows cannot be understood."""
        exchange, self._pending = self._exchange, None
        if exchange and not exchange.is_finished and self._refuse_with_handler(error, exchange):
            return
        if not isinstance(error, RequestError):
            self._context.copy().run(logger.error, "request failed", exc_info=error)
            error = RequestError(500, "The cause is in the log of the service.")
        if self.is_closed or self._phase is DISCARDING or (exchange and exchange.is_finished):
            return  # a response to another error
        if exchange and exchange.headers_sent:
            self.abort()
            return
        self._forget_request()
        self._parameters.connections.in_flight.pop(self, None)
        self._refuse_without_handler(error)

    def _refuse_with_handler(self, error: BaseException, exchange: Exchange) -> bool:
        """Let the delegate end the request. Return False if it cannot."""
        exchange.keep_alive = False
        context, delegate = self._context, self._delegate
        if self._phase is BODY:
            _notify(context, delegate.on_connection_close)
        if not isinstance(delegate, RefusingDelegate):
            return False
        self._phase = RESPONSE
        self._set_response_deadline()
        return context.copy().run(delegate.refuse, error)

    def _refuse_without_handler(self, error: RequestError) -> None:
        request_id, response = refusal(error, self.default_headers)
        if error.status < 500:  # otherwise the log has the cause already
            extra = {"request_id": request_id}
            logger.info("malformed request from %s: %s", self.peer, error.detail, extra=extra)
        self.send(response)
        self._close(discard=True)

    def _close(self, *, discard: bool) -> None:
        """Close after everything has been sent; first discard the rest of what the client sends."""
        self._buffer, self._pending = b"", None
        if discard and not self.has_eof and not self.is_closed:
            self._phase = DISCARDING
            self.deadline = self._parameters.loop.time() + DISCARD_TIMEOUT
            with suppress(OSError):  # the client has reset the connection
                self._transport.write_eof()
            self._set_reading()
        else:
            self._phase = CLOSED
            self._transport.close()

    def _handle_eof(self) -> None:
        """Close unless a response is on its way."""
        if self._phase is BODY and isinstance(self._delegate, RefusingDelegate):
            self._refuse(RequestError(400, INCOMPLETE_BODY))
        elif self._phase is BODY:
            self.abort()  # then `connection_lost` tells the delegate
        elif self._phase in (HEAD, DISCARDING):
            self._transport.close()


def _notify(context: Context, on_connection_close: Callable[[], None]) -> None:
    """Tell a handler that its client has left; what it does then must not harm the connection."""
    context = context.copy()  # it may be entered at the moment
    try:
        context.run(on_connection_close)
    except Exception:
        context.run(logger.exception, "on_connection_close failed")


def _end_incomplete(
    exchange: Exchange,
    delegate: HTTPMessageDelegate,
    context: Context,
    pending: "Future[None] | None" = None,
) -> None:
    """End a request whose client has left before the end of its body.

    `pending` is what its handler has done meanwhile.
    """
    error: BaseException = RequestError(400, INCOMPLETE_BODY)
    if pending and not pending.cancelled():
        error = pending.exception() or error
    if not exchange.is_finished and isinstance(delegate, RefusingDelegate):
        context.copy().run(delegate.refuse, error)


def _check_size(body: Body, exchange: Exchange) -> None:
    limit = exchange.max_body_size
    if body.size > limit:
        raise RequestError(413, f"The body may have at most {limit} bytes.")
