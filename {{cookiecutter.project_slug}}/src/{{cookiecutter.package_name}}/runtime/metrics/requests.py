"""Metrics for Prometheus: what is measured, and how the admin port shows it.

A metric of your own is made once, at the top of the module that uses it, as `DURATION` is. With
several workers, what they count is added up; a gauge gets a label `worker` unless its
`multiprocess_mode` is livesum, livemax or livemin.

Not for several workers are `Info`, `Enum`, `set_function`, `remove`, the mode mostrecent,
exemplars, collectors of your own, and what a library makes when it is imported. What becomes
another kind of metric needs another name, or a restart: until then all that has ever been measured
is shown.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector
from tornado.web import RequestHandler

from ..extensions import Observer
from ..http.request import Request
from ..status import Vitals
from ..http.handler import Handler
from .workers import Workers

# The names and limits are those of OpenTelemetry's semantic conventions.
DURATION = Histogram(
    "http_server_request_duration_seconds",
    "Time from a request's headers to the end of its answer.",
    ["http_request_method", "http_route", "http_response_status_code"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)

_duration_of = cache(DURATION.labels)


class Metrics(Observer):
    """Measures every request."""

    def end(self, handler: RequestHandler) -> None:
        request = cast(Request, handler.request)
        # No label may be a client's choice: each new value is one more series for ever.
        method = request.method if request.method in handler.SUPPORTED_METHODS else "_OTHER"
        duration = _duration_of(method, request.route, handler.get_status())
        duration.observe(time.perf_counter() - request.started)


class OwnValues(Collector):
    """What this process alone has measured."""

    def __init__(self) -> None:
        # Those that the library measures by itself have no label `worker`.
        unasked = GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
        self._unasked = {family.name for one in unasked for family in one.collect()}

    def collect(self) -> Iterator[Metric]:
        yield from (one for one in REGISTRY.collect() if one.name not in self._unasked)


class Exposition(Handler):
    """``GET /metrics``"""

    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def get(self) -> None:
        # There may be much to add up, and the threads for the application's blocking calls may all
        # be busy just when somebody has to look.
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            page = await loop.run_in_executor(thread, generate_latest, self._registry)
        self.set_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.finish(page)


def make_registry(vitals: Callable[[], list[Vitals]], values: Collector) -> CollectorRegistry:
    """Put together what is shown: how the workers are, and the values that they have measured."""
    # A series more for each counter and histogram, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(Workers(vitals))
    registry.register(values)
    return registry
