"""Traces with OpenTelemetry: a span for each request and for each call that its handler makes.

The trace goes on from the caller's ``traceparent`` and is passed on with every call of Tornado's
`AsyncHTTPClient`. Log records of a request have its `trace_id` and `span_id`. Names and attributes
are those of OpenTelemetry's semantic conventions for HTTP.

Exceptions are no events of a span: the log has them, with the same ids, and their messages may say
what is for no eyes but the operators'.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast
from urllib.parse import urlsplit

from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NoOpTracer,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    set_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tornado.escape import to_unicode
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.web import RequestHandler

from ... import __version__
from .exporter import Outbox
from ..extensions import Observer
from ..http.request import NO_ROUTE, Request, request_id
from ..settings import Settings
from ..process.sockets import CannotStart

# These would write a line for every span or request that is not to their liking: with what a client
# has sent or what is secret, or once more what `collector` says.
SILENCED = (
    "opentelemetry.attributes",
    "opentelemetry.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.trace",
    "opentelemetry.util.re",
)

# Characters of what a client has chosen: spans wait in memory.
LONGEST = 1024

# What Tornado's client says if there was no answer.
NO_ANSWER = 599

_traceparent = TraceContextTextMapPropagator()


class TracedRequest(Request):
    """A request with its span. Only ever cast to."""

    span: Span


class Tracing(Observer):
    """Traces every request."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.otlp_endpoint
        self._tracer: Tracer = NoOpTracer()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for name in SILENCED:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            _check_headers()
            provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            outbox = Outbox.to(str(self._endpoint)) if self._endpoint else None
        except ValueError as error:
            raise CannotStart(f"cannot start tracing, see the OTEL_ variables: {error}") from None
        if outbox:
            provider.add_span_processor(outbox)
        # For spans of the application's own. The first one in a process is the one that counts.
        set_tracer_provider(provider)
        self._tracer = provider.get_tracer(__package__.partition(".")[0], __version__)
        with _ids_in_log(), _traced_calls(self._tracer):
            try:
                yield
            finally:
                if outbox:
                    await outbox.close()

    def begin(self, request: Request) -> None:
        # Of the context here nothing is left: the request before on this connection has set it.
        # That is also why nobody has to reset it.
        context = _traceparent.extract(request.headers, Context())
        attributes = {
            "http.request.method": request.method or "",
            "url.path": request.path[:LONGEST],
            "url.scheme": request.protocol,
            "client.address": request.remote_ip or "",
            "server.address": request.host_name[:LONGEST],
            "network.protocol.version": request.version.removeprefix("HTTP/"),
        }
        name = (request.method or "")[:LONGEST]
        if name not in RequestHandler.SUPPORTED_METHODS:
            attributes["http.request.method_original"] = name
            attributes["http.request.method"] = "_OTHER"
            name = "HTTP"
        if request.route != NO_ROUTE:
            attributes["http.route"] = request.route
            name = f"{name} {request.route}"
        if agent := request.headers.get("User-Agent"):
            attributes["user_agent.original"] = agent[:LONGEST]
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        cast(TracedRequest, request).span = span
        attach(set_span_in_context(span, context))

    def end(self, handler: RequestHandler) -> None:
        # Not the current span: that may be one of the handler's own, or of another request whose
        # handler has finished this one.
        span = cast(TracedRequest, handler.request).span
        status = handler.get_status()
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            _fail(span, str(status))
        span.end()


class TracedCalls(AsyncHTTPClient):
    """Base of a client: it gives each call a span and a ``traceparent``."""

    tracer: Tracer

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        if hasattr(request, "original_request"):
            # A redirect is followed: that is a part of the first call.
            super().fetch_impl(request, callback)
            return
        attributes = {"http.request.method": request.method, **_server(request)}
        span = self.tracer.start_span(request.method, None, SpanKind.CLIENT, attributes)
        _traceparent.inject(request.headers, set_span_in_context(span))

        def end(response: HTTPResponse) -> None:
            if response.code == NO_ANSWER:
                _fail(span, type(response.error).__qualname__)
            else:
                span.set_attribute("http.response.status_code", response.code)
                if response.code >= 400:
                    _fail(span, str(response.code))
            span.end()
            callback(response)

        super().fetch_impl(request, end)


class TraceIds(logging.Filter):
    """Adds to each record of a request the ids of its trace and of the span that is current."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = get_current_span().get_span_context()
        # Between two requests on a connection, the span of the first is still current.
        if context.is_valid and request_id.get():
            record.__dict__.setdefault("trace_id", format_trace_id(context.trace_id))
            record.__dict__.setdefault("span_id", format_span_id(context.span_id))
        return True


def _check_headers() -> None:
    """Refuse keys for the collector that OpenTelemetry would leave out. Raises `ValueError`."""
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        if any(one.strip() and "=" not in one for one in os.environ.get(name, "").split(",")):
            raise ValueError(f"{name} must be of the form name=value,name=value")


def _resource() -> Resource:
    """Say who the spans are from. The environment has the last word."""
    own = {"service.name": __package__.partition(".")[0].replace("_", "-"), "service.version": __version__}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _fail(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)


def _server(request: HTTPRequest) -> dict[str, str | int]:
    """Describe whom a call is to, without credentials and query."""
    try:
        url = urlsplit(to_unicode(request.url))
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    except ValueError:
        return {}  # the client will say so
    host = url.netloc.rpartition("@")[2]
    return {
        "server.address": url.hostname or "",
        "server.port": port,
        "url.full": f"{url.scheme}://{host}{url.path}",
    }


@contextmanager
def _ids_in_log() -> Iterator[None]:
    # A filter rather than a factory of records: with that, `extra={"trace_id": ...}` would raise.
    ids, handlers = TraceIds(), tuple(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(ids)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(ids)


@contextmanager
def _traced_calls(tracer: Tracer) -> Iterator[None]:
    # Whatever the application has configured before goes on to hold.
    saved = AsyncHTTPClient._save_configuration()
    client = AsyncHTTPClient.configured_class()
    traced = type("TracedClient", (TracedCalls, client), {"tracer": tracer})
    AsyncHTTPClient.configure(traced, **(saved[1] or {}))
    try:
        yield
    finally:
        AsyncHTTPClient._restore_configuration(saved)
