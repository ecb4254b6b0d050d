"""Export spans from a background thread, without delaying responses or shutdown.

Undeliverable spans are dropped and counted: a warning at first, then at most one per minute, and a
line on recovery.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

TRACES_PATH = "/v1/traces"
SHUTDOWN_TIMEOUT = 3.0
"""Seconds that a stop may wait for the last spans to be sent."""
WARNING_INTERVAL = 60.0
"""Seconds between two warnings."""
SPANS_PER_SLICE = 8
"""Spans encoded without a pause, in less than a millisecond."""
SLICE_PAUSE = 0.0001
"""Seconds for which the thread yields the GIL after each slice."""
DEFAULT_QUEUE_SIZE = 2048
"""Spans; the default of OTEL_BSP_MAX_QUEUE_SIZE."""

logger = logging.getLogger(__name__)


class RecordingSession(requests.Session):
    """A session that keeps the reason of its last failure."""

    last_error = ""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            self.last_error = str(error)
            raise
        if response.status_code >= 300:
            self.last_error = f"HTTP {response.status_code} {response.reason}"
        if 300 <= response.status_code < 400:
            # Redirects are not followed, and the exporter would take this for a success.
            raise requests.RequestException(self.last_error)
        return response


class SlicedSpans(list[ReadableSpan]):
    """Yields the GIL after every few spans.

    Encoding a batch takes tens of milliseconds, and Python lets a thread compute for 5 ms before
    another one runs. Without the pauses the slowest response in a hundred would take twice as long.
    """

    def __iter__(self) -> Iterator[ReadableSpan]:
        for number, span in enumerate(super().__iter__(), 1):
            yield span
            if number % SPANS_PER_SLICE == 0:
                time.sleep(SLICE_PAUSE)


class CountingExporter(SpanExporter):
    """Bounds the queue, counts dropped spans, logs them at a limited rate.

    At most `limit` spans are queued. `last_error` returns why the exporter has failed.
    """

    def __init__(self, exporter: SpanExporter, last_error: Callable[[], str], limit: int) -> None:
        self._exporter = exporter
        self._last_error = last_error
        self._limit = limit
        self._lock = threading.Lock()
        self._queued = 0
        self._dropped = 0
        self._dropped_before = 0
        """At the last export."""
        self._reported = 0
        """How many of the dropped spans the log has reported."""
        self._reason = ""
        self._has_warned = False
        self._next_warning = 0.0
        self._closed = False

    def reserve(self) -> bool:
        """Return whether the queue has room; otherwise count the span as dropped."""
        with self._lock:
            if self._queued >= self._limit:
                self._dropped += 1
                return False
            self._queued += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(SlicedSpans(spans))
            reason = self._last_error() or "no request sent, see OTEL_EXPORTER_OTLP_HEADERS"
        except Exception as error:
            result, reason = SpanExportResult.FAILURE, repr(error)
        delivered = result is SpanExportResult.SUCCESS
        with self._lock:
            self._queued -= len(spans)
            if not delivered:
                self._dropped += len(spans)
                self._reason = reason
            if not self._closed:
                self._log(delivered)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def close(self) -> None:
        """Count queued spans as dropped and stop logging."""
        with self._lock:
            self._closed = True
            if dropped := self._dropped - self._reported + self._queued:
                logger.warning("spans dropped at shutdown: %d", dropped)

    def _log(self, delivered: bool) -> None:
        now = time.monotonic()
        dropped = self._dropped - self._reported
        if dropped and now >= self._next_warning:
            logger.warning(
                "spans dropped: %d (collector: %s)", dropped, self._reason or "queue full"
            )
            self._has_warned, self._reported = True, self._dropped
            self._next_warning = now + WARNING_INTERVAL
            self._reason = ""
        elif self._has_warned and delivered and self._dropped == self._dropped_before:
            logger.info("collector is back, spans dropped meanwhile: %d", dropped)
            self._has_warned, self._reported, self._reason = False, self._dropped, ""
        self._dropped_before = self._dropped


class BoundedSpanProcessor(BatchSpanProcessor):
    """A BatchSpanProcessor with a counted queue of at most `limit` spans.

    Raises `ValueError` if the OTEL_BSP_ variables are invalid.
    """

    def __init__(self, exporter: CountingExporter, limit: int) -> None:
        super().__init__(exporter, limit)
        self._exporter = exporter

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return one for the collector that OpenTelemetry's variables name; None without one.

        Raises `ValueError`.
        """
        url = collector_url()
        if not url:
            return None
        session = RecordingSession()
        exporter = OTLPSpanExporter(url, session=session)
        # Beyond its own limit the processor drops spans as well, but it does not count them, and
        # its warning would carry the ids of whatever request has just finished.
        limit = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or DEFAULT_QUEUE_SIZE)
        return cls(CountingExporter(exporter, lambda: session.last_error, limit), limit)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context and span.context.trace_flags.sampled and self._exporter.reserve():
            super().on_end(span)

    async def close(self) -> None:
        """Flush, for at most SHUTDOWN_TIMEOUT seconds."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # too late, the loop is closed
                loop.call_soon_threadsafe(sent.set)

        # A daemon thread, so that the process does not wait for it at exit.
        threading.Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                await sent.wait()
        self._exporter.close()


def collector_url() -> str:
    """Return the URL to which spans are sent; empty for none. Raises `ValueError`."""
    if _read_choice("OTEL_TRACES_EXPORTER", "otlp", "none") == "none":
        return ""
    url = _read_url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not url and (base := _read_url("OTEL_EXPORTER_OTLP_ENDPOINT")):
        url = base.rstrip("/") + TRACES_PATH
    if url:
        of_traces = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
        is_set = os.environ.get(of_traces)
        _read_choice(of_traces if is_set else "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return url


def _read_choice(variable: str, *choices: str) -> str:
    """Return the value, or the first choice if it is not set."""
    value = os.environ.get(variable, "").strip().lower() or choices[0]
    if value not in choices:
        raise ValueError(f"{variable} must be {' or '.join(choices)}")
    return value


def _read_url(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if value and not _is_plain_url(value):
        # Without the value, which may contain a password.
        raise ValueError(
            f"{variable} must be a URL such as http://127.0.0.1:4318, without credentials and query"
        )
    return value


def _is_plain_url(value: str) -> bool:
    """Return whether it is an HTTP URL without secrets: the log shows it when an export fails."""
    try:
        url = urlsplit(value)
        has_server = bool(url.hostname) and url.port != 0  # raises if it is no number
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and has_server and not set(value).intersection("@?#")
