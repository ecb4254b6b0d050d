"""Base class of streams of server-sent events.

Source: section 9.2 of the HTML standard, https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import random
import time
from typing import Any, ClassVar

import orjson

from .handler import Handler

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients ignore."""


class EventStream(Handler):
    """Base class of streams of server-sent events, which a browser reads with ``EventSource``.

    ::

        class Prices(EventStream):
            async def stream(self) -> None:
                async for price in self.resources[PRICES].after(self.last_event_id):
                    await self.send({"price": price.amount}, id=str(price.number))

    `stream` gets what the placeholders of the route matched. It is cancelled when the client leaves
    and when a drain begins; then the client is told to connect again, to another worker, and sends
    the id of the last event that it has got: no event is lost if `stream` goes on from there.

    An open stream is no request in flight. Its access line is logged when it ends.
    """

    keep_alive_interval: ClassVar[float] = 15.0
    """Seconds without an event after which a comment is sent, so that no proxy closes it."""
    retry: ClassVar[float] = 2.0
    """Seconds that clients wait before they connect again, at most; half of that at least."""

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that the client has got; None if it has just begun."""
        return self.request.headers.get("Last-Event-ID") or None

    async def stream(self, *args: str, **kwargs: str) -> None:
        """Send events; override this. The stream ends when it returns."""
        raise NotImplementedError

    async def send(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Send an event, and wait until the connection takes more.

        `data` is a text, or what orjson serialises. `event` is the type, "message" by default; `id`
        is what a client sends as Last-Event-ID. Raises `ValueError` if one of the two contains a
        line end or a NUL, `tornado.iostream.StreamClosedError` if the client has left.
        """
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
        lines = [f"data: {line}" for line in text.split("\n")]
        for name, value in (("event", event), ("id", id)):
            if value is not None:
                if any(character in value for character in "\r\n\0"):
                    raise ValueError(f"the {name} of an event is one line: {value!r}")
                lines.insert(0, f"{name}: {value}")
        self._sent_at = time.monotonic()
        self.write("\n".join(lines).replace("\r", "") + "\n\n")
        await self.flush()

    async def get(self, *args: str, **kwargs: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # Nginx would collect the events
        self._client_left = asyncio.Event()
        connections = self._application.connections
        connections.event_streams[self] = connections.tasks.get(asyncio.current_task())
        self.request.stream_started, self._sent_at = time.perf_counter(), time.monotonic()
        ends = [
            asyncio.create_task(coroutine)
            for coroutine in (
                self.stream(*args, **kwargs),
                self.drain_started(),
                self._client_left.wait(),
            )
        ]
        try:
            # Otherwise a client waits for the headers until the first event.
            self.write(f"retry: {self._retry()}\n\n")
            await self.flush()
            await self._wait_for_any(ends)
            if ends[0].done():
                ends[0].result()
        finally:
            del connections.event_streams[self]
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def __str__(self) -> str:
        return f"event stream {self.request.route}"

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._client_left.set()

    @property
    def _application(self) -> Any:
        return self.application

    def _retry(self) -> int:
        """Return the milliseconds that this client waits: not the same for all."""
        return int(1000 * self.retry * random.uniform(0.5, 1))  # noqa: S311

    async def _wait_for_any(self, ends: list[asyncio.Task[Any]]) -> None:
        """Wait for the first of them, and keep the connection alive meanwhile."""
        while True:
            silence = time.monotonic() - self._sent_at
            timeout = max(self.keep_alive_interval - silence, 0)
            if (await asyncio.wait(ends, timeout=timeout, return_when="FIRST_COMPLETED"))[0]:
                return
            if time.monotonic() - self._sent_at >= self.keep_alive_interval:
                self._sent_at = time.monotonic()
                self.write(KEEP_ALIVE)
                await self.flush()
