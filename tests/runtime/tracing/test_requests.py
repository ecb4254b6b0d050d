import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from opentelemetry.util._once import Once
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler

from runtime.tracing.exporter import CountingExporter, BoundedSpanProcessor
from runtime.http.application import Application
from runtime.settings import Settings
from runtime.process.sockets import StartupError
from runtime.tracing.requests import Tracing
from runtime.http.handler import Handler
from runtime.http.websocket import WebSocket

from .stand_in import OneItem
from .support import Client, Record, close, serving, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
IDS = {"trace_id", "span_id"}
LONG = "x" * 600

logger = logging.getLogger("orders")


class Fail(Handler):
    def get(self) -> None:
        raise RuntimeError("hunter2")


class Plain(RequestHandler):
    def get(self) -> None:
        self.write("plain")


class PlainFail(RequestHandler):
    def get(self) -> None:
        raise RuntimeError("hunter2")


class Own(Handler):
    """Answers while a span of its own is current."""

    def get(self) -> None:
        with trace.get_tracer("orders").start_as_current_span("own"):
            self.reply()
            logger.info("answered")


class Log(Handler):
    """Logs from wherever a handler can."""

    async def get(self) -> None:
        logger.info("in the handler")
        await asyncio.to_thread(logger.info, "in a thread")
        self.settings["task"] = asyncio.create_task(self.log_later())
        self.reply()

    async def log_later(self) -> None:
        await self.settings["later"].wait()
        logger.info("after the answer")


class Wait(Handler):
    """Waits until somebody else finishes it or its client has gone."""

    async def get(self) -> None:
        self.settings["waiting"].append(self)
        await self.settings["later"].wait()
        if not self._finished:
            await self.flush()

    def on_connection_close(self) -> None:
        self.settings["later"].set()


class Finish(Handler):
    """Finishes the one that waits."""

    def get(self) -> None:
        self.settings["waiting"].pop().reply({"finished": True})
        self.settings["later"].set()
        self.reply()


class Call(Handler):
    """Calls another service."""

    async def get(self) -> None:
        request: HTTPRequest = self.settings["request"]
        with suppress(Exception):
            await AsyncHTTPClient().fetch(request)
        self.reply()


class Moved(Handler):
    def get(self) -> None:
        self.redirect("/items/cup")


ROUTES: list[tuple[str, type[RequestHandler]]] = [
    ("/items/{name}", OneItem),
    ("/fail", Fail),
    ("/plain", Plain),
    ("/plain-fail", PlainFail),
    ("/own", Own),
    ("/log", Log),
    ("/wait", Wait),
    ("/finish", Finish),
    ("/call", Call),
    ("/moved", Moved),
    ("/socket", WebSocket),
]


@pytest.fixture(autouse=True)
def _no_provider_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What the spans go to, in place of a collector."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr(BoundedSpanProcessor, "to", lambda _: BoundedSpanProcessor(CountingExporter(memory, str, 2048), 2048))
    yield memory
    assert all(span.end_time for span in memory.get_finished_spans())


Traced = Callable[..., Any]


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Traced:
    """Serve with traces: ``async with traced() as client``. The client itself makes none."""

    @asynccontextmanager
    async def traced() -> AsyncIterator[Client]:
        settings = Settings.model_validate({"otlp_endpoint": "http://127.0.0.1:4318"})
        tracing = Tracing(settings)
        app = Application(settings, ROUTES, observers=[tracing])
        app.settings |= {"later": asyncio.Event(), "waiting": []}
        async with serving(app, settings) as client, tracing.running():
            yield client

    return traced


@pytest.fixture
def one(exporter: InMemorySpanExporter) -> Callable[[], ReadableSpan]:
    """Return the only span that there is."""

    def one() -> ReadableSpan:
        (span,) = exporter.get_finished_spans()
        return span

    return one


One = Callable[[], ReadableSpan]


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def parent(span: ReadableSpan) -> tuple[str, str] | None:
    if span.parent is None:
        return None
    return format_trace_id(span.parent.trace_id), format_span_id(span.parent.span_id)


def lines(log_records: list[Record], name: str) -> list[Record]:
    return [record for record in log_records if record["logger"] == name]


# Requests


async def test_a_request_is_one_span_that_tells_about_it(traced: Traced, one: One) -> None:
    async with traced() as client:
        await client.get("/items/cup?token=hunter2", User_Agent="check", Host="Shop.example:80")
    span = one()
    assert (span.name, span.kind) == ("GET /items/{name}", SpanKind.SERVER)
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": "/items/{name}",
        "http.response.status_code": 200,
        "url.path": "/items/cup",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "server.address": "shop.example",
        "network.protocol.version": "1.1",
        "user_agent.original": "check",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_a_path_without_a_route_names_no_span(traced: Traced, one: One) -> None:
    async with traced() as client:
        await client.get("/nowhere")
    assert one().name == "GET"
    assert "http.route" not in attributes(one())


@pytest.mark.parametrize(("limit", "longest"), [("", 1024), ("50", 50)])
async def test_what_a_client_chooses_takes_little_memory(
    traced: Traced,
    one: One,
    log_records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    longest: int,
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit)
    async with traced() as client:
        await client.fetch(3000 * "M", "/" + 3000 * "x", User_Agent=3000 * "y", Host=3000 * "z")
    lengths = {name: len(str(value)) for name, value in attributes(one()).items()}
    assert {name for name, length in lengths.items() if length == longest} == {
        "url.path",
        "server.address",
        "http.request.method_original",
        "user_agent.original",
    }
    assert max(lengths.values()) == longest
    assert [record for record in log_records if record["logger"].startswith("opentelemetry")] == []


async def test_a_method_that_nobody_knows_names_no_span(traced: Traced, one: One) -> None:
    async with traced() as client, client.wire() as wire:
        wire.send("BREW /items/cup HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.answer()).status == 405
    assert one().name == "HTTP /items/{name}"
    assert attributes(one())["http.request.method"] == "_OTHER"
    assert attributes(one())["http.request.method_original"] == "BREW"
    assert "user_agent.original" not in attributes(one())


async def test_the_trace_of_the_caller_goes_on(traced: Traced, one: One) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT)
    assert parent(one()) == (TRACE, SPAN)
    assert ids(one())[0] == TRACE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": ""},
        {"traceparent": "nonsense"},
        {"traceparent": TRACEPARENT.upper()},
        {"traceparent": TRACEPARENT + "-more"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": LONG},
    ],
)
async def test_without_a_trace_of_the_caller_there_is_a_new_one(
    traced: Traced, one: One, log_records: list[Record], headers: dict[str, str]
) -> None:
    async with traced() as client:
        assert (await client.get("/items/cup", **headers)).code == 200
    assert parent(one()) is None
    assert ids(one())[0] != TRACE
    assert not [record for record in log_records if record["logger"].startswith("opentelemetry")]


@pytest.mark.parametrize("tracestate", ["what is this", LONG])
async def test_a_malformed_tracestate_is_left_out_without_a_word(
    traced: Traced, one: One, log_records: list[Record], tracestate: str
) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT, tracestate=tracestate)
    assert parent(one()) == (TRACE, SPAN)
    assert not [record for record in log_records if record["logger"].startswith("opentelemetry")]


async def test_what_the_caller_does_not_sample_is_not_sent(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT[:-1] + "0")
    assert exporter.get_finished_spans() == ()
    assert lines(log_records, "access")[0]["trace_id"] == TRACE


async def test_requests_on_one_connection_have_traces_of_their_own(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client, client.wire() as wire:
        wire.ask("/items/1", traceparent=TRACEPARENT)
        wire.ask("/items/2")
        wire.ask("/items/3")
        for _ in range(3):
            await wire.answer()
    first, second, third = exporter.get_finished_spans()
    assert [parent(span) for span in (first, second, third)] == [(TRACE, SPAN), None, None]
    assert len({ids(span)[0] for span in (first, second, third)}) == 3


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/items/%ff", 400)])
async def test_a_mistake_of_the_client_is_no_error(
    traced: Traced, one: One, path: str, status: int
) -> None:
    async with traced() as client:
        assert (await client.get(path)).code == status
    assert attributes(one())["http.response.status_code"] == status
    assert one().status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(one())


@pytest.mark.parametrize("path", ["/fail", "/plain-fail"])
async def test_a_failure_is_an_error_that_tells_no_secret(
    traced: Traced, one: One, path: str
) -> None:
    async with traced() as client:
        assert (await client.get(path)).code == 500
    assert attributes(one())["http.response.status_code"] == 500
    assert attributes(one())["error.type"] == "500"
    assert one().status.status_code is StatusCode.ERROR
    assert not one().events
    assert "hunter2" not in one().to_json()


async def test_a_handler_of_any_kind_is_traced(traced: Traced, one: One) -> None:
    async with traced() as client:
        assert (await client.get("/plain")).body == b"plain"
    assert one().name == "GET /plain"


async def test_the_span_of_a_websocket_ends_with_its_handshake(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        websocket = await client.websocket("/socket")
        await wait_until(lambda: len(lines(log_records, "access")) == 1)
        opened = time.time_ns()
        await close(websocket)
        await wait_until(lambda: not client.app.websockets)
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["http.response.status_code"] == 101
    assert span.end_time is not None
    assert span.end_time <= opened
    assert [(line["trace_id"], line["span_id"]) for line in lines(log_records, "access")] == [ids(span)] * 2


async def test_a_client_that_has_gone_is_no_error(traced: Traced, one: One) -> None:
    async with traced() as client:
        async with client.wire() as wire:
            wire.ask("/wait")
            await wait_until(lambda: client.app.settings["waiting"])
        await wait_until(lambda: not client.app.in_flight)
    assert attributes(one())["http.response.status_code"] == 499
    assert one().status.status_code is StatusCode.UNSET


async def test_whoever_finishes_a_request_its_own_span_ends(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client, client.wire() as wire:
        wire.ask("/wait")
        await wait_until(lambda: client.app.settings["waiting"])
        await client.get("/finish")
        assert (await wire.answer()).json() == {"finished": True}
    assert by_name(exporter).keys() == {"GET /wait", "GET /finish"}


async def test_the_application_may_make_spans_of_its_own(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/own")
    spans = by_name(exporter)
    assert parent(spans["own"]) == ids(spans["GET /own"])
    (line,) = lines(log_records, "orders")
    assert (line["trace_id"], line["span_id"]) == ids(spans["own"])


async def test_a_service_that_does_not_run_yet_answers_untraced(log_records: list[Record]) -> None:
    settings = Settings()
    app = Application(settings, ROUTES, observers=[Tracing(settings)])
    async with serving(app, settings) as client:
        assert (await client.get("/items/cup")).code == 200
    assert not IDS & lines(log_records, "access")[0].keys()


# Log


async def test_every_record_of_a_request_has_the_ids(
    traced: Traced, one: One, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/log")
        client.app.settings["later"].set()
        await client.app.settings["task"]
    records = lines(log_records, "orders") + lines(log_records, "access")
    assert sorted(record["message"] for record in records) == [
        "GET /log 200",
        "after the answer",
        "in a thread",
        "in the handler",
    ]
    assert [(record["trace_id"], record["span_id"]) for record in records] == [ids(one())] * 4


async def test_a_record_of_no_request_has_no_ids(traced: Traced, log_records: list[Record]) -> None:
    async with traced() as client:
        logger.info("at the start")
        async with client.wire() as wire:
            await wire.get("/items/cup")
            wire.send("nonsense\r\n\r\n")
            await wire.rest()
    (access,) = lines(log_records, "access")
    assert access.keys() >= IDS
    others = [record for record in log_records if record is not access]
    assert {"orders", "tornado.general"} <= {record["logger"] for record in others}
    assert not [record for record in others if IDS & record.keys()]


@pytest.mark.usefixtures("exporter")
async def test_without_a_collector_the_ids_are_logged_all_the_same(log_records: list[Record]) -> None:
    settings = Settings()
    tracing = Tracing(settings)
    app = Application(settings, ROUTES, observers=[tracing])
    async with serving(app, settings) as client, tracing.running():
        await client.get("/items/cup", traceparent=TRACEPARENT)
    assert lines(log_records, "access")[0]["trace_id"] == TRACE


async def test_a_record_may_have_ids_of_its_own(traced: Traced, log_records: list[Record]) -> None:
    class Import(Handler):
        def get(self) -> None:
            logger.info("imported", extra={"trace_id": "7"})
            self.reply()

    async with traced() as client:
        client.app.add_handlers(".*", [("/import", Import)])
        assert (await client.get("/import")).code == 200
    assert lines(log_records, "orders")[0]["trace_id"] == "7"


@pytest.mark.usefixtures("log")
async def test_what_is_set_for_the_process_is_undone_at_the_end(traced: Traced) -> None:
    def filters() -> list[int]:
        return [len(handler.filters) for handler in logging.getLogger().handlers]

    before = AsyncHTTPClient.configured_class(), filters()
    async with traced():
        assert AsyncHTTPClient.configured_class() is not before[0]
        assert sum(filters()) > sum(before[1])
    assert (AsyncHTTPClient.configured_class(), filters()) == before


# Calls


async def call(client: Client, url: str, **options: Any) -> None:
    """Let a handler call a URL, or a path of this service."""
    here = f"http://127.0.0.1:{client.port}"
    client.app.settings["request"] = HTTPRequest(here + url if url[0] == "/" else url, **options)
    assert (await client.get("/call")).code == 200


async def test_a_call_is_a_span_between_caller_and_called(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await call(client, f"http://ada:hunter2@127.0.0.1:{client.port}/items/cup?token=hunter2")
    spans = by_name(exporter)
    assert parent(spans["GET /items/{name}"]) == ids(spans["GET"])
    assert parent(spans["GET"]) == ids(spans["GET /call"])
    assert spans["GET"].kind is SpanKind.CLIENT
    assert spans["GET"].status.status_code is StatusCode.UNSET
    assert attributes(spans["GET"]) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": client.port,
        "url.full": f"http://127.0.0.1:{client.port}/items/cup",
    }


async def test_a_request_that_is_sent_twice_has_the_id_of_each_time(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await call(client, "/items/cup")
        await client.get("/call")
    spans = exporter.get_finished_spans()
    called = [parent(span) for span in spans if span.name == "GET /items/{name}"]
    assert called == [ids(span) for span in spans if span.name == "GET"]
    assert len(called) == 2


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/fail", 500)])
async def test_a_call_that_is_refused_or_fails_there_is_an_error(
    traced: Traced, exporter: InMemorySpanExporter, path: str, status: int
) -> None:
    async with traced() as client:
        await call(client, path)
    _, span, caller = exporter.get_finished_spans()
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert attributes(span)["error.type"] == str(status)
    assert attributes(span)["http.response.status_code"] == status
    assert (caller.name, caller.status.status_code) == ("GET /call", StatusCode.UNSET)


async def test_a_call_that_nobody_answers_is_an_error(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    (silent,) = bind_sockets(0, "127.0.0.1")
    port = silent.getsockname()[1]
    async with traced() as client:
        with silent:
            await call(client, f"http://127.0.0.1:{port}", request_timeout=0.05)
        await call(client, f"http://127.0.0.1:{port}")
        await call(client, "http://[nonsense")
    spans = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    found = [attributes(span)["error.type"] for span in spans]
    assert found == ["HTTPTimeoutError", "ConnectionRefusedError", "ValueError"]
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    assert not [span for span in spans if "http.response.status_code" in attributes(span)]


async def test_a_call_that_is_redirected_is_one_span(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await call(client, "/moved")
    spans = by_name(exporter)
    assert spans.keys() == {"GET /call", "GET", "GET /moved", "GET /items/{name}"}
    assert attributes(spans["GET"])["http.response.status_code"] == 200
    assert parent(spans["GET /moved"]) == parent(spans["GET /items/{name}"]) == ids(spans["GET"])


async def test_what_is_configured_for_calls_goes_on_to_hold(traced: Traced) -> None:
    saved = AsyncHTTPClient._save_configuration()
    AsyncHTTPClient.configure(None, max_clients=17)
    try:
        async with traced():
            assert vars(AsyncHTTPClient(force_instance=True))["max_clients"] == 17
    finally:
        AsyncHTTPClient._restore_configuration(saved)


# The service


async def test_the_spans_say_who_they_are_from(traced: Traced, one: One) -> None:
    async with traced() as client:
        await client.get("/items/cup")
    name = "runtime".replace("_", "-")
    assert one().resource.attributes["service.name"] == name
    assert one().resource.attributes["service.version"]


async def test_the_environment_says_who_they_are_from(
    traced: Traced, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    async with traced() as client:
        await client.get("/items/cup")
    assert one().resource.attributes["service.name"] == "shop"
    assert one().resource.attributes["deployment.environment.name"] == "staging"


async def test_the_environment_says_what_is_sampled(
    traced: Traced, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with traced() as client:
        await client.get("/items/cup")
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b, authorization: hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "hunter2"),
    ],
)
async def test_a_variable_that_makes_no_sense_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, log_records: list[Record], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    settings = Settings.model_validate({"otlp_endpoint": "http://127.0.0.1:4318"})
    with pytest.raises(StartupError, match="OTEL_") as caught:
        async with Tracing(settings).running():
            pass
    assert "hunter2" not in f"{caught.value}{log}"


@pytest.mark.parametrize("value", ["", "a=b", "a=b, authorization=Bearer%20c=,"])
async def test_keys_for_the_collector_may_be_given(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", value)
    settings = Settings.model_validate({"otlp_endpoint": "http://127.0.0.1:4318"})
    async with Tracing(settings).running():
        pass
