"""How spans get to the collector: from a thread of their own, which holds up no answer and no stop.

What the collector does not take is lost, and counted. The log gets one warning when that begins, at
most one a minute while it goes on, and a line when all is well again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

# Seconds that a stop may wait for the last spans to be sent.
STOP_TIMEOUT = 3.0
# Seconds between two warnings.
QUIET = 60.0
# So many spans are encoded, in less than a millisecond, before the event loop gets so many seconds.
TURN = 8
PAUSE = 0.0001

logger = logging.getLogger(__name__)


class Session(requests.Session):
    """A session that keeps the reason of its last failure."""

    failure = ""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            self.failure = str(error)
            raise
        if response.status_code >= 300:
            self.failure = f"it answers {response.status_code} {response.reason}"
        if 300 <= response.status_code < 400:
            # Redirects are not followed, and the exporter would take this for a success.
            raise requests.RequestException(self.failure)
        return response


class InTurns(list[ReadableSpan]):
    """Spans that are read, and so encoded, with a pause after every few.

    A batch takes tens of milliseconds, and Python lets a thread compute for 5 before another has a
    turn. Without the pauses the slowest answer in a hundred would take twice as long.
    """

    def __iter__(self) -> Iterator[ReadableSpan]:
        for number, span in enumerate(super().__iter__(), 1):
            yield span
            if number % TURN == 0:
                time.sleep(PAUSE)


class Delivery(SpanExporter):
    """Hands spans to an exporter and keeps count of them. Says in the log, seldom, what is lost.

    No more than `limit` spans wait. `why` says why the exporter has failed.
    """

    def __init__(self, exporter: SpanExporter, why: Callable[[], str], limit: int) -> None:
        self._exporter = exporter
        self._why = why
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting = 0
        self._lost = 0
        self._lost_before = 0
        self._why_lost = ""
        self._told = 0
        self._warned = False
        self._quiet_until = 0.0
        self._closed = False

    def admit(self) -> bool:
        """Tell whether one more span may wait. It is lost if not."""
        with self._lock:
            if self._waiting >= self._limit:
                self._lost += 1
                return False
            self._waiting += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(InTurns(spans))
            why = self._why() or "no request could be made, see OTEL_EXPORTER_OTLP_HEADERS"
        except Exception as error:
            result, why = SpanExportResult.FAILURE, repr(error)
        delivered = result is SpanExportResult.SUCCESS
        with self._lock:
            self._waiting -= len(spans)
            if not delivered:
                self._lost += len(spans)
                self._why_lost = why
            if not self._closed:
                self._tell(delivered)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def close(self) -> None:
        """Count what still waits as lost, and be silent from now on."""
        with self._lock:
            self._closed = True
            if lost := self._lost - self._told + self._waiting:
                logger.warning("spans lost at the stop: %d", lost)

    def _tell(self, delivered: bool) -> None:
        now = time.monotonic()
        lost = self._lost - self._told
        if lost and now >= self._quiet_until:
            why = self._why_lost or "more come than it takes"
            logger.warning("spans lost: %d, the collector does not take them: %s", lost, why)
            self._warned, self._told, self._quiet_until = True, self._lost, now + QUIET
            self._why_lost = ""
        elif self._warned and delivered and self._lost == self._lost_before:
            logger.info("the collector takes spans again, lost meanwhile: %d", lost)
            self._warned, self._told, self._why_lost = False, self._lost, ""
        self._lost_before = self._lost


class Outbox(BatchSpanProcessor):
    """Spans on their way to a collector, from when they end.

    Raises `ValueError` if the environment's OTEL_BSP_... make no sense.
    """

    def __init__(self, delivery: Delivery, limit: int) -> None:
        super().__init__(delivery, limit)
        self._delivery = delivery

    @classmethod
    def to(cls, endpoint: str) -> Outbox:
        """Make one for the collector at this URL."""
        session = Session()
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", session=session)
        # Beyond its own limit the processor drops spans as well, but it counts none of them, and
        # its warning would stand in the log as one of whatever request has just ended.
        limit = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 2048)
        return cls(Delivery(exporter, lambda: session.failure, limit), limit)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context and span.context.trace_flags.sampled and self._delivery.admit():
            super().on_end(span)

    async def close(self) -> None:
        """Send what is left. Takes seconds at most, whatever the collector does."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # too late, the loop is closed
                loop.call_soon_threadsafe(sent.set)

        # A daemon, for which nobody waits at exit.
        threading.Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await sent.wait()
        self._delivery.close()
