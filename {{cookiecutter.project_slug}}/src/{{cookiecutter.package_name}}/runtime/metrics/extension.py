"""The extension: records the duration of every request, and shows all metrics."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import cast

from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from tornado.web import RequestHandler

from ..extensions import Extension
from ..http.request import Request
from ..http.routing import Route
from ..settings import Settings
from ..status import ProcessRow, StatusSource
from ..version import ServiceInfo
from .handler import LocalMetrics, MetricsHandler, make_registry
from .shared import SharedMetrics

# Source: OpenTelemetry's semantic conventions for HTTP metrics.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Upper bounds in seconds."""
OTHER_METHOD = "_OTHER"

logger = logging.getLogger(__name__)


class Metrics(Extension):
    """Prometheus metrics: ``Service(..., extensions=[Metrics()])`` and ``GET /metrics``.

    `registry` is where the metrics of the process are; tests may give one of their own.
    """

    _duration_of: Callable[[str, str, int], Histogram]
    """Returns the histogram of a method, route and status. Set by `lifespan`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._shared: SharedMetrics | None = None

    def before_fork(self, rows: Sequence[ProcessRow]) -> None:
        self._shared = SharedMetrics(rows, self._registry)

    def after_fork(self, row: ProcessRow) -> None:
        # Before the first metric is created: that of a module of the service, or the one below.
        if self._shared:
            self._shared.attach(row)

    def admin_routes(self, status: StatusSource) -> Sequence[Route]:
        metrics = self._shared or LocalMetrics(self._registry)
        registry = make_registry(status.worker_statuses, metrics)
        return [Route("/metrics", MetricsHandler, registry=registry)]

    @asynccontextmanager
    async def lifespan(self, service: ServiceInfo, settings: Settings) -> AsyncIterator[None]:
        if self._shared and (early := self._shared.created_before_fork()):
            logger.warning("metrics created before fork are not exported: %s", ", ".join(early))
        # Not on import: with several workers a metric is created after the fork.
        histogram = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            ["http_request_method", "http_route", "http_response_status_code"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._duration_of = cache(histogram.labels)
        try:
            yield
        finally:
            # The next one in this process would be a duplicate: that of another test.
            self._registry.unregister(histogram)

    def request_finished(self, handler: RequestHandler) -> None:
        request = cast(Request, handler.request)
        # Never use client input as a label: unbounded cardinality.
        method = request.method if request.method in handler.SUPPORTED_METHODS else OTHER_METHOD
        duration = self._duration_of(method, request.route, handler.get_status())
        duration.observe(request.duration)
