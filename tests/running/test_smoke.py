"""What the workflow does on other systems, done here: a project with a single process, no make."""

from pathlib import Path

import pytest

from maintenance import smoke
from maintenance.smoke import SmokeError

from .environments import install


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture(scope="module")
def project(folder: Path) -> Path:
    smoke.refuse(folder)
    return smoke.generate(folder)


@pytest.fixture(scope="module")
def python(project: Path, shared: Path) -> Path:
    return install(project, shared)


def test_service_is_started_asked_and_stopped(project: Path, python: Path) -> None:
    smoke.command(project, python)
    smoke.serve(project, python)


def test_service_that_does_not_start_is_noticed(project: Path, python: Path) -> None:
    app = project / "src/tornado_service/app.py"
    text = app.read_text("utf-8")
    app.write_text("raise RuntimeError\n", "utf-8")
    (project / "service.log").unlink(missing_ok=True)
    with pytest.raises(SmokeError, match="does not listen"):
        smoke.serve(project, python)
    app.write_text(text, "utf-8")


def test_part_can_be_switched_off(project: Path) -> None:
    smoke.switch_off(project)
    (project / "deploy/nginx/tls.conf").touch()
    (project / "deploy/nginx/more.conf").mkdir()
    with pytest.raises(SmokeError, match="has not kept"):
        smoke.switch_off(project)


def test_answers_that_are_not_refused_are_noticed(folder: Path, project: Path) -> None:
    with pytest.raises(SmokeError, match="bad answers are not refused"):
        smoke.refuse(folder)
