"""What those who work on a project are given: CI, editors, and AGENTS.md."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bakes import ALL_OFF, ALL_ON, AWKWARD, LONGEST, Answers

Bake = Callable[..., Path]


def steps_of_make_ci(project: Path) -> list[str]:
    """List the targets that `make ci` makes, in order."""
    [targets] = re.findall(r"^ci: (.*) ## ", (project / "Makefile").read_text(), re.MULTILINE)
    return [f"make {target}" for target in targets.split()]


def workflow(project: Path, name: str) -> Any:
    """Read a workflow of GitHub."""
    return yaml.safe_load((project / f".github/workflows/{name}.yml").read_text())


def test_github_runs_what_make_ci_runs(bake: Bake) -> None:
    project = bake(ci="github")
    steps = workflow(project, "ci")["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == steps_of_make_ci(project)


def test_gitlab_runs_what_make_ci_runs(bake: Bake) -> None:
    project = bake(ci="gitlab")
    jobs = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    assert jobs["test"]["script"] == steps_of_make_ci(project)


def test_project_without_ci_has_make_ci(bake: Bake) -> None:
    assert steps_of_make_ci(bake(ci="none")) == ["make check", "make test", "make audit"]


def test_both_proposals_are_made(bake: Bake) -> None:
    on_github, on_gitlab = jobs_of_proposals(bake)
    script = (bake() / "ci/propose.sh").read_text()
    words = set(re.findall(r"^(\w+)\) made_by=", script, re.MULTILINE))
    assert words == {"template", "lock"}
    for job in on_github:
        assert set(job["strategy"]["matrix"]["what"]) == words
    for job in on_gitlab:
        assert set(job["parallel"]["matrix"][0]["WHAT"]) == words
    # It starts this workflow by name, which only a workflow that says so can be.
    assert "workflow_dispatch" in workflow(bake(), "ci")[True]


def test_what_is_not_reviewed_runs_without_a_token(bake: Bake) -> None:
    (make, propose), (make_on_gitlab, propose_on_gitlab) = jobs_of_proposals(bake)
    assert make["permissions"] == {"contents": "read"}
    assert "token" not in str(make).lower()
    assert "secrets" not in str(make)
    for job in (make, propose):
        [checkout] = [step for step in job["steps"] if "checkout@" in step.get("uses", "")]
        assert checkout["with"] == {"persist-credentials": False}
    [fetch] = [step for step in propose["steps"] if "download-artifact@" in step.get("uses", "")]
    # Nothing that is downloaded may replace ci/propose.sh.
    assert fetch["with"]["path"] == "proposal"
    assert "token" not in str(make_on_gitlab).lower()
    assert "environment" not in make_on_gitlab
    assert propose_on_gitlab["environment"]["name"] == "propose"
    assert propose_on_gitlab["variables"]["GIT_STRATEGY"] == "clone"


def test_what_is_made_is_what_is_proposed(bake: Bake) -> None:
    (make, propose), (make_on_gitlab, propose_on_gitlab) = jobs_of_proposals(bake)
    assert [step["run"] for job in (make, propose) for step in job["steps"] if "run" in step] == [
        'sh ci/propose.sh make "$WHAT"',
        'sh ci/propose.sh open "$WHAT"',
    ]
    upload = make["steps"][-1]["with"]
    assert upload["path"] == "proposal/${{ matrix.what }}.bundle"
    assert upload["name"] == propose["steps"][1]["with"]["pattern"]
    assert make_on_gitlab["script"][-1] == 'sh ci/propose.sh make "$WHAT"'
    assert make_on_gitlab["artifacts"] == {"paths": ["proposal/$WHAT.bundle"]}
    assert propose_on_gitlab["script"][-1] == 'sh ci/propose.sh open "$WHAT"'
    # One may fail without the other.
    assert (propose["needs"], propose["if"]) == ("make", "${{ !cancelled() }}")
    assert propose_on_gitlab["needs"] == ["make"]
    assert propose_on_gitlab["rules"][0]["when"] == "always"


def jobs_of_proposals(bake: Bake) -> tuple[list[Any], list[Any]]:
    """List the jobs `make` and `propose`, of GitHub and of GitLab."""
    on_github = workflow(bake(ci="github"), "update")["jobs"]
    on_gitlab = yaml.safe_load((bake(ci="gitlab") / ".gitlab-ci.yml").read_text())
    return [on_github["make"], on_github["propose"]], [on_gitlab["make"], on_gitlab["propose"]]


@pytest.mark.parametrize(
    ("answers", "ecosystems"),
    [
        ({"deploy": "none"}, {"github-actions": "/"}),
        ({"deploy": "kubernetes"}, {"github-actions": "/", "docker": "/"}),
        (
            {"deploy": "docker"},
            {"github-actions": "/", "docker": "/", "docker-compose": "/deploy/docker"},
        ),
        (
            {"deploy": "docker", "nginx": False, "metrics": False},
            {"github-actions": "/", "docker": "/"},
        ),
    ],
)
def test_dependabot_knows_where_versions_are(
    bake: Bake, answers: Answers, ecosystems: dict[str, str]
) -> None:
    project = bake(**answers)
    updates = yaml.safe_load((project / ".github/dependabot.yml").read_text())["updates"]
    assert {one["package-ecosystem"]: one["directory"] for one in updates} == ecosystems
    # It reads no variables in FROM.
    if "docker" in ecosystems:
        assert "$" not in "".join(
            re.findall("^FROM .*", (project / "Dockerfile").read_text(), re.M)
        )
    compose = project / "deploy/docker/compose.yaml"
    images = (
        re.findall(r"^    image: [a-z].*:", compose.read_text(), re.M) if compose.exists() else []
    )
    assert bool(images) == ("docker-compose" in ecosystems)


@pytest.mark.parametrize(
    "answers", [ALL_ON, ALL_OFF, {**ALL_ON, **AWKWARD}], ids=["all on", "all off", "awkward"]
)
def test_editors_and_containers_have_what_they_need(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)
    container = json.loads((project / ".devcontainer/devcontainer.json").read_text())
    assert container["name"] == project.name
    assert container["image"].endswith(":3.11")
    assert container["postCreateCommand"] == "make .venv/installed"
    # The ports of the service by default.
    assert container["forwardPorts"] == [8000, 9000]
    assert set(container["portsAttributes"]) == {"8000", "9000"}
    editor = json.loads((project / ".vscode/extensions.json").read_text())
    assert container["customizations"]["vscode"]["extensions"] == editor["recommendations"]
    settings = json.loads((project / ".vscode/settings.json").read_text())
    [pattern] = settings["files.readonlyInclude"]
    assert [path.is_dir() for path in project.glob(pattern.removesuffix("/**"))] == [True]


@pytest.mark.parametrize(
    "answers", [ALL_ON, ALL_OFF, LONGEST], ids=["all on", "all off", "longest"]
)
def test_agents_are_told_briefly_what_not_to_edit_first(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)
    text = (project / "AGENTS.md").read_text()
    assert len(text.splitlines()) <= 60
    first, *_ = re.findall("^## (.*)", text, re.MULTILINE)
    assert first == "Do not edit"
    package = answers.get("package_name", "tornado_service")
    for path in re.findall(r"`([\w./]+/[\w./]*)`", text):
        if path not in (".venv/", "orders/"):
            assert (project / path).exists(), path
    assert f"src/{package}/runtime/" in text


def test_agents_are_told_of_the_parts_chosen(bake: Bake) -> None:
    everything, nothing = ((bake(**given) / "AGENTS.md").read_text() for given in (ALL_ON, ALL_OFF))
    for line in ("worker processes", "Labels of metrics", ".github/workflows/"):
        assert line in everything
        assert line not in nothing
    assert ".gitlab-ci.yml" in (bake(ci="gitlab") / "AGENTS.md").read_text()
