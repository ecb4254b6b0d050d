"""The dashboard is complete, and asks for what the service says."""

import json
import re
from typing import Any

import pytest
import yaml

from ..support import ROOT
from .promql import kept, unknown

NAME = "{{ cookiecutter.project_slug }}"
FOLDER = ROOT / "deploy/grafana"
COMPOSE = ROOT / "deploy/docker/compose.yaml"
DASHBOARD = json.loads((FOLDER / f"dashboards/{NAME}.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

# What Grafana itself puts in.
BUILT_IN = {"$__rate_interval": "5m", "$__range": "1h"}


@pytest.fixture(params=PANELS, ids=lambda panel: f"{panel['id']}-{panel['title']}")
def panel(request: pytest.FixtureRequest) -> Any:
    return request.param


def expressions(panel: Any) -> list[str]:
    """List what a panel asks for, in the language of Prometheus."""
    return [filled_in(target["expr"]) for target in panel["targets"]]


def filled_in(text: str) -> str:
    for name, value in BUILT_IN.items():
        text = text.replace(name, value)
    return text


# The dashboard


def test_it_can_be_told_from_others() -> None:
    # Grafana takes 40 characters.
    assert NAME[:40] == DASHBOARD["uid"]
    assert DASHBOARD["title"] == NAME
    assert "id" not in DASHBOARD


def test_ids_and_titles_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_no_panel_lies_upon_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert taken.isdisjoint(cells), panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_a_panel_says_what_it_shows(panel: Any) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


# What it asks for


def test_a_panel_asks_for_what_there_is(panel: Any) -> None:
    assert expressions(panel)
    for expression in expressions(panel):
        assert unknown(expression) == set()


def test_a_panel_asks_the_chosen_prometheus_for_the_chosen_service(panel: Any) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for expression in expressions(panel):
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors
        assert all('job="$job"' in matchers for matchers in selectors)


def test_every_variable_is_there_and_used() -> None:
    # Those of Grafana itself begin with two underscores.
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == VARIABLES.keys()


def test_variables_are_found_in_what_there_is() -> None:
    assert VARIABLES["job"]["current"]["value"] == NAME
    for name in ("job", "instance", "worker"):
        query = VARIABLES[name]["query"]["query"]
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found, query
        assert found[2] == name
        assert unknown(found[1]) == set()
        assert name in kept(found[1])


def test_a_legend_names_labels_that_are_left(panel: Any) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
        assert named <= kept(filled_in(target["expr"]))


def test_a_table_has_all_that_it_asks_for() -> None:
    [table] = [panel for panel in PANELS if panel["type"] == "table"]
    asked = {f"Value #{target['refId']}" for target in table["targets"]}
    overrides = table["fieldConfig"]["overrides"]
    assert {override["matcher"]["options"] for override in overrides} == asked
    for expression in expressions(table):
        assert kept(expression) == {"instance", "worker"}


# Provisioning


def test_grafana_is_told_of_prometheus_as_it_is() -> None:
    [source] = yaml.safe_load(
        (FOLDER / "provisioning/datasources/prometheus.yml").read_text("utf-8")
    )["datasources"]
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    if COMPOSE.exists():
        assert source["url"] == "http://prometheus:9090"
        assert "prometheus" in yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]


def test_grafana_looks_where_the_dashboard_is() -> None:
    [provider] = yaml.safe_load(
        (FOLDER / f"provisioning/dashboards/{NAME}.yml").read_text("utf-8")
    )["providers"]
    folder = provider["options"]["path"]
    assert folder == f"/etc/grafana/dashboards/{NAME}"
    if COMPOSE.exists():
        grafana = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["grafana"]
        [source] = [line.split(":")[0] for line in grafana["volumes"] if f":{folder}:" in line]
        assert (COMPOSE.parent / source).resolve() == FOLDER / "dashboards"
        home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert home == f"{folder}/{NAME}.json"


def test_nobody_enters_with_a_password_that_all_know() -> None:
    if COMPOSE.exists():
        grafana = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["grafana"]
        given = {"GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:-}"}
        assert given.items() <= grafana["environment"].items()
        assert "${GF_SECURITY_ADMIN_PASSWORD:?" in grafana["entrypoint"][-1]
        assert "GF_AUTH_ANONYMOUS_ENABLED" not in grafana["environment"]
        assert all(line.startswith("127.0.0.1:") for line in grafana["ports"])
