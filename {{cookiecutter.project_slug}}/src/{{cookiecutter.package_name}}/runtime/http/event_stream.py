"""Base class of streams of server-sent events.

Source: section 9.2 of the HTML standard, https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import random
import re
import time
from asyncio import Future, Task
from typing import Any, ClassVar, cast

import orjson
from tornado.iostream import StreamClosedError

from .handler import Handler

BEGIN_DELAY = 0.2
"""Seconds without an event after which the headers are sent: the client wants to know."""
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients ignore."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_NOT_IN_A_FIELD = re.compile(r"[\r\n\0]")


class EventStream(Handler):
    """Base class of streams of server-sent events, which a browser reads with ``EventSource``.

    ::

        class Prices(EventStream):
            async def stream(self) -> None:
                async for price in self.resources[PRICES].after(self.last_event_id):
                    await self.send({"price": price.amount}, id=str(price.number))

    `stream` gets what the placeholders of the route matched. It is cancelled when the client leaves
    and when a drain begins; then the client is told to connect again, to another worker, and sends
    the id of the last event that it has got: no event is lost if `stream` goes on from there. A
    last event can be sent in ``except asyncio.CancelledError``, if ``self.is_draining``. Clean-up
    that may take longer than `end_timeout` is for ``self.background(...)``.

    `prepare`, and `stream` before its first event, may raise a `Problem`: `EventSource` then gives
    up, as it does after ``self.reply(status=204)``. After an event any exception cuts the
    connection, and the client connects again; so it does when `stream` returns.

    ``post = EventStream.get`` in a subclass streams the response to a POST.

    An open stream is no request in flight. Its access line is logged when it ends, with status 200
    also if the client has left. Call ``super()`` if you override ``on_connection_close``.
    """

    keep_alive_interval: ClassVar[float] = 15.0
    """Seconds without an event after which a comment is sent, so that no proxy closes it."""
    retry: ClassVar[float] = 2.0
    """Seconds that clients wait before they connect again, at most; half of that at least."""
    end_timeout: ClassVar[float] = 1.5
    """Seconds that the end may take, with the clean-up of `stream`.

    Then `stream` is cancelled again, and a client that has not read all that was sent is cut off:
    it comes back, with the id of the last event that it has got.
    """

    _stream_task: Task[Any] | None = None
    """The task of `stream`, while it runs."""
    _sent_at = 0.0
    _stream_timer: asyncio.TimerHandle | None = None
    _end_timer: asyncio.TimerHandle | None = None
    """Set when `stream` is cancelled."""

    def __str__(self) -> str:
        return f"event stream {self.request.route}"

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that the client has got; None if it has just begun."""
        # Browsers send UTF-8, and headers are read as Latin-1.
        value: str = self.request.headers.get("Last-Event-ID", "")
        return value.encode("latin-1").decode("utf-8", "replace") or None

    async def stream(self, *args: Any, **kwargs: Any) -> None:  # `Any`: what the route has
        """Send events; override this. The response ends when it returns."""
        raise NotImplementedError

    async def send(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Send an event, and wait until the connection takes more.

        `data` is a text, or what orjson serialises. A text may have several lines; whatever ends
        one, the client gets a line feed. `event` is the type, "message" by default; `id` is what a
        client sends as Last-Event-ID.

        Other tasks may send as well. Raises `ValueError` if `event` or `id` contains a line end or
        a NUL, `TypeError` if `data` cannot be serialised, `tornado.iostream.StreamClosedError` if
        the client has left or the stream has ended.
        """
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
        lines = [f"data: {line}" for line in _LINE_END.split(text)]
        for name, value in (("event", event), ("id", id)):
            if value is not None:
                if _NOT_IN_A_FIELD.search(value):
                    raise ValueError(f"the {name} of an event is one line: {value!r}")
                lines.insert(0, f"{name}: {value}")
        message = "\n".join(lines).encode() + b"\n\n"
        if self._finished:
            raise StreamClosedError
        if not self.request.stream_started:
            self._begin(time.perf_counter())
        await self._send(message)

    async def get(self, *args: str, **kwargs: str) -> None:
        self._prepare_response()
        exchange = self.request.exchange
        if not self.is_draining and not exchange.client_left:
            await self._run_stream(*args, **kwargs)
        if self._finished:
            return
        if not self.request.stream_started:
            if not exchange.client_left:
                self._begin_without_event(time.perf_counter())
        elif self.is_draining:
            self.write(self._retry())

    async def head(self, *args: str, **kwargs: str) -> None:
        self._prepare_response()
        await self.flush()  # now, or Tornado would add a Content-Length

    def finish(self, chunk: Any = None) -> "Future[None]":
        if self._stream_timer:
            self._stream_timer.cancel()
        future = super().finish(chunk)
        if self._end_timer and not self.request.exchange.is_sending:
            self._end_timer.cancel()
        return future

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.end_stream()

    def end_stream(self) -> None:
        """Cancel `stream`. Called when the client leaves, and when a drain begins."""
        if self._stream_task and not self._end_timer:
            self._end()

    def _prepare_response(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # Nginx would collect the events
        self._transforms = []  # a compressor takes 256 KiB for each

    async def _run_stream(self, *args: str, **kwargs: str) -> None:
        # In the task of the request: an open stream has no other.
        self._stream_task = task = cast(Task[Any], asyncio.current_task())
        connections = self._connections
        connections.event_streams[self] = connections.tasks.get(task)
        loop = asyncio.get_running_loop()
        self._stream_timer = loop.call_later(
            BEGIN_DELAY, self._begin_without_event, time.perf_counter()
        )
        try:
            await self.stream(*args, **kwargs)
        except asyncio.CancelledError:
            if not self._end_timer:
                raise
        except Exception as error:
            # `send` may notice before the connection does, or in the clean-up.
            if not self._is_disconnection(error):
                raise
        finally:
            self._stream_task = None
            del connections.event_streams[self]

    def _end(self) -> None:
        if self._stream_task:
            self._stream_task.cancel()
        self._end_timer = asyncio.get_running_loop().call_later(self.end_timeout, self._end_anyway)

    def _end_anyway(self) -> None:
        """End what is not over in time: the end of a stream must not hold up a drain."""
        if self.request.exchange.is_sending:
            self.request.exchange.abort()
        if not self._finished:
            # In Python 3.11 `asyncio.wait_for` may lose a cancellation.
            self._end()

    def _begin(self, started: float) -> None:
        """Begin the response. `started` is since when it does not keep the client waiting."""
        self.request.stream_started = started
        self.write(self._retry())
        if self._stream_timer:
            self._stream_timer.cancel()
        if self._stream_task:
            self._keep_alive_in(self.keep_alive_interval)

    def _begin_without_event(self, started: float) -> None:
        self._begin(started)
        self._send(b"")

    def _retry(self) -> bytes:
        """Return the field that says how long this client waits: not as long as all others."""
        seconds = self.retry * random.uniform(0.5, 1)  # noqa: S311
        return b"retry: %d\n\n" % (1000 * seconds)

    def _send(self, message: bytes) -> "Future[None]":
        self.write(message)
        self._sent_at = asyncio.get_running_loop().time()
        return self.flush()

    def _keep_alive_in(self, seconds: float) -> None:
        self._stream_timer = asyncio.get_running_loop().call_later(seconds, self._keep_alive)

    def _keep_alive(self) -> None:
        silence = asyncio.get_running_loop().time() - self._sent_at
        left = self.keep_alive_interval - silence
        if left <= 0:
            left = self.keep_alive_interval
            # Otherwise the client reads too slowly: nothing is added to what waits for it.
            if not self.request.exchange.is_sending:
                self._send(KEEP_ALIVE)
        self._keep_alive_in(left)
