"""What spans say."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

Ids = tuple[str, str]
"""Trace id and span id."""


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> Ids:
    assert span.context
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def parent(span: ReadableSpan) -> Ids | None:
    if span.parent is None:
        return None
    return format_trace_id(span.parent.trace_id), format_span_id(span.parent.span_id)


def only_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    """Return the span that was exported, if it is the only one."""
    [span] = exporter.get_finished_spans()
    return span


def spans_by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return what was exported. No two spans may have one name."""
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}
