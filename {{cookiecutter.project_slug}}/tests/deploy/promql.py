"""Reads just enough of PromQL to tell what an expression asks for."""

import os
import re
import sys
from collections.abc import Iterator

from prometheus_client import Metric

from {{ cookiecutter.package_name }}.runtime.metrics import requests as metrics
from {{ cookiecutter.package_name }}.runtime.status import Vitals

# What Prometheus itself adds: metrics, and labels of every metric.
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
EVERYWHERE = {"job", "instance"}
# What the client library tells of a process on Linux alone.
PROCESS = ["cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes"]
PROCESS += ["start_time_seconds", "virtual_memory_bytes"]

WORDS = {"and", "bool", "by", "ignoring", "offset", "on", "or", "unless", "without"}
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}


def exported() -> dict[str, set[str]]:
    """List the metrics that the service has, each with its labels."""
    worker = Vitals(
        worker=0, pid=os.getpid(), ready=True, requests_in_flight=0, event_loop_lag=0, restarts=0
    )
    labels = ("GET", "/only-here", "200")
    metrics.DURATION.labels(*labels)
    families = list(metrics.make_registry(lambda: [worker], metrics.OwnValues()).collect())
    metrics.DURATION.remove(*labels)
    found = {name: labels for family in families for name, labels in _series(family)}
    if sys.platform != "linux":
        found |= {f"process_{name}": {"worker"} for name in PROCESS}
    return found


def _series(family: Metric) -> Iterator[tuple[str, set[str]]]:
    for name in [family.name + suffix for suffix in SUFFIXES.get(family.type, [""])]:
        labels = [set(sample.labels) for sample in family.samples if sample.name == name]
        if labels:
            yield name, set.union(*labels)


def names(expression: str) -> set[str]:
    """List the metrics in an expression."""
    listed = re.findall(r'\{__name__=~"([\w|]+)"', expression)
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", "", text)
    found = {*re.findall(r"\b[a-zA-Z_]\w*\b(?! *\()", text), *"|".join(listed).split("|")}
    return found - WORDS - {""}


def labels(expression: str) -> set[str]:
    """List the labels in an expression."""
    lists = re.findall(r"\b(?:by|without|on|ignoring) *\(([^)]*)\)", expression)
    grouped = [name.strip() for names in lists for name in names.split(",")]
    matched = re.findall(r"(\w+) *(?:=|!=|=~|!~)\"", expression)
    return {*grouped, *matched} - {"__name__"}


def kept(expression: str) -> set[str]:
    """List the labels that the result of an expression has."""
    # What is added up, or of which the largest is taken, keeps only what it is grouped by.
    if groups := re.search(r"\b(?:sum|max|count)\b(?: by \(([^)]*)\))?", expression):
        return {name.strip() for name in (groups[1] or "").split(",")} - {""}
    known = exported() | OF_PROMETHEUS
    return EVERYWHERE | set.intersection(*(known[name] for name in names(expression)))


def unknown(expression: str) -> set[str]:
    """List the metrics and labels in an expression that there are not."""
    known = exported() | OF_PROMETHEUS
    asked = names(expression)
    possible = EVERYWHERE.union(*(known.get(name, set()) for name in asked))
    return (asked - known.keys()) | (labels(expression) - possible)
