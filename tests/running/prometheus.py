"""A real Prometheus that watches services with the files of a project, only faster."""

import contextlib
import json
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ports import free_port
from ..tools import needs
from .harness import Service, until

INTERVAL = "500ms"
"""Between two scrapes, and between two looks at the rules, instead of the project's."""

# What happens in an hour happens here in a minute.
SHORTER = {
    r"\bfor: \w+": "for: 1s",
    r"\[5m\]": "[5s]",
    r"\[3m:15s\]": f"[6s:{INTERVAL}]",
    r"\[1h\]": "[1m]",
}

Sample = tuple[float, float]
"""When, and what."""


@dataclass
class Prometheus:
    """A Prometheus that runs."""

    port: int
    process: subprocess.Popen[bytes]

    def ask(self, what: str, **parameters: str) -> Any:
        """Ask its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/{what}?{query}"
        ) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate an expression now. Returns the labels and the value of each series."""
        found = self.ask("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def value(self, expression: str) -> float | None:
        """Evaluate an expression that has one value, or none."""
        values = [value for _, value in self.query(expression)]
        return values[0] if values else None

    def samples(self, selector: str) -> dict[str, list[Sample]]:
        """List every sample that it has of some series, as scraped."""
        found = self.ask("query", query=f"{selector}[1h]")["result"]
        return {
            json.dumps(one["metric"], sort_keys=True): [
                (at, float(value)) for at, value in one["values"]
            ]
            for one in found
        }

    def names(self) -> set[str]:
        """List the names of the metrics that it has seen."""
        return set(self.ask("label/__name__/values"))

    def wait_for_scrape(self) -> None:
        """Wait for what is scraped from now on."""
        now = time.time()
        until(lambda: (self.value("min(timestamp(up))") or 0) > now, "a scrape")

    def wait_for_alert(self, name: str) -> None:
        """Wait until an alert fires."""
        until(lambda: name in self.firing(), name)

    def firing(self) -> set[str]:
        """List the alerts that fire now."""
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def fired(self) -> set[str]:
        """List the alerts that have ever fired."""
        found = self.query('max_over_time(ALERTS{alertstate="firing"}[1h])')
        return {labels["alertname"] for labels, _ in found}

    def rules(self) -> list[dict[str, Any]]:
        """List the rules, with what came of their last evaluation."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def sees(self, count: int) -> bool:
        """Tell whether it has scraped so many services."""
        assert self.process.poll() is None, self.process.returncode
        with contextlib.suppress(OSError):  # it does not listen yet
            return len(self.query("up == 1")) == count
        return False

    def has_rules(self) -> bool:
        """Tell whether it has rules and has evaluated each."""
        return {rule["health"] for rule in self.rules()} not in (set(), {"unknown"})


@contextlib.contextmanager
def prometheus(project: Path, folder: Path, *services: Service) -> Iterator[Prometheus]:
    """Start one that has seen the services, and end it."""
    tool = needs("prometheus")
    home = folder / "prometheus"
    home.mkdir()
    port = free_port()
    targets = ", ".join(f"127.0.0.1:{service.admin_port}" for service in services)
    configuration, rules = home / "prometheus.yml", home / f"{project.name}.rules.yml"
    deployed = project / "deploy/prometheus"
    times_and_places = {r"\b15s\b": INTERVAL, r"127\.0\.0\.1:9000": targets}
    configuration.write_text(replace((deployed / configuration.name).read_text(), times_and_places))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                tool,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={home}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        made = Prometheus(port, process)
        until(lambda: made.sees(len(services)), "scrapes of all services")
        # Only now: it takes five seconds to begin, in which a service is missing to the rules.
        rules.write_text(replace((deployed / rules.name).read_text(), SHORTER))
        process.send_signal(signal.SIGHUP)
        until(made.has_rules, "rules")
        yield made
    finally:
        process.kill()
        process.wait()


def replace(text: str, changes: dict[str, str]) -> str:
    """Replace what there must be."""
    for pattern, new in changes.items():
        text, count = re.subn(pattern, new, text)
        assert count, pattern
    return text
