"""A traced application in the process of the test, and what it exports."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from runtime.settings import Settings
from runtime.testing import Client, serving
from runtime.tracing import Tracing
from runtime.tracing.exporter import BoundedSpanProcessor, CountingExporter

from .app import make_app

Traced = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture(autouse=True)
def _reset_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenTelemetry keeps the first provider of a process: that of another test.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Where spans are exported to, in place of a collector."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr(
        BoundedSpanProcessor,
        "from_environment",
        lambda: BoundedSpanProcessor(CountingExporter(memory, str, 2048), 2048),
    )
    yield memory
    assert all(span.end_time for span in memory.get_finished_spans())


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Traced:
    """Serve with traces: ``async with traced() as client``. Spans are exported at its end."""

    @asynccontextmanager
    async def traced() -> AsyncIterator[Client]:
        async with serving(make_app(Settings()), extensions=[Tracing()]) as client:
            yield client

    return traced
