"""The dashboard, its provisioning and Prometheus agree."""

import json
from typing import Any

import pytest
import yaml

from .files import ROOT

NAME = "{{ cookiecutter.project_slug }}"
FOLDER = ROOT / "deploy/grafana"
COMPOSE = ROOT / "deploy/docker/compose.yaml"


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / path).read_text("utf-8"))


@pytest.fixture
def dashboard() -> Any:
    return json.loads((FOLDER / f"dashboards/{NAME}.json").read_text("utf-8"))


@pytest.fixture
def prometheus() -> Any:
    return read("prometheus/prometheus.yml")


def test_dashboard_selects_the_job_of_this_service(dashboard: Any, prometheus: Any) -> None:
    [job] = [variable for variable in dashboard["templating"]["list"] if variable["name"] == "job"]
    assert job["current"]["value"] in [one["job_name"] for one in prometheus["scrape_configs"]]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert [expression for expression in expressions if 'job="$job"' not in expression] == []


def test_datasource_has_the_scrape_interval(prometheus: Any) -> None:
    [source] = read("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_compose_mounts_the_dashboard_where_grafana_reads_it() -> None:
    [provider] = read(f"grafana/provisioning/dashboards/{NAME}.yml")["providers"]
    folder = provider["options"]["path"]
    if COMPOSE.exists():
        grafana = read("docker/compose.yaml")["services"]["grafana"]
        [source] = [line.split(":")[0] for line in grafana["volumes"] if f":{folder}:" in line]
        assert (COMPOSE.parent / source).resolve() == FOLDER / "dashboards"
        home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert home == f"{folder}/{NAME}.json"


def test_compose_publishes_grafana_locally_only() -> None:
    if COMPOSE.exists():
        grafana = read("docker/compose.yaml")["services"]["grafana"]
        assert all(line.startswith("127.0.0.1:") for line in grafana["ports"])
