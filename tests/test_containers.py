"""Images and containers of the projects have no more rights than they need."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bakes import ALL_OFF, ALL_ON, Answers

PROJECTS: dict[str, Answers] = {"all on": ALL_ON, "all off": ALL_OFF, "default": {}}


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest, bake: Callable[..., Path]) -> Path:
    """A project with Docker Compose."""
    return bake(**{**PROJECTS[request.param], "deploy": "docker"})


@pytest.fixture
def services(project: Path) -> Any:
    """The services in its compose.yaml."""
    return yaml.safe_load((project / "deploy/docker/compose.yaml").read_text("utf-8"))["services"]


def test_the_image_is_built_from_the_project(project: Path, services: Any) -> None:
    build = services["app"]["build"]
    assert (project / "deploy/docker" / build["context"]).resolve() == project.resolve()
    # make up exports the variable, and the Dockerfile takes the argument.
    assert build["args"] == {"REVISION": "${REVISION:-}"}
    assert "\nARG REVISION=\n" in (project / "Dockerfile").read_text("utf-8")


def test_both_stages_have_the_same_base(project: Path) -> None:
    # Otherwise the environment of the first one does not run in the second one.
    text = (project / "Dockerfile").read_text("utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["python:3.11-slim"] * 2


def test_the_health_check_waits_longer_than_its_command(project: Path) -> None:
    # The command waits 3 s for a response.
    text = (project / "Dockerfile").read_text("utf-8")
    [timeout] = re.findall(r"^HEALTHCHECK .*--timeout=(\d+)s", text, re.MULTILINE)
    assert int(timeout) > 3


def test_containers_have_few_rights(services: Any) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert name == "nginx" or "cap_add" not in service, name


def test_container_logs_are_limited(services: Any) -> None:
    for name, service in services.items():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_monitoring_starts_on_request_only(services: Any) -> None:
    always = {name for name, service in services.items() if not service.get("profiles")}
    assert always == {"app", "nginx"} & services.keys()


def test_grafana_has_no_default_password(bake: Callable[..., Path]) -> None:
    text = (bake(deploy="docker") / "deploy/docker/compose.yaml").read_text("utf-8")
    grafana = yaml.safe_load(text)["services"]["grafana"]
    password = {"GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:-}"}
    assert password.items() <= grafana["environment"].items()
    assert "${GF_SECURITY_ADMIN_PASSWORD:?" in grafana["entrypoint"][-1]
    assert "GF_AUTH_ANONYMOUS_ENABLED" not in grafana["environment"]
