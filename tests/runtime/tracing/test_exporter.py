"""Export of spans: what is sent, what is dropped, and what the log says about it."""

import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    Sampler,
    SamplingResult,
)
from runtime.testing import Record, wait_until
from runtime.tracing import exporter
from runtime.tracing.exporter import BoundedSpanProcessor, CountingExporter
from tornado.netutil import bind_sockets

from ..support.clock import FakeClock
from ..support.collector import FakeCollector, running_collector

SPANS = [ReadableSpan(str(number)) for number in range(100)]
QUEUE_FULL = "queue full"

LogLines = list[tuple[str, str]]
"""Levels and messages."""


def dropped(count: int, reason: str) -> tuple[str, str]:
    return "warning", f"spans dropped: {count} (collector: {reason})"


def recovered(count: int) -> tuple[str, str]:
    return "info", f"collector is back, spans dropped meanwhile: {count}"


def dropped_at_shutdown(count: int) -> tuple[str, str]:
    return "warning", f"spans dropped at shutdown: {count}"


def log_lines(log_records: list[Record]) -> LogLines:
    """Return what the exporter has logged."""
    records = [record for record in log_records if record["logger"] == exporter.__name__]
    return [(record["level"], record["message"]) for record in records]


class FakeExporter(SpanExporter):
    """Delivers spans, unless the test says why not."""

    def __init__(self) -> None:
        self.failure = ""
        self.error: Exception | None = None
        self.delivered: list[str] = []
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.error:
            raise self.error
        if self.failure:
            return SpanExportResult.FAILURE
        self.delivered += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, exporter)


@pytest.fixture
def fake() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def counting(fake: FakeExporter) -> CountingExporter:
    """An exporter whose queue has room for 5 spans."""
    return CountingExporter(fake, lambda: fake.failure, limit=5)


def export(counting: CountingExporter, count: int = 3) -> None:
    """Let some spans end and be exported."""
    for _ in range(count):
        assert counting.reserve()
    counting.export(SPANS[:count])


def fill_queue(counting: CountingExporter) -> None:
    """Let spans end until one is dropped."""
    while counting.reserve():
        pass


# What is logged


def test_delivery_is_not_logged(counting: CountingExporter, log_records: list[Record]) -> None:
    for _ in range(10):
        export(counting)
    counting.close()
    assert log_lines(log_records) == []


@pytest.mark.usefixtures("clock")
def test_first_failure_and_recovery_are_logged(
    counting: CountingExporter, fake: FakeExporter, log_records: list[Record]
) -> None:
    fake.failure = "out of order"
    export(counting)
    assert log_lines(log_records) == [dropped(3, "out of order")]
    fake.failure = ""
    export(counting)
    export(counting)
    assert log_lines(log_records)[1:] == [recovered(0)]


def test_lasting_failure_is_logged_once_a_minute(
    counting: CountingExporter, fake: FakeExporter, clock: FakeClock, log_records: list[Record]
) -> None:
    fake.failure = "out of order"
    for _ in range(130):
        export(counting)
        clock.now += 1
    assert log_lines(log_records) == [
        dropped(3, "out of order"),
        dropped(180, "out of order"),
        dropped(180, "out of order"),
    ]
    fake.failure = ""
    export(counting)
    export(counting)
    counting.close()
    assert log_lines(log_records)[3:] == [recovered(27)]


def test_intermittent_failures_do_not_flood_the_log(
    counting: CountingExporter, fake: FakeExporter, clock: FakeClock, log_records: list[Record]
) -> None:
    for second in range(600):
        fake.failure = "" if second % 3 else "out of order"
        export(counting)
        clock.now += 1
    counting.close()
    lines = log_lines(log_records)
    assert len(lines) <= 21
    counts = [re.findall(r"dropped[^:]*: (\d+)", message) for _, message in lines]
    assert sum(int(count) for [count] in counts) == 3 * 200
    warnings = [message for level, message in lines if level == "warning"][:-1]
    assert all(message.endswith("(collector: out of order)") for message in warnings)


def test_logged_reason_is_the_current_one(
    counting: CountingExporter, fake: FakeExporter, clock: FakeClock, log_records: list[Record]
) -> None:
    def fail() -> None:
        fake.failure = "out of order"
        export(counting)
        fake.failure = ""

    def overload() -> None:
        clock.now += exporter.WARNING_INTERVAL
        fill_queue(counting)
        counting.export(SPANS[:5])

    fail()
    overload()
    fail()
    counting.export([])
    counting.export([])
    overload()
    assert log_lines(log_records) == [
        dropped(3, "out of order"),
        dropped(1, QUEUE_FULL),
        recovered(3),
        dropped(1, QUEUE_FULL),
    ]


def test_error_of_the_exporter_is_a_failure(
    counting: CountingExporter, fake: FakeExporter, log_records: list[Record]
) -> None:
    fake.error = ValueError("no such thing")
    export(counting)
    assert log_lines(log_records) == [dropped(3, "ValueError('no such thing')")]
    assert "exception.stacktrace" not in log_records[-1]


def test_failure_without_a_request_points_to_the_headers(
    fake: FakeExporter, log_records: list[Record]
) -> None:
    fake.failure = "its headers cannot be sent"
    export(CountingExporter(fake, lambda: "", limit=5))
    reason = "no request sent, see OTEL_EXPORTER_OTLP_HEADERS"
    assert log_lines(log_records) == [dropped(3, reason)]


def test_queue_is_bounded(counting: CountingExporter, log_records: list[Record]) -> None:
    assert [counting.reserve() for _ in range(8)] == [True] * 5 + [False] * 3
    counting.export(SPANS[:3])
    assert log_lines(log_records) == [dropped(3, QUEUE_FULL)]
    assert [counting.reserve() for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.usefixtures("clock")
def test_recovery_is_not_logged_while_the_queue_overflows(
    counting: CountingExporter, log_records: list[Record]
) -> None:
    for _ in range(3):
        fill_queue(counting)
        counting.export(SPANS[:3])
    assert log_lines(log_records) == [dropped(1, QUEUE_FULL)]
    counting.export([])
    assert log_lines(log_records)[1:] == [recovered(2)]


def test_queued_spans_count_as_dropped_at_shutdown(
    counting: CountingExporter, fake: FakeExporter, log_records: list[Record]
) -> None:
    counting.reserve()
    counting.reserve()
    counting.close()
    assert log_lines(log_records) == [dropped_at_shutdown(2)]
    fake.failure = "out of order"
    counting.export(SPANS[:2])
    assert len(log_lines(log_records)) == 1


# What is sent


def test_export_yields_the_gil_after_every_slice(
    fake: FakeExporter, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(exporter.time, "sleep", pauses.append)
    counting = CountingExporter(fake, str, limit=100)
    export(counting, exporter.SPANS_PER_SLICE - 1)
    assert pauses == []
    export(counting, 2 * exporter.SPANS_PER_SLICE)
    assert pauses == [exporter.SLICE_PAUSE] * 2
    assert len(fake.delivered) == 3 * exporter.SPANS_PER_SLICE - 1


def end_spans(processor: BoundedSpanProcessor, count: int, sampler: Sampler = ALWAYS_ON) -> None:
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("orders")
    for number in range(count):
        tracer.start_span(str(number)).end()


async def test_close_flushes_everything(fake: FakeExporter, log_records: list[Record]) -> None:
    processor = BoundedSpanProcessor(CountingExporter(fake, str, 5000), 5000)
    end_spans(processor, 2000)
    await processor.close()
    assert sorted(fake.delivered, key=int) == [str(number) for number in range(2000)]
    assert fake.closed
    assert log_lines(log_records) == []


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCollector]:
    """A collector, whose URL is in the environment."""
    # Seconds after which the exporter gives up: later than any test here ends.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    before = set(threading.enumerate())
    async with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector
    # A stopping service does not wait for these, but other tests count threads.
    await wait_until(
        lambda: all(thread.name == "asyncio_0" for thread in set(threading.enumerate()) - before)
    )


@pytest.fixture
def make_processor(collector: FakeCollector) -> Callable[[], BoundedSpanProcessor]:
    """Return what exports to the collector of the environment."""

    def make_processor() -> BoundedSpanProcessor:
        processor = BoundedSpanProcessor.from_environment()
        assert processor
        return processor

    return make_processor


MakeProcessor = Callable[[], BoundedSpanProcessor]


async def test_spans_are_sent_to_the_url_with_the_headers_of_the_environment(
    collector: FakeCollector,
    make_processor: MakeProcessor,
    log_records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=key")
    processor = make_processor()
    end_spans(processor, 3)
    await processor.close()
    assert collector.spans == ["0", "1", "2"]
    assert collector.authorization == ["key"]
    assert log_lines(log_records) == []


@pytest.mark.parametrize("status", [302, 304, 400, 401, 500])
async def test_response_other_than_success_is_logged(
    collector: FakeCollector,
    make_processor: MakeProcessor,
    log_records: list[Record],
    status: int,
) -> None:
    collector.status = status
    processor = make_processor()
    end_spans(processor, 3)
    await processor.close()
    assert collector.requests == 1
    [(level, message)] = log_lines(log_records)
    assert level == "warning"
    assert message.startswith(f"spans dropped: 3 (collector: HTTP {status} ")


async def test_unreachable_collector_does_not_delay_shutdown(
    make_processor: MakeProcessor, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "SHUTDOWN_TIMEOUT", 0.2)
    [unused] = bind_sockets(0, "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
    unused.close()
    processor = make_processor()
    end_spans(processor, 3)
    await processor.close()
    # Before the exporter has given up: that would be logged as a failure.
    assert log_lines(log_records) == [dropped_at_shutdown(3)]
    processor.span_exporter.shutdown()


async def test_silent_collector_does_not_delay_shutdown(
    collector: FakeCollector,
    make_processor: MakeProcessor,
    log_records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "SHUTDOWN_TIMEOUT", 0.2)
    collector.responds.clear()
    before = threading.enumerate()
    processor = make_processor()
    end_spans(processor, 3)
    await processor.close()
    assert log_lines(log_records) == [dropped_at_shutdown(3)]
    assert all(thread.daemon for thread in threading.enumerate() if thread not in before)
    collector.responds.set()
    await wait_until(lambda: collector.spans)


async def test_spans_beyond_the_queue_size_are_dropped(
    collector: FakeCollector,
    make_processor: MakeProcessor,
    log_records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    collector.responds.clear()
    processor = make_processor()
    end_spans(processor, 10)
    await wait_until(lambda: collector.requests)
    end_spans(processor, 5)
    collector.responds.set()
    await processor.close()
    assert len(collector.spans) == 10
    assert log_lines(log_records) == [dropped(5, QUEUE_FULL)]
    assert not [r for r in log_records if r["logger"] == "opentelemetry.sdk._shared_internal"]


class RecordOnly(Sampler):
    """Records spans that are not to be exported."""

    def should_sample(self, *arguments: object, **named: object) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()], ids=["off", "record-only"])
async def test_unsampled_spans_are_not_exported(
    collector: FakeCollector,
    make_processor: MakeProcessor,
    log_records: list[Record],
    sampler: Sampler,
) -> None:
    processor = make_processor()
    end_spans(processor, 3, sampler)
    await processor.close()
    assert collector.requests == 0
    assert log_lines(log_records) == []
