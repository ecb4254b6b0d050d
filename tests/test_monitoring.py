"""Alert rules and dashboards of the projects are valid, and the rules' unit tests are sharp."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bakes import AWKWARD, LONGEST, Answers
from .promql import metrics, result_labels, unknown
from .tools import needs

Bake = Callable[..., Path]

PROJECTS: dict[str, Answers] = {
    "default": {},
    "docker": {"deploy": "docker"},
    "kubernetes": {"deploy": "kubernetes"},
    "none": {"deploy": "none"},
    "single": {"processes": "single"},
    "awkward": AWKWARD,
    "longest": LONGEST,
}

# Variables that Grafana itself replaces.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}

# The limit of each alert, one on the other side of which its quiet case is, and one on the other
# side of which the case is in which it fires.
LIMITS = {
    "ServiceDown": ("== 0", ">= 0", "< 0"),
    "InstanceDown": ("} == 0", "} >= 0", "} < 0"),
    "NoReadyWorker": (">= 5", ">= 4", ">= 6"),
    "WorkersMissing": ("< count", "<= count", "> count"),
    "ResourceUnavailable": ("== 0", ">= 0", "< 0"),
    "ResourceFailing": ("}) == 0", "}) >= 0", "}) < 0"),
    "HighErrorRatio": ("> 0.05", "> 0.048", "> 0.053"),
    "HighLatency": ("> 1\n", "> 0.98\n", "> 1.8\n"),
    "WorkerCrashes": (">= 3", ">= 2", ">= 4"),
    "ServiceRestarts": (">= 3", ">= 2", ">= 4"),
    "EventLoopLag": ("> 0.5", "> 0.48", "> 0.52"),
    "CPUSaturated": ("> 0.9", "> 0.88", "> 0.92"),
    "TooManyRequestsInFlight": ("> 100", "> 99", "> 102"),
    "FileDescriptorsExhausted": ("> 0.8", "> 0.79", "> 0.82"),
}


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest, bake: Bake) -> Path:
    """A project with metrics."""
    return bake(**PROJECTS[request.param])


def complaints(*command: str | Path) -> str:
    """Say what promtool has against something."""
    done = subprocess.run(
        [needs("promtool"), *command], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def copy(project: Path, folder: Path) -> Path:
    """Copy what is for Prometheus. Debian's does not know Kubernetes, so it gets addresses."""
    home = shutil.copytree(project / "deploy/prometheus", folder / "prometheus")
    content = yaml.safe_load((home / "prometheus.yml").read_text("utf-8"))
    for job in content["scrape_configs"]:
        if job.pop("kubernetes_sd_configs", None):
            job["static_configs"] = [{"targets": ["10.0.0.1:9000"]}]
    (home / "prometheus.yml").write_text(yaml.safe_dump(content))
    return home


def dashboard(project: Path) -> Any:
    """Read the dashboard of a project."""
    path = project / f"deploy/grafana/dashboards/{project.name}.json"
    return json.loads(path.read_text("utf-8"))


def panels(project: Path) -> list[Any]:
    """List the panels of the dashboard that show something."""
    return [panel for panel in dashboard(project)["panels"] if panel["type"] != "row"]


def expressions_of(panel: Any) -> list[str]:
    """List the expressions of a panel, with values for the variables of Grafana."""
    found = [target["expr"] for target in panel["targets"]]
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    return found


def expressions(project: Path) -> list[str]:
    """List the expressions of the dashboard."""
    return [expression for panel in panels(project) for expression in expressions_of(panel)]


def rules(project: Path) -> list[Any]:
    """List the alert rules of a project."""
    text = (project / f"deploy/prometheus/{project.name}.rules.yml").read_text("utf-8")
    [group] = yaml.safe_load(text)["groups"]
    assert group["name"] == project.name
    return list(group["rules"])


def as_rules(found: list[str], file: Path) -> Path:
    """Write expressions into a file of rules, which promtool reads."""
    rules = [{"record": f"one:{number}", "expr": each} for number, each in enumerate(found)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    return file


# Whether Prometheus understands it


def test_prometheus_takes_the_configuration(project: Path, tmp_path: Path) -> None:
    # The rules that it names as well.
    assert complaints("check", "config", copy(project, tmp_path) / "prometheus.yml") == ""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("prometheus.yml", "scrape_interval", "scrape_intervall"),
        ("prometheus.yml", "rules.yml", "rule.yml"),
        ("tornado-service.rules.yml", "for: 1m", "for: 1"),
        ("tornado-service.rules.yml", "max by (job)", "max by job"),
        ("tornado-service.rules.yml", "{{ $labels.job }} is", "{{ $label.job }} is"),
    ],
)
def test_prometheus_would_complain(
    bake: Bake, tmp_path: Path, name: str, before: str, after: str
) -> None:
    home = copy(bake(), tmp_path)
    text = (home / name).read_text("utf-8")
    assert before in text
    (home / name).write_text(text.replace(before, after))
    assert complaints("check", "config", home / "prometheus.yml") != ""


def test_prometheus_understands_the_dashboard(project: Path, tmp_path: Path) -> None:
    found = expressions(project)
    assert found
    # Chosen values are in quotes, and anything may stand there.
    assert not any(re.search(r"\$__", expression) for expression in found)
    assert complaints("check", "rules", as_rules(found, tmp_path / "dashboard.yml")) == ""


@pytest.mark.parametrize(
    ("before", "after"), [("sum(", "summe("), ("[1m]", ""), ('job="$job"', "job=$job")]
)
def test_prometheus_would_not_understand(
    bake: Bake, tmp_path: Path, before: str, after: str
) -> None:
    [first, *_] = expressions(bake())
    assert before in first
    wrong = as_rules([first.replace(before, after)], tmp_path / "dashboard.yml")
    assert complaints("check", "rules", wrong) != ""


# Whether the rules and the dashboard use the metrics of the service


def test_rules_use_existing_metrics(project: Path) -> None:
    for rule in rules(project):
        assert metrics(rule["expr"]), rule["alert"]
        assert unknown(rule["expr"]) == set(), rule["alert"]


def test_panels_use_existing_metrics(project: Path) -> None:
    for panel in panels(project):
        assert expressions_of(panel), panel["title"]
        for expression in expressions_of(panel):
            assert metrics(expression), panel["title"]
            assert unknown(expression) == set(), panel["title"]


@pytest.mark.parametrize("wrong", ["http_requests_total", 'workers_ready{color="red"}'])
def test_unknown_names_are_noticed(wrong: str) -> None:
    assert unknown(f"rate({wrong}[5m]) > 0") != set()


def test_rules_have_a_severity_and_texts(project: Path) -> None:
    for rule in rules(project):
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


# The dashboard


def test_dashboard_has_a_name_of_its_own(project: Path) -> None:
    content = dashboard(project)
    # Grafana accepts 40 characters.
    assert content["uid"] == project.name[:40]
    assert content["title"] == project.name
    assert "id" not in content


def test_ids_and_titles_of_panels_are_unique(project: Path) -> None:
    ids = [panel["id"] for panel in dashboard(project)["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(project)]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap(project: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(project)["panels"]:
        at = panel["gridPos"]
        columns = range(at["x"], at["x"] + at["w"])
        cells = {(x, y) for x in columns for y in range(at["y"], at["y"] + at["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        assert columns.stop <= 24, panel["title"]
        taken |= cells


def test_panels_explain_what_they_show(project: Path) -> None:
    named = set()
    for panel in panels(project):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        named |= set(re.findall(r"The alert (\w+) fires", panel["description"]))
    assert named
    assert named <= alerts(project)


def test_panels_have_a_counterpart_in_the_readme(project: Path) -> None:
    readme = (project / "deploy/prometheus/README.md").read_text("utf-8")
    named = set(re.findall(r'panel "([^"]+)"', readme))
    assert named
    assert named <= {panel["title"] for panel in panels(project)}


def test_panels_use_the_selected_service_and_prometheus(project: Path) -> None:
    for panel in panels(project):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for expression in expressions_of(panel):
            selectors = re.findall(r"\{([^}]*)\}", expression)
            assert selectors, panel["title"]
            assert all('job="$job"' in matchers for matchers in selectors), panel["title"]


def test_legends_use_labels_of_the_result(project: Path) -> None:
    for panel in panels(project):
        for target, expression in zip(panel["targets"], expressions_of(panel), strict=True):
            named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert named <= result_labels(expression), panel["title"]


def test_table_has_a_column_for_each_expression(project: Path) -> None:
    [table] = [panel for panel in panels(project) if panel["type"] == "table"]
    columns = {f"Value #{target['refId']}" for target in table["targets"]}
    overrides = table["fieldConfig"]["overrides"]
    assert {override["matcher"]["options"] for override in overrides} == columns
    for expression in expressions_of(table):
        assert result_labels(expression) == {"instance", "worker"}


def test_variables_are_used_and_have_values(project: Path) -> None:
    content = dashboard(project)
    variables = {variable["name"]: variable for variable in content["templating"]["list"]}
    # Those of Grafana itself begin with two underscores.
    assert set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(content))) == variables.keys()
    assert variables["job"]["current"]["value"] == project.name
    for name in ("job", "instance", "worker"):
        query = variables[name]["query"]["query"]
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found, query
        assert found[2] == name
        assert unknown(found[1]) == set()
        assert name in result_labels(found[1])


# Whether the unit tests show when an alert fires


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "single"])
def test_the_rules_pass_their_cases(bake: Bake, tmp_path: Path, name: str) -> None:
    project = bake(**PROJECTS[name])
    home = copy(project, tmp_path)
    assert complaints("test", "rules", home / f"{project.name}.rules.test.yml") == ""


def surprises(
    project: Path, folder: Path, change: Callable[[Any], None]
) -> tuple[set[str], set[str]]:
    """Change the rules and run their cases. Lists the alerts that fired in vain, and did not."""
    home = copy(project, folder)
    file = home / f"{project.name}.rules.yml"
    content = yaml.safe_load(file.read_text("utf-8"))
    for rule in content["groups"][0]["rules"]:
        change(rule)
    file.write_text(yaml.safe_dump(content))
    output = complaints("test", "rules", home / f"{project.name}.rules.test.yml")
    in_vain, missing = set(), set()
    for lines in re.findall(r"exp: (.*)\n +got: (.*)", output):
        expected, got = (set(re.findall(r'{alertname="(\w+)"(.*?)}', line)) for line in lines)
        in_vain |= {name for name, _ in got - expected}
        missing |= {name for name, _ in expected - got}
    return in_vain, missing


def alerts(project: Path) -> set[str]:
    """List the alerts that a project has."""
    return {rule["alert"] for rule in rules(project)}


def limit(which: int) -> Callable[[Any], None]:
    """Change the limit of each alert to another one of `LIMITS`."""

    def change(rule: Any) -> None:
        before, after = LIMITS[rule["alert"]][0], LIMITS[rule["alert"]][which]
        assert rule["expr"].count(before) == 1
        rule["expr"] = rule["expr"].replace(before, after)

    return change


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "single"])
def test_the_cases_tell_on_which_side_of_its_limit_an_alert_fires(
    bake: Bake, tmp_path: Path, name: str
) -> None:
    project = bake(**PROJECTS[name])
    for which in (1, 2):
        folder = tmp_path / str(which)
        folder.mkdir()
        assert surprises(project, folder, limit(which))[which - 1] == alerts(project)


@pytest.mark.slow
def test_the_cases_tell_how_long_an_alert_waits(bake: Bake, tmp_path: Path) -> None:
    project = bake()

    def waits(seconds: str) -> Callable[[Any], None]:
        return lambda rule: rule.update({"for": seconds})

    (tmp_path / "short").mkdir()
    in_vain, _ = surprises(project, tmp_path / "short", waits("15s"))
    assert in_vain == alerts(project) - {"NoReadyWorker", "WorkerCrashes"}  # which do not wait
    (tmp_path / "long").mkdir()
    _, missing = surprises(project, tmp_path / "long", waits("11m"))
    assert missing == alerts(project)


@pytest.mark.slow
def test_the_cases_tell_how_much_traffic_an_alert_needs(bake: Bake, tmp_path: Path) -> None:
    def change(rule: Any) -> None:
        for before, after in ((">= 10\n", ">= 9\n"), (">= 100\n", ">= 70\n")):
            rule["expr"] = rule["expr"].replace(before, after)

    assert surprises(bake(), tmp_path, change) == ({"HighErrorRatio", "HighLatency"}, set())
