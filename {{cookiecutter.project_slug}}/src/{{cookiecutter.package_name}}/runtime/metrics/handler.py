"""The metrics page of the admin port."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from ..http.handler import Handler
from ..status import WorkerStatus
from .workers import WorkerCollector


class LocalMetrics(Collector):
    """Metrics of this process (single-process mode)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        # `WorkerCollector` has these with the label `worker`.
        defaults = GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
        self._default_names = {
            family.name for collector in defaults for family in collector.collect()
        }

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.name not in self._default_names:
                yield family


class MetricsHandler(Handler):
    """``GET /metrics``"""

    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def get(self) -> None:
        # A thread of its own: aggregation may be slow, and the default executor may be exhausted
        # by the application.
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            page = await loop.run_in_executor(thread, generate_latest, self._registry)
        self.set_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.finish(page)


def make_registry(
    worker_statuses: Callable[[], list[WorkerStatus]], metrics: Collector
) -> CollectorRegistry:
    """Return what the page shows: the status of the workers, and what they have measured."""
    # No `_created` series.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker_statuses))
    registry.register(metrics)
    return registry
