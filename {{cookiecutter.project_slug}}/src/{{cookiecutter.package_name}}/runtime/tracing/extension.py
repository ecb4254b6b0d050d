"""The extension: a span for each request, and trace ids in the log.

The trace continues from the caller's ``traceparent``, and is passed on with every call of Tornado's
`AsyncHTTPClient`. Names and attributes are those of OpenTelemetry's semantic conventions for HTTP.

Exceptions are not recorded as span events: the log has them with the same ids, and their messages
may be confidential.
"""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

from dotenv import dotenv_values
from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Span,
    SpanKind,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    set_tracer_provider,
)
from tornado.web import RequestHandler

from ..errors import StartupError
from ..extensions import Extension
from ..http.request import UNMATCHED_ROUTE, Request
from ..logs.context import field_source, request_id
from ..settings import ENV_FILE, Settings
from ..version import ServiceInfo
from .client import instrumented_client, set_error, traceparent
from .exporter import BoundedSpanProcessor

# Loggers that would log client data or secrets, or repeat what the exporter logs.
SILENCED_LOGGERS = (
    "opentelemetry.attributes",
    "opentelemetry.exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.trace",
    "opentelemetry.util.re",
)
MAX_ATTRIBUTE_LENGTH = 1024
"""Characters of client-supplied attributes: spans are buffered in memory."""
OTHER_METHOD = "_OTHER"


class TracedRequest(Request):
    """A request with its span. For casts only."""

    span: Span


class Tracing(Extension):
    """Traces every request: ``Service(..., extensions=[Tracing()])``.

    Spans are exported if OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set,
    in the environment or in `.env`; OpenTelemetry's other variables apply, too. Without an endpoint
    the ids are logged and passed on all the same.
    """

    _tracer: Tracer
    """Set by `lifespan`."""

    @asynccontextmanager
    async def lifespan(self, service: ServiceInfo, settings: Settings) -> AsyncIterator[None]:
        for name in SILENCED_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            with _env_file_variables():
                _check_headers()
                provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
                processor = BoundedSpanProcessor.from_environment()
        except ValueError as error:
            raise StartupError(f"cannot start tracing, see the OTEL_ variables: {error}") from None
        if processor:
            provider.add_span_processor(processor)
        # For the application's own spans. OpenTelemetry keeps the first provider of a process.
        set_tracer_provider(provider)
        self._tracer = provider.get_tracer(service.name, service.version)
        with field_source(_trace_ids), instrumented_client(self._tracer):
            try:
                yield
            finally:
                if processor:
                    await processor.close()

    def request_started(self, request: Request) -> None:
        # Start from an empty context: the current one belongs to the previous request on this
        # connection. That is also why it need not be reset.
        context = traceparent.extract(request.headers, Context())
        method = (request.method or "")[:MAX_ATTRIBUTE_LENGTH]
        attributes = _request_attributes(request)
        name = method
        if method not in RequestHandler.SUPPORTED_METHODS:
            attributes["http.request.method_original"] = method
            attributes["http.request.method"] = OTHER_METHOD
            name = "HTTP"
        if request.route != UNMATCHED_ROUTE:
            attributes["http.route"] = request.route
            name = f"{name} {request.route}"
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        cast(TracedRequest, request).span = span
        attach(set_span_in_context(span, context))

    def request_finished(self, handler: RequestHandler) -> None:
        # Not the current span: that may be one of the handler's own, or of another request whose
        # handler has finished this one.
        span = cast(TracedRequest, handler.request).span
        status = handler.get_status()
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            set_error(span, str(status))
        span.end()


@contextmanager
def _env_file_variables() -> Iterator[None]:
    """Add the OTEL_ variables of `.env` to the environment, the only place OpenTelemetry reads.

    As with settings the environment wins, and an empty value counts as unset. They are removed
    afterwards: a process that this one starts would take them for values of the environment.
    """
    added = {
        name: value
        for name, value in dotenv_values(ENV_FILE).items()
        if name.startswith("OTEL_") and value and not os.environ.get(name)
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _check_headers() -> None:
    """Reject malformed OTEL_EXPORTER_OTLP_HEADERS, which OpenTelemetry would ignore.

    Raises `ValueError`.
    """
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        headers = os.environ.get(name, "").split(",")
        if any(header.strip() and "=" not in header for header in headers):
            raise ValueError(f"{name} must be of the form name=value,name=value")


def _resource(service: ServiceInfo) -> Resource:
    """Return service.name and service.version; OTEL_ variables take precedence."""
    own = {"service.name": service.name, "service.version": service.version}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _request_attributes(request: Request) -> dict[str, str]:
    attributes = {
        "http.request.method": request.method or "",
        "url.path": request.path[:MAX_ATTRIBUTE_LENGTH],
        "url.scheme": request.protocol,
        "client.address": request.remote_ip or "",
        "server.address": request.host_name[:MAX_ATTRIBUTE_LENGTH],
        "network.protocol.version": request.version.removeprefix("HTTP/"),
    }
    if agent := request.headers.get("User-Agent"):
        attributes["user_agent.original"] = agent[:MAX_ATTRIBUTE_LENGTH]
    return attributes


def _trace_ids() -> dict[str, str]:
    """Return the fields trace_id and span_id for a log record of a request."""
    context = get_current_span().get_span_context()
    # Between two requests on a connection, the span of the first is still current.
    if not context.is_valid or not request_id.get():
        return {}
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
