"""The metrics that rules and dashboards are checked against are those that a service exports."""

import re

from ..promql import EXPORTED
from .harness import Starter


def test_service_exports_these_metrics(run: Starter) -> None:
    service = run.start(APP_WORKERS=2)
    service.workers(2)
    assert service.ask("/greetings/Ada").status == 200
    page = service.ask("/metrics", admin=True).body.decode()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert found == EXPORTED
