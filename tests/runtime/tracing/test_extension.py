"""The span of a request, and the trace ids in its log records."""

import json
import time

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from runtime.logs.context import request_id
from runtime.settings import Settings
from runtime.testing import Record, serving, wait_until
from runtime.tracing import Tracing
from tornado.httpclient import AsyncHTTPClient

from ..support.connections import RawConnection, close
from ..support.logs import configured_log
from ..support.spans import attributes, ids, only_span, parent, spans_by_name
from .app import logger, make_app, scene
from .conftest import Traced

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
ID_FIELDS = {"trace_id", "span_id"}
LONG = "x" * 600


def records_of(log_records: list[Record], name: str) -> list[Record]:
    """Return the records of a logger."""
    return [record for record in log_records if record["logger"] == name]


def logged_ids(records: list[Record]) -> list[tuple[str, str]]:
    return [(record["trace_id"], record["span_id"]) for record in records]


def assert_nothing_logged_by_opentelemetry(log_records: list[Record]) -> None:
    loggers = {record["logger"] for record in log_records}
    assert not [name for name in loggers if name.startswith("opentelemetry")]


async def test_span_describes_the_request(traced: Traced, exporter: InMemorySpanExporter) -> None:
    async with traced() as client:
        await client.get("/items/cup?token=hunter2", User_Agent="check", Host="Shop.example:80")
    span = only_span(exporter)
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


async def test_span_of_unmatched_path_has_no_route(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await client.get("/nowhere")
    span = only_span(exporter)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)


@pytest.mark.parametrize(("limit", "longest"), [("", 1024), ("50", 50)])
async def test_client_input_is_truncated(
    traced: Traced,
    exporter: InMemorySpanExporter,
    log_records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    longest: int,
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", limit)
    async with traced() as client:
        await client.fetch(3000 * "M", "/" + 3000 * "x", User_Agent=3000 * "y", Host=3000 * "z")
    span = only_span(exporter)
    lengths = {name: len(str(value)) for name, value in attributes(span).items()}
    assert {name for name, length in lengths.items() if length == longest} == {
        "url.path",
        "server.address",
        "http.request.method_original",
        "user_agent.original",
    }
    assert max(lengths.values()) == longest
    assert_nothing_logged_by_opentelemetry(log_records)


async def test_unknown_method_is_not_in_the_name_of_the_span(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client, RawConnection(client.port) as connection:
        connection.send("BREW /items/cup HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.response()).status == 405
    span = only_span(exporter)
    assert span.name == "HTTP /items/{name}"
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert attributes(span)["http.request.method_original"] == "BREW"
    assert "user_agent.original" not in attributes(span)


async def test_trace_of_the_caller_is_continued(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT)
    span = only_span(exporter)
    assert parent(span) == (TRACE, SPAN)
    assert ids(span)[0] == TRACE


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
async def test_missing_or_invalid_traceparent_begins_a_new_trace(
    traced: Traced,
    exporter: InMemorySpanExporter,
    log_records: list[Record],
    headers: dict[str, str],
) -> None:
    async with traced() as client:
        assert (await client.get("/items/cup", **headers)).code == 200
    span = only_span(exporter)
    assert parent(span) is None
    assert ids(span)[0] != TRACE
    assert_nothing_logged_by_opentelemetry(log_records)


@pytest.mark.parametrize("tracestate", ["what is this", LONG])
async def test_invalid_tracestate_is_ignored_silently(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record], tracestate: str
) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT, tracestate=tracestate)
    assert parent(only_span(exporter)) == (TRACE, SPAN)
    assert_nothing_logged_by_opentelemetry(log_records)


async def test_span_is_not_exported_if_the_caller_does_not_sample(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/items/cup", traceparent=TRACEPARENT[:-1] + "0")
    assert exporter.get_finished_spans() == ()
    assert records_of(log_records, "access")[0]["trace_id"] == TRACE


async def test_requests_on_one_connection_have_separate_traces(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client, RawConnection(client.port) as connection:
        connection.send_get("/items/1", traceparent=TRACEPARENT)
        connection.send_get("/items/2")
        connection.send_get("/items/3")
        for _ in range(3):
            await connection.response()
    spans = exporter.get_finished_spans()
    assert [parent(span) for span in spans] == [(TRACE, SPAN), None, None]
    assert len({ids(span)[0] for span in spans}) == 3


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/items/%ff", 400)])
async def test_client_error_is_not_an_error_of_the_span(
    traced: Traced, exporter: InMemorySpanExporter, path: str, status: int
) -> None:
    async with traced() as client:
        assert (await client.get(path)).code == status
    span = only_span(exporter)
    assert attributes(span)["http.response.status_code"] == status
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(span)


@pytest.mark.parametrize("path", ["/fail", "/plain-fail"])
async def test_server_error_is_recorded_without_its_message(
    traced: Traced, exporter: InMemorySpanExporter, path: str
) -> None:
    async with traced() as client:
        assert (await client.get(path)).code == 500
    span = only_span(exporter)
    assert attributes(span)["http.response.status_code"] == 500
    assert attributes(span)["error.type"] == "500"
    assert span.status.status_code is StatusCode.ERROR
    assert not span.events
    assert "hunter2" not in span.to_json()


async def test_plain_tornado_handler_is_traced(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        assert (await client.get("/plain")).body == b"plain"
    assert only_span(exporter).name == "GET /plain"


async def test_span_of_a_websocket_ends_with_its_handshake(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client, client.websocket("/socket") as websocket:
        await wait_until(lambda: len(records_of(log_records, "access")) == 1)
        opened = time.time_ns()
        await close(websocket)
        await wait_until(lambda: not client.app.connections.websockets)
    span = only_span(exporter)
    assert attributes(span)["http.response.status_code"] == 101
    assert span.end_time is not None
    assert span.end_time <= opened
    assert logged_ids(records_of(log_records, "access")) == [ids(span)] * 2


async def test_disconnected_client_is_not_an_error_of_the_span(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/wait")
            await wait_until(lambda: scene(client.app).waiting)
        await wait_until(lambda: not client.app.connections.requests)
    span = only_span(exporter)
    assert attributes(span)["http.response.status_code"] == 499
    assert span.status.status_code is StatusCode.UNSET


async def test_request_finished_by_another_one_ends_its_own_span(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client, RawConnection(client.port) as connection:
        connection.send_get("/wait")
        await wait_until(lambda: scene(client.app).waiting)
        await client.get("/finish")
        assert (await connection.response()).json() == {"finished": True}
    assert spans_by_name(exporter).keys() == {"GET /wait", "GET /finish"}


async def test_own_span_of_a_handler_is_a_child_of_the_request(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/own-span")
    spans = spans_by_name(exporter)
    assert parent(spans["own"]) == ids(spans["GET /own-span"])
    assert logged_ids(records_of(log_records, "orders")) == [ids(spans["own"])]


# Log


async def test_every_log_record_of_a_request_has_its_ids(
    traced: Traced, exporter: InMemorySpanExporter, log_records: list[Record]
) -> None:
    async with traced() as client:
        await client.get("/log")
        scene(client.app).released.set()
        background = scene(client.app).background
        assert background
        await background
    records = records_of(log_records, "orders") + records_of(log_records, "access")
    assert sorted(record["message"] for record in records) == [
        "GET /log 200",
        "after the response",
        "in a thread",
        "in the handler",
    ]
    assert logged_ids(records) == [ids(only_span(exporter))] * 4


async def test_log_record_outside_of_a_request_has_no_ids(
    traced: Traced, log_records: list[Record]
) -> None:
    async with traced() as client:
        logger.info("at the start")
        async with RawConnection(client.port) as connection:
            await connection.get("/items/cup")
            connection.send("nonsense\r\n\r\n")
            await connection.read_to_end()
    [access] = records_of(log_records, "access")
    assert access.keys() >= ID_FIELDS
    others = [record for record in log_records if record is not access]
    assert {"orders", "runtime.http1.connection"} <= {record["logger"] for record in others}
    assert not [record for record in others if ID_FIELDS & record.keys()]


async def test_ids_are_logged_without_a_collector(log_records: list[Record]) -> None:
    async with serving(make_app(Settings()), extensions=[Tracing()]) as client:
        await client.get("/items/cup", traceparent=TRACEPARENT)
    assert records_of(log_records, "access")[0]["trace_id"] == TRACE


async def test_log_record_can_have_its_own_ids(traced: Traced, log_records: list[Record]) -> None:
    async with traced() as client:
        assert (await client.get("/log-own-trace")).code == 200
    assert records_of(log_records, "orders")[0]["trace_id"] == "7"


async def test_access_line_of_a_process_has_the_ids_last(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    with configured_log() as log:
        async with traced() as client:
            await client.get("/items/cup")
        [line] = log.pop_lines()
    assert log.emitted == 0
    record = json.loads(line)
    assert list(record)[-3:] == ["duration_ms", "trace_id", "span_id"]
    assert logged_ids([record]) == [ids(only_span(exporter))]


async def test_client_and_log_are_restored_at_the_end(
    traced: Traced, log_records: list[Record]
) -> None:
    before = AsyncHTTPClient.configured_class()
    token = request_id.set("check-17")
    async with traced():
        assert AsyncHTTPClient.configured_class() is not before
        with trace.get_tracer("orders").start_as_current_span("own"):
            logger.info("during")
    assert AsyncHTTPClient.configured_class() is before
    with trace.get_tracer("orders").start_as_current_span("own"):
        logger.info("afterwards")
    request_id.reset(token)
    during, afterwards = records_of(log_records, "orders")
    assert during.keys() - afterwards.keys() == ID_FIELDS
