"""Metrics of each worker: status and process resources."""

import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

from prometheus_client import Metric, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..status import WorkerStatus

RESIDENT_MEMORY = "process_resident_memory_bytes"
MAX_COLLECTORS = 1000
"""Collectors to keep: one for each pid of the recent past."""


class WorkerCollector(Collector):
    """Collected without contacting the workers, so that a blocked one is included."""

    def __init__(self, worker_statuses: Callable[[], list[WorkerStatus]]) -> None:
        self._worker_statuses = worker_statuses

    def collect(self) -> Iterator[Metric]:
        workers = self._worker_statuses()
        ready = sum(worker.ready for worker in workers)
        yield GaugeMetricFamily("workers_ready", "Workers that are ready.", ready)
        active = GaugeMetricFamily(
            "http_server_active_requests", "Requests in flight.", labels=["worker"]
        )
        lag = GaugeMetricFamily(
            "event_loop_lag_seconds",
            "Event loop lag, maximum of the last 15 to 30 seconds.",
            labels=["worker"],
        )
        restarts = CounterMetricFamily(
            "worker_restarts",
            "Worker crashes, kills and failed starts (reloads and stops excluded).",
            labels=["worker"],
        )
        websockets = GaugeMetricFamily("websockets_open", "Open WebSockets.", labels=["worker"])
        streams = GaugeMetricFamily(
            "event_streams_open", "Open streams of server-sent events.", labels=["worker"]
        )
        for worker in workers:
            labels = [str(worker.worker)]
            restarts.add_metric(labels, worker.restarts)
            if worker.pid:
                active.add_metric(labels, worker.requests_in_flight)
                lag.add_metric(labels, worker.event_loop_lag)
                websockets.add_metric(labels, worker.websockets)
                streams.add_metric(labels, worker.event_streams)
        yield from (active, lag, restarts, websockets, streams)
        yield from _process_metrics(workers)


class ProcessMetrics(ProcessCollector):
    """Works with ProcSubset=pid of a systemd unit, where /proc/stat is hidden."""

    def _boot_time(self) -> float:
        if sys.platform == "linux":
            return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return 0.0  # there is no /proc


@lru_cache(MAX_COLLECTORS)
def _collector(pid: int) -> ProcessMetrics:
    # Cached: the boot time comes from the wall clock, which may be adjusted.
    return ProcessMetrics(pid=lambda: pid, registry=None)


def _process_metrics(workers: list[WorkerStatus]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for worker in workers:
        found = list(_collector(worker.pid).collect())
        if not _has_memory(found):
            continue  # the process has exited
        for metric in found:
            family = families.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type)
            )
            for sample in metric.samples:
                family.add_sample(sample.name, {"worker": str(worker.worker)}, sample.value)
    yield from families.values()


def _has_memory(metrics: list[Metric]) -> bool:
    return any(
        sample.value
        for metric in metrics
        for sample in metric.samples
        if metric.name == RESIDENT_MEMORY
    )
