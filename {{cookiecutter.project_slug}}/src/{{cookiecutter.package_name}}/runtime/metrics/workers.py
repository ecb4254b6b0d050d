"""Metrics of each worker: how it is, and what its process takes."""

import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

from prometheus_client import Metric, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..status import Vitals

MEMORY = "process_resident_memory_bytes"


class Workers(Collector):
    """What is known of each worker without asking it: so a blocked one shows as well."""

    def __init__(self, vitals: Callable[[], list[Vitals]]) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        workers = self._vitals()
        ready = sum(worker.ready for worker in workers)
        yield GaugeMetricFamily("workers_ready", "Workers that answer.", ready)
        active = GaugeMetricFamily(
            "http_server_active_requests", "Requests in flight.", labels=["worker"]
        )
        lag = GaugeMetricFamily(
            "event_loop_lag_seconds",
            "How late the event loop is, or was at most in the last 15 to 30 seconds.",
            labels=["worker"],
        )
        restarts = CounterMetricFamily(
            "worker_restarts",
            "Workers that died, were killed or could not start, a reload or stop aside.",
            labels=["worker"],
        )
        for worker in workers:
            labels = [str(worker.worker)]
            restarts.add_metric(labels, worker.restarts)
            if worker.pid:
                active.add_metric(labels, worker.requests_in_flight)
                lag.add_metric(labels, worker.event_loop_lag)
        yield from (active, lag, restarts)
        yield from _processes(workers)


class Process(ProcessCollector):
    """What a process uses, read where nothing is to be seen but processes."""

    def _boot_time(self) -> float:
        # It would look into /proc/stat, which a systemd unit with ProcSubset=pid hides.
        if sys.platform == "linux":
            return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return 0.0  # there is no /proc


@lru_cache(1000)
def _process(pid: int) -> Process:
    # Kept, for it takes the time at which the machine was started from a clock that may be set.
    return Process(pid=lambda: pid, registry=None)


def _processes(workers: list[Vitals]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for worker in workers:
        found = list(_process(worker.pid).collect())
        if not any(sample.value for one in found for sample in one.samples if one.name == MEMORY):
            continue  # it has died
        for one in found:
            family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
            for sample in one.samples:
                family.add_sample(sample.name, {"worker": str(worker.worker)}, sample.value)
    yield from families.values()
