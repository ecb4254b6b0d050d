"""Reading the metrics page of a service."""

import sys

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from .connections import RawConnection

DURATION = "http_server_request_duration_seconds"
REQUEST_LABELS = {"http_request_method", "http_route", "http_response_status_code"}
PROCESS_METRICS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}
CONTRACT = {
    f"{DURATION}_bucket": REQUEST_LABELS | {"le"},
    f"{DURATION}_count": REQUEST_LABELS,
    f"{DURATION}_sum": REQUEST_LABELS,
    "http_server_active_requests": {"worker"},
    "event_loop_lag_seconds": {"worker"},
    "workers_ready": set[str](),
    "worker_restarts_total": {"worker"},
    "build_info": {"version", "revision"},
    "websockets_open": {"worker"},
    "event_streams_open": {"worker"},
}
"""The samples of every service, with the names of their labels."""
if sys.platform == "linux":  # elsewhere there is no /proc to read
    CONTRACT |= {name: {"worker"} for name in PROCESS_METRICS}


async def scrape(admin_port: int) -> list[Metric]:
    """Return what ``GET /metrics`` shows."""
    async with RawConnection(admin_port) as admin:
        response = await admin.get("/metrics")
    assert response.status == 200
    return list(text_string_to_metric_families(response.body.decode()))


def samples(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    """Return the values of all samples of a name by the values of their labels.

    The values are in the order of the labels' names.
    """
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def label_names(families: list[Metric]) -> dict[str, set[str]]:
    """Return the names of the labels of all samples, by the names of the samples."""
    found: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        assert found.setdefault(sample.name, set(sample.labels)) == set(sample.labels)
    return found


def has_only_documented_names(families: list[Metric]) -> bool:
    """Return whether the page has the whole contract, and no defaults of the library."""
    found = label_names(families)
    defaults = [name for name in found if name.endswith("_created") or name.startswith("python_")]
    return found.items() >= CONTRACT.items() and not defaults
