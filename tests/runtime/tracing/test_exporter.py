import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    Sampler,
    SamplingResult,
)
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from runtime.tracing import exporter as collector
from runtime.tracing.exporter import CountingExporter, BoundedSpanProcessor
from runtime.settings import SettingsError, load

from .support import Record, wait_until

SOME = [ReadableSpan(str(number)) for number in range(100)]


class Clock:
    """The time, which passes when the test says so."""

    now = 1000.0
    pauses = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        self.pauses += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(collector, "time", clock)
    return clock


class Exporter(SpanExporter):
    """Takes spans, unless the test says why not."""

    def __init__(self) -> None:
        self.failure = ""
        self.error: Exception | None = None
        self.taken: list[str] = []
        self.closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.error:
            raise self.error
        if self.failure:
            return SpanExportResult.FAILURE
        self.taken += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed = True


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
def delivery(exporter: Exporter) -> CountingExporter:
    return CountingExporter(exporter, lambda: exporter.failure, limit=5)


def send(delivery: CountingExporter, count: int = 3) -> None:
    """Let so many spans end and be sent."""
    for _ in range(count):
        assert delivery.admit()
    delivery.export(SOME[:count])


def said(log_records: list[Record]) -> list[tuple[str, str]]:
    return [(one["level"], one["message"]) for one in log_records if one["logger"] == collector.__name__]


# Where it is


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4318",
        "ftp://collector",
        "http://",
        "http://ada:hunter2@collector",
        "http:/ada:hunter2@collector",
        "ada:hunter2@collector",
        "https://collector?key=hunter2",
        "https://collector/#fragment",
    ],
)
def test_an_endpoint_is_a_url_without_secrets(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("APP_OTLP_ENDPOINT", url)
    with pytest.raises(SettingsError) as caught:
        load()
    assert "APP_OTLP_ENDPOINT: " in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:4318", "https://shop/base/", "http://[::1]"])
def test_an_endpoint_may_have_a_port_and_a_path(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("APP_OTLP_ENDPOINT", url)
    assert str(load().otlp_endpoint).rstrip("/") == url.rstrip("/")


def test_without_an_endpoint_there_is_none() -> None:
    assert load().otlp_endpoint is None


# What is said


def test_what_is_delivered_is_no_news(delivery: CountingExporter, log_records: list[Record]) -> None:
    for _ in range(10):
        send(delivery)
    delivery.close()
    assert said(log_records) == []


@pytest.mark.usefixtures("clock")
def test_the_first_loss_is_told_and_the_recovery(
    delivery: CountingExporter, exporter: Exporter, log_records: list[Record]
) -> None:
    exporter.failure = "it sleeps"
    send(delivery)
    assert said(log_records) == [("warning", "spans lost: 3, the collector does not take them: it sleeps")]
    exporter.failure = ""
    send(delivery)
    send(delivery)
    assert said(log_records)[1:] == [("info", "the collector takes spans again, lost meanwhile: 0")]


def test_as_long_as_it_fails_there_is_a_line_a_minute(
    delivery: CountingExporter, exporter: Exporter, clock: Clock, log_records: list[Record]
) -> None:
    exporter.failure = "it sleeps"
    for _ in range(130):
        send(delivery)
        clock.now += 1
    because = "the collector does not take them: it sleeps"
    assert said(log_records) == [
        ("warning", f"spans lost: 3, {because}"),
        ("warning", f"spans lost: 180, {because}"),
        ("warning", f"spans lost: 180, {because}"),
    ]
    exporter.failure = ""
    send(delivery)
    send(delivery)
    delivery.close()
    assert said(log_records)[3:] == [("info", "the collector takes spans again, lost meanwhile: 27")]


def test_one_that_fails_now_and_then_is_no_flood(
    delivery: CountingExporter, exporter: Exporter, clock: Clock, log_records: list[Record]
) -> None:
    for second in range(600):
        exporter.failure = "" if second % 3 else "it stumbles"
        send(delivery)
        clock.now += 1
    delivery.close()
    assert len(said(log_records)) <= 21
    counts = [re.findall(r"lost[^:]*: (\d+)", message) for _, message in said(log_records)]
    assert sum(int(count) for (count,) in counts) == 3 * 200
    warnings = [message for level, message in said(log_records) if level == "warning"][:-1]
    assert all(message.endswith(": it stumbles") for message in warnings)


def test_a_reason_is_forgotten_when_it_has_been_told(
    delivery: CountingExporter, exporter: Exporter, clock: Clock, log_records: list[Record]
) -> None:
    def fail() -> None:
        exporter.failure = "it stumbles"
        send(delivery)
        exporter.failure = ""

    def overload() -> None:
        clock.now += collector.QUIET
        while delivery.admit():
            pass
        delivery.export(SOME[:5])

    fail()
    overload()
    fail()
    delivery.export([])
    delivery.export([])
    overload()
    assert [message.rpartition(": ")[2] for _, message in said(log_records)] == [
        "it stumbles",
        "more come than it takes",
        "3",
        "more come than it takes",
    ]


def test_an_exporter_that_raises_is_one_that_fails(
    delivery: CountingExporter, exporter: Exporter, log_records: list[Record]
) -> None:
    exporter.error = ValueError("no such thing")
    send(delivery)
    assert said(log_records) == [
        (
            "warning",
            "spans lost: 3, the collector does not take them: ValueError('no such thing')",
        )
    ]
    assert "exception.stacktrace" not in log_records[-1]


def test_no_more_wait_than_may(delivery: CountingExporter, exporter: Exporter, log_records: list[Record]) -> None:
    assert [delivery.admit() for _ in range(8)] == [True] * 5 + [False] * 3
    delivery.export(SOME[:3])
    assert said(log_records) == [
        ("warning", "spans lost: 3, the collector does not take them: more come than it takes")
    ]
    assert [delivery.admit() for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.usefixtures("clock")
def test_as_long_as_more_come_than_it_takes_all_is_not_well(
    delivery: CountingExporter, log_records: list[Record]
) -> None:
    for _ in range(3):
        while delivery.admit():
            pass
        delivery.export(SOME[:3])
    assert [level for level, _ in said(log_records)] == ["warning"]
    delivery.export([])
    assert said(log_records)[1:] == [("info", "the collector takes spans again, lost meanwhile: 2")]


def test_what_waits_at_the_end_is_counted(
    delivery: CountingExporter, exporter: Exporter, log_records: list[Record]
) -> None:
    delivery.admit()
    delivery.admit()
    delivery.close()
    assert said(log_records) == [("warning", "spans lost at the stop: 2")]
    exporter.failure = "it sleeps"
    delivery.export(SOME[:2])
    assert len(said(log_records)) == 1


# What is sent


def test_the_event_loop_has_its_turn_after_a_few_spans(exporter: Exporter, clock: Clock) -> None:
    delivery = CountingExporter(exporter, str, limit=100)
    send(delivery, collector.TURN - 1)
    assert clock.pauses == 0
    send(delivery, 2 * collector.TURN)
    assert clock.pauses == 2
    assert len(exporter.taken) == 3 * collector.TURN - 1


def end_spans(outbox: BoundedSpanProcessor, count: int, sampler: Sampler = ALWAYS_ON) -> None:
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(outbox)
    tracer = provider.get_tracer("orders")
    for number in range(count):
        tracer.start_span(str(number)).end()


async def test_at_the_end_all_is_sent(exporter: Exporter, log_records: list[Record]) -> None:
    outbox = BoundedSpanProcessor(CountingExporter(exporter, str, 5000), 5000)
    end_spans(outbox, 2000)
    await outbox.close()
    assert sorted(exporter.taken, key=int) == [str(number) for number in range(2000)]
    assert exporter.closed
    assert said(log_records) == []


class Collector:
    """What takes spans over HTTP, or does not."""

    def __init__(self) -> None:
        self.status = 200
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self.headers: list[str] = []
        self.taken: list[str] = []
        self.url = ""


class Traces(RequestHandler):
    def initialize(self, collector: Collector) -> None:
        self._collector = collector

    async def post(self) -> None:
        self._collector.asked += 1
        await self._collector.answers.wait()
        self.set_status(self._collector.status)
        if self._collector.status == 200:
            self._collector.headers.append(self.request.headers.get("Authorization", ""))
            message = ExportTraceServiceRequest.FromString(self.request.body)
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    self._collector.taken += [span.name for span in scope.spans]


@pytest.fixture
async def http(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector."""
    # Seconds after which the exporter tries no more.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    before = set(threading.enumerate())
    found = Collector()
    server = HTTPServer(Application([("/base/v1/traces", Traces, {"collector": found})]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    found.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/base/"
    yield found
    found.answers.set()
    server.stop()
    await server.close_all_connections()
    # Nobody waits for these when the service stops, but other tests count threads.
    await wait_until(lambda: all(one.name == "asyncio_0" for one in set(threading.enumerate()) - before))


async def test_spans_go_to_the_url_with_the_headers_of_the_environment(
    http: Collector, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=key")
    outbox = BoundedSpanProcessor.to(http.url)
    end_spans(outbox, 3)
    await outbox.close()
    assert http.taken == ["0", "1", "2"]
    assert http.headers == ["key"]
    assert said(log_records) == []


@pytest.mark.parametrize("status", [302, 304, 400, 401, 500])
async def test_an_answer_that_is_no_yes_is_told(
    http: Collector, log_records: list[Record], status: int
) -> None:
    http.status = status
    outbox = BoundedSpanProcessor.to(http.url)
    end_spans(outbox, 3)
    await outbox.close()
    assert http.asked == 1
    ((level, message),) = said(log_records)
    assert level == "warning"
    assert message.startswith("spans lost: 3, the collector does not take them: it answers")
    assert str(status) in message


async def test_a_collector_that_is_not_there_holds_up_no_stop(
    http: Collector, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "STOP_TIMEOUT", 0.2)
    (unused,) = bind_sockets(0, "127.0.0.1")
    port = unused.getsockname()[1]
    unused.close()
    outbox = BoundedSpanProcessor.to(f"http://127.0.0.1:{port}")
    end_spans(outbox, 3)
    began = time.monotonic()
    await outbox.close()
    # The exporter tries for 3.
    assert time.monotonic() - began < 2.5
    assert said(log_records) == [("warning", "spans lost at the stop: 3")]
    outbox.span_exporter.shutdown()


async def test_a_collector_that_never_answers_holds_up_no_stop(
    http: Collector, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "STOP_TIMEOUT", 0.2)
    http.answers.clear()
    outbox = BoundedSpanProcessor.to(http.url)
    end_spans(outbox, 3)
    began = time.monotonic()
    await outbox.close()
    # The exporter tries for 3.
    assert time.monotonic() - began < 2.5
    assert said(log_records) == [("warning", "spans lost at the stop: 3")]
    assert all(thread.daemon for thread in threading.enumerate()[1:])


async def test_spans_beyond_the_limit_of_the_environment_are_lost(
    http: Collector, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    http.answers.clear()
    outbox = BoundedSpanProcessor.to(http.url)
    end_spans(outbox, 10)
    await wait_until(lambda: http.asked)
    end_spans(outbox, 5)
    http.answers.set()
    await outbox.close()
    assert len(http.taken) == 10
    assert said(log_records) == [
        ("warning", "spans lost: 5, the collector does not take them: more come than it takes")
    ]
    assert not [one for one in log_records if one["logger"] == "opentelemetry.sdk._shared_internal"]


class Unsent(Sampler):
    """Wants spans to be made, but not to be sent."""

    def should_sample(self, *arguments: object, **named: object) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "unsent"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, Unsent()], ids=["off", "unsent"])
async def test_what_is_not_sampled_goes_nowhere(
    http: Collector, log_records: list[Record], sampler: Sampler
) -> None:
    outbox = BoundedSpanProcessor.to(http.url)
    end_spans(outbox, 3, sampler)
    await outbox.close()
    assert http.asked == 0
    assert said(log_records) == []
