"""Reads just enough of PromQL to tell which metrics and labels an expression uses."""

import re

WORKER = {"worker"}
REQUEST = {"http_request_method", "http_route", "http_response_status_code"}

EXPORTED: dict[str, set[str]] = {
    "build_info": {"version", "revision"},
    "event_loop_lag_seconds": WORKER,
    "event_streams_open": WORKER,
    "http_server_active_requests": WORKER,
    "http_server_request_duration_seconds_bucket": REQUEST | {"le"},
    "http_server_request_duration_seconds_count": REQUEST,
    "http_server_request_duration_seconds_sum": REQUEST,
    "process_cpu_seconds_total": WORKER,
    "process_max_fds": WORKER,
    "process_open_fds": WORKER,
    "process_resident_memory_bytes": WORKER,
    "process_start_time_seconds": WORKER,
    "process_virtual_memory_bytes": WORKER,
    "resource_check_success": WORKER | {"resource"},
    "worker_restarts_total": WORKER,
    "websockets_open": WORKER,
    "workers_ready": set(),
}
"""The metrics of a service with their labels, as `running/test_exported.py` finds them."""

# What Prometheus adds: metrics, and labels of every metric.
KNOWN = EXPORTED | {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
EVERYWHERE = {"job", "instance"}

WORDS = {"and", "bool", "by", "ignoring", "offset", "on", "or", "unless", "without"}


def metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    listed = re.findall(r'\{__name__=~"([\w|]+)"', expression)
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", "", text)
    found = {*re.findall(r"\b[a-zA-Z_]\w*\b(?! *\()", text), *"|".join(listed).split("|")}
    return found - WORDS - {""}


def labels(expression: str) -> set[str]:
    """Return the names of the labels in an expression."""
    lists = re.findall(r"\b(?:by|without|on|ignoring) *\(([^)]*)\)", expression)
    grouped = [name.strip() for names in lists for name in names.split(",")]
    matched = re.findall(r"(\w+) *(?:=|!=|=~|!~)\"", expression)
    return {*grouped, *matched} - {"__name__"}


def result_labels(expression: str) -> set[str]:
    """Return the labels that the result of an expression has."""
    # An aggregation keeps only the labels that it groups by.
    if groups := re.search(r"\b(?:sum|max|count)\b(?: by \(([^)]*)\))?", expression):
        return {name.strip() for name in (groups[1] or "").split(",")} - {""}
    return EVERYWHERE | set.intersection(*(KNOWN[name] for name in metrics(expression)))


def unknown(expression: str) -> set[str]:
    """Return the metrics and labels in an expression that do not exist."""
    used = metrics(expression)
    possible = EVERYWHERE.union(*(KNOWN.get(name, set()) for name in used))
    return (used - KNOWN.keys()) | (labels(expression) - possible)
