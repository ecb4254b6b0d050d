"""Prometheus asks where the service answers, and the alert rules ask for what it says."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }} import settings

from ..support import ROOT
from .promql import names, unknown

NAME = "{{ cookiecutter.project_slug }}"
FOLDER = ROOT / "deploy/prometheus"
RULES, CASES = f"{NAME}.rules.yml", f"{NAME}.rules.test.yml"
COMPOSE = ROOT / "deploy/docker/compose.yaml"
KUBERNETES = ROOT / "deploy/kubernetes"


def read(path: Path) -> Any:
    """Read a file, which has one document."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.fixture
def job() -> Any:
    [only] = read(FOLDER / "prometheus.yml")["scrape_configs"]
    return only


def alerts() -> list[Any]:
    """List the alert rules."""
    [group] = read(FOLDER / RULES)["groups"]
    assert group["name"] == NAME
    return list(group["rules"])


@pytest.fixture(params=alerts(), ids=lambda alert: str(alert["alert"]))
def alert(request: pytest.FixtureRequest) -> Any:
    return request.param


# Where it asks


def targets(job: Any) -> list[str]:
    return [target for some in job.get("static_configs", []) for target in some["targets"]]


def test_prometheus_asks_the_admin_port(job: Any, production: settings.Settings) -> None:
    if KUBERNETES.exists():
        assert targets(job) == []
    elif COMPOSE.exists():
        assert "app" in read(COMPOSE)["services"]
        assert production.admin_address.is_unspecified
        assert targets(job) == [f"app:{production.admin_port}"]
    else:
        assert targets(job) == [f"{production.admin_address}:{production.admin_port}"]
    assert {"metrics_path", "scheme"}.isdisjoint(job)


def test_prometheus_finds_the_pods(job: Any) -> None:
    discovery = job.get("kubernetes_sd_configs", [])
    assert bool(discovery) == KUBERNETES.exists()
    for one in discovery:
        deployment = read(KUBERNETES / "base/deployment.yaml")["spec"]["template"]
        [selector] = one["selectors"]
        key, _, value = selector["label"].partition("=")
        assert deployment["metadata"]["labels"][key] == value
        overlay = read(KUBERNETES / "overlays/production/kustomization.yaml")
        assert one["namespaces"]["names"] == [overlay["namespace"]]
        [container] = deployment["spec"]["containers"]
        [port] = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"]
        assert port in [one["name"] for one in container["ports"]]


def test_prometheus_reads_the_rules() -> None:
    assert read(FOLDER / "prometheus.yml")["rule_files"] == [RULES]
    assert read(FOLDER / CASES)["rule_files"] == [RULES]


def test_compose_gives_prometheus_its_files() -> None:
    service = read(COMPOSE)["services"]["prometheus"] if COMPOSE.exists() else {}
    for line in service.get("volumes", []):
        source, target, *_ = line.split(":")
        if target == "/etc/prometheus":
            assert (COMPOSE.parent / source).resolve() == FOLDER
    for line in service.get("ports", []):
        assert line.startswith("127.0.0.1:")


# What it asks for


def test_the_rules_are_about_this_service_alone(alert: Any, job: Any) -> None:
    assert job["job_name"] == NAME
    selectors = re.findall(r"(\w+)\{([^}]*)\}", alert["expr"])
    assert {name for name, _ in selectors} == names(alert["expr"])
    for _, matchers in selectors:
        assert f'job="{NAME}"' in matchers


def test_the_rules_ask_for_what_there_is(alert: Any) -> None:
    assert names(alert["expr"])
    assert unknown(alert["expr"]) == set()


@pytest.mark.parametrize("wrong", ["http_requests_total", 'workers_ready{color="red"}'])
def test_what_there_is_not_is_noticed(wrong: str) -> None:
    assert unknown(f"rate({wrong}[5m]) > 0") != set()


def test_rules_fit_the_number_of_processes(production: settings.Settings) -> None:
    several = getattr(production, "workers", 1) != 1
    assert ("WorkerCrashes" in {one["alert"] for one in alerts()}) == several


# What it tells


def test_an_alert_says_how_urgent_it_is_and_what_it_means(alert: Any) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description"}
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert f"**{alert['alert']}** ({alert['labels']['severity']})." in readme


def test_every_alert_has_a_case_in_which_it_fires(alert: Any) -> None:
    cases = (FOLDER / CASES).read_text("utf-8")
    assert f'alertname="{alert["alert"]}"' in cases


def test_no_text_is_about_an_alert_that_there_is_not() -> None:
    there = {one["alert"] for one in alerts()}
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\*\*(\w+)\*\* \((?:critical|warning)\)", readme, re.M)) == there
    cases = (FOLDER / CASES).read_text("utf-8")
    assert set(re.findall(r'alertname="(\w+)"', cases)) == there


@pytest.mark.parametrize(("command", "name"), [("check", RULES), ("test", CASES)])
def test_promtool_finds_the_rules_good(command: str, name: str) -> None:
    promtool = shutil.which("promtool") or pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, command, "rules", FOLDER / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
