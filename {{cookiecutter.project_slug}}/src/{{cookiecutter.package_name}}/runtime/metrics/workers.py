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
VITALS = (
    ("http_server_active_requests", "Requests in flight.", "requests_in_flight"),
    (
        "event_loop_lag_seconds",
        "Event loop lag, maximum of the last 15 to 30 seconds.",
        "event_loop_lag",
    ),
    ("websockets_open", "Open WebSockets.", "websockets"),
    ("event_streams_open", "Open streams of server-sent events.", "event_streams"),
)
"""Gauges of each worker: name, description, and field of its status."""
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
        restarts = CounterMetricFamily(
            "worker_restarts",
            "Worker crashes, kills and failed starts (reloads and stops excluded).",
            labels=["worker"],
        )
        for worker in workers:
            restarts.add_metric([str(worker.worker)], worker.restarts)
        yield restarts
        yield from _vitals([worker for worker in workers if worker.pid])
        yield _checks(workers)
        yield _build_info(workers)
        yield from _process_metrics(workers)


def _vitals(workers: list[WorkerStatus]) -> Iterator[Metric]:
    for name, description, field in VITALS:
        family = GaugeMetricFamily(name, description, labels=["worker"])
        for worker in workers:
            family.add_metric([str(worker.worker)], getattr(worker, field))
        yield family


def _checks(workers: list[WorkerStatus]) -> Metric:
    family = GaugeMetricFamily(
        "resource_check_success",
        "Whether the last check of a resource has passed.",
        labels=["worker", "resource"],
    )
    for worker in workers:
        for check in worker.details.checks:
            if check.checked_ago is not None:
                family.add_metric([str(worker.worker), check.resource], check.passing)
    return family


def _build_info(workers: list[WorkerStatus]) -> Metric:
    info = GaugeMetricFamily(
        "build_info",
        "1 for each version of the code that a worker runs.",
        labels=["version", "revision"],
    )
    for version, revision in sorted({(w.details.version, w.details.revision) for w in workers}):
        if version:  # otherwise the worker has not told it yet
            info.add_metric([version, revision], 1)
    return info


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
