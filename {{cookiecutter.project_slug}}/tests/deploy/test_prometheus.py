"""Prometheus, the alert rules, their unit tests and the production settings agree."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.settings import Settings

from .files import ROOT

NAME = "{{ cookiecutter.project_slug }}"
FOLDER = ROOT / "deploy/prometheus"
RULES, TESTS = f"{NAME}.rules.yml", f"{NAME}.rules.test.yml"
COMPOSE = ROOT / "deploy/docker/compose.yaml"
KUBERNETES = ROOT / "deploy/kubernetes"


def read(path: Path) -> Any:
    """Read a file with one document."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.fixture
def job() -> Any:
    [only] = read(FOLDER / "prometheus.yml")["scrape_configs"]
    return only


@pytest.fixture
def alerts() -> list[Any]:
    return [rule for group in read(FOLDER / RULES)["groups"] for rule in group["rules"]]


# Targets


def targets(job: Any) -> list[str]:
    return [target for config in job.get("static_configs", []) for target in config["targets"]]


def test_prometheus_scrapes_the_admin_port(job: Any, production: Settings) -> None:
    if KUBERNETES.exists():
        assert targets(job) == []
    elif COMPOSE.exists():
        assert "app" in read(COMPOSE)["services"]
        assert production.admin_address.is_unspecified
        assert targets(job) == [f"app:{production.admin_port}"]
    else:
        assert f"{production.admin_address}:{production.admin_port}" in targets(job)


def test_prometheus_discovers_the_pods(job: Any) -> None:
    discovery = job.get("kubernetes_sd_configs", [])
    assert bool(discovery) == KUBERNETES.exists()
    for config in discovery:
        pod = read(KUBERNETES / "base/deployment.yaml")["spec"]["template"]
        [selector] = config["selectors"]
        key, _, value = selector["label"].partition("=")
        assert pod["metadata"]["labels"][key] == value
        overlay = read(KUBERNETES / "overlays/production/kustomization.yaml")
        assert config["namespaces"]["names"] == [overlay["namespace"]]
        [port] = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"]
        assert port in [p["name"] for c in pod["spec"]["containers"] for p in c["ports"]]


def test_compose_mounts_this_folder() -> None:
    if COMPOSE.exists():
        service = read(COMPOSE)["services"]["prometheus"]
        [source] = [line.split(":")[0] for line in service["volumes"] if ":/etc/prometheus" in line]
        assert (COMPOSE.parent / source).resolve() == FOLDER
        assert all(line.startswith("127.0.0.1:") for line in service["ports"])


# Alert rules


def test_rules_are_loaded_and_tested() -> None:
    assert read(FOLDER / "prometheus.yml")["rule_files"] == [RULES]
    assert read(FOLDER / TESTS)["rule_files"] == [RULES]


def selectors(text: str) -> list[tuple[str, str]]:
    """Return the selectors in an expression: the metric and its matchers."""
    return re.findall(r"(\w+)\{([^}]*)\}", text)


def test_rules_select_the_job_of_this_service(alerts: list[Any], job: Any) -> None:
    for alert in alerts:
        found = selectors(alert["expr"])
        assert found
        for metric, matchers in found:
            assert f'job="{job["job_name"]}"' in matchers, f"{alert['alert']}: {metric}"


def test_tests_have_the_metrics_of_the_rules(alerts: list[Any]) -> None:
    tests = read(FOLDER / TESTS)["tests"]
    series = {one["series"].partition("{")[0] for test in tests for one in test["input_series"]}
    assert {metric for alert in alerts for metric, _ in selectors(alert["expr"])} <= series


def test_every_alert_is_tested_and_documented(alerts: list[Any]) -> None:
    severities = {alert["alert"]: alert["labels"]["severity"] for alert in alerts}
    tested = re.findall(r'alertname="(\w+)"', (FOLDER / TESTS).read_text("utf-8"))
    assert set(tested) == severities.keys()
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert dict(re.findall(r"^\*\*(\w+)\*\* \((critical|warning)\)", readme, re.M)) == severities


def test_rules_suit_the_number_of_workers(alerts: list[Any], production: Settings) -> None:
    names = {alert["alert"] for alert in alerts}
    assert ("WorkerCrashes" in names) == (production.workers > 1)


@pytest.mark.parametrize(("command", "name"), [("check", RULES), ("test", TESTS)])
def test_promtool_accepts_the_rules(command: str, name: str) -> None:
    promtool = shutil.which("promtool") or pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, command, "rules", FOLDER / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
