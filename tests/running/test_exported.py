"""The metrics that rules and dashboards are checked against are those that a service exports."""

import re

from ..promql import EXPORTED
from .harness import Service, Starter, until


def test_service_exports_these_metrics(run: Starter) -> None:
    service = run.faulty(APP_WORKERS=2)  # it has a resource that is checked
    service.workers(2)
    assert service.ask("/greetings/Ada").status == 200
    # A request is counted just after its response.
    until(lambda: "duration_seconds_count" in page(service), "the metrics of the request")
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page(service), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert found == EXPORTED


def page(service: Service) -> str:
    return service.ask("/metrics", admin=True).body.decode()
