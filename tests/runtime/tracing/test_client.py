"""Spans for the calls of handlers to other services."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from runtime.testing import Client
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.netutil import bind_sockets

from ..support.spans import attributes, ids, parent, spans_by_name
from .app import scene
from .conftest import Traced


async def call(client: Client, url: str, **options: Any) -> None:
    """Let a handler call a URL, or a path of its own service."""
    if url.startswith("/"):
        url = f"http://127.0.0.1:{client.port}{url}"
    scene(client.app).call = HTTPRequest(url, **options)
    assert (await client.get("/call")).code == 200


async def test_call_is_a_span_between_caller_and_callee(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await call(client, f"http://ada:hunter2@127.0.0.1:{client.port}/items/cup?token=hunter2")
    spans = spans_by_name(exporter)
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


async def test_request_object_that_is_sent_twice_gets_new_ids(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    async with traced() as client:
        await call(client, "/items/cup")
        await client.get("/call")
    spans = exporter.get_finished_spans()
    callers = [parent(span) for span in spans if span.name == "GET /items/{name}"]
    assert callers == [ids(span) for span in spans if span.name == "GET"]
    assert len(set(callers)) == 2


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/fail", 500)])
async def test_error_response_is_an_error_of_the_call(
    traced: Traced, exporter: InMemorySpanExporter, path: str, status: int
) -> None:
    async with traced() as client:
        await call(client, path)
    _, span, caller = exporter.get_finished_spans()
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert attributes(span)["error.type"] == str(status)
    assert attributes(span)["http.response.status_code"] == status
    assert (caller.name, caller.status.status_code) == ("GET /call", StatusCode.UNSET)


async def test_call_without_a_response_is_an_error(
    traced: Traced, exporter: InMemorySpanExporter
) -> None:
    [silent] = bind_sockets(0, "127.0.0.1")
    port = silent.getsockname()[1]
    async with traced() as client:
        with silent:
            await call(client, f"http://127.0.0.1:{port}", request_timeout=0.05)
        await call(client, f"http://127.0.0.1:{port}")
        await call(client, "http://[nonsense")
    spans = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    error_types = [attributes(span)["error.type"] for span in spans]
    assert error_types == ["HTTPTimeoutError", "ConnectionRefusedError", "ValueError"]
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    assert not [span for span in spans if "http.response.status_code" in attributes(span)]


async def test_redirected_call_is_one_span(traced: Traced, exporter: InMemorySpanExporter) -> None:
    async with traced() as client:
        await call(client, "/moved")
    spans = spans_by_name(exporter)
    assert spans.keys() == {"GET /call", "GET", "GET /moved", "GET /items/{name}"}
    assert attributes(spans["GET"])["http.response.status_code"] == 200
    assert parent(spans["GET /moved"]) == parent(spans["GET /items/{name}"]) == ids(spans["GET"])


async def test_client_configuration_of_the_service_stays_in_force(traced: Traced) -> None:
    saved = AsyncHTTPClient._save_configuration()
    AsyncHTTPClient.configure(None, max_clients=17)
    try:
        async with traced():
            assert vars(AsyncHTTPClient(force_instance=True))["max_clients"] == 17
    finally:
        AsyncHTTPClient._restore_configuration(saved)
