"""Spans for the calls that handlers make with Tornado's `AsyncHTTPClient`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tornado.escape import to_unicode
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

CLIENT_ERROR = 599
"""Tornado's pseudo-status for connection errors and timeouts."""

traceparent = TraceContextTextMapPropagator()


class TracingClient(AsyncHTTPClient):
    """Mixin for AsyncHTTPClient: a span and a ``traceparent`` for each request."""

    tracer: Tracer

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        if hasattr(request, "original_request"):
            # A redirect is followed: that is a part of the first call.
            super().fetch_impl(request, callback)
            return
        attributes = {"http.request.method": request.method, **_server_attributes(request)}
        span = self.tracer.start_span(request.method, None, SpanKind.CLIENT, attributes)
        traceparent.inject(request.headers, set_span_in_context(span))

        def on_response(response: HTTPResponse) -> None:
            if response.code == CLIENT_ERROR:
                set_error(span, type(response.error).__qualname__)
            else:
                span.set_attribute("http.response.status_code", response.code)
                if response.code >= 400:
                    set_error(span, str(response.code))
            span.end()
            callback(response)

        super().fetch_impl(request, on_response)


@contextmanager
def instrumented_client(tracer: Tracer) -> Iterator[None]:
    """Trace the calls of every `AsyncHTTPClient` in this context."""
    # The configuration that the application has made before stays in force.
    saved = AsyncHTTPClient._save_configuration()
    client = AsyncHTTPClient.configured_class()
    traced = type("TracedClient", (TracingClient, client), {"tracer": tracer})
    AsyncHTTPClient.configure(traced, **(saved[1] or {}))
    try:
        yield
    finally:
        AsyncHTTPClient._restore_configuration(saved)


def set_error(span: Span, error_type: str) -> None:
    """Mark a span as failed."""
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)


def _server_attributes(request: HTTPRequest) -> dict[str, str | int]:
    """Return attributes of the called server, without credentials and query."""
    try:
        url = urlsplit(to_unicode(request.url))
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    except ValueError:
        return {}  # the client reports it
    host = url.netloc.rpartition("@")[2]
    return {
        "server.address": url.hostname or "",
        "server.port": port,
        "url.full": f"{url.scheme}://{host}{url.path}",
    }
