"""The runtime of a project has the same bytes everywhere, apart from rooms that are missing."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime.checksums import RUNTIME, SUMS, changed_by_hand, checksums

from docs.draw_rooms import PICTURE, README, picture

from .bakes import ALL_OFF, ALL_ON, AWKWARD, TEMPLATE, Answers, kept, label
from .tools import needs

Bake = Callable[..., Path]

PROJECTS: list[Answers] = [{}, ALL_ON, ALL_OFF, {**ALL_ON, **AWKWARD}, {"metrics": False}]


def optional_rooms() -> set[str]:
    """Return the rooms that an answer can remove."""
    paths = [Path(path) for feature in kept() for path in feature["paths"]]
    return {path.name for path in paths if path.parent.name == "runtime"}


def runtime_of(project: Path) -> Path:
    [runtime] = project.glob("src/*/runtime")
    return runtime


@pytest.mark.parametrize("answers", PROJECTS, ids=label)
def test_runtime_has_the_same_bytes_in_every_project(bake: Bake, answers: Answers) -> None:
    baked, source = checksums(runtime_of(bake(**answers))), checksums(RUNTIME)
    rooms = {path.partition("/")[0] for path in baked}
    missing = optional_rooms() - rooms
    assert baked == {
        path: digest for path, digest in source.items() if path.partition("/")[0] not in missing
    }


def rooms_of(runtime: Path) -> set[str]:
    return {path.parent.name for path in runtime.glob("*/__init__.py")}


def test_optional_rooms_can_be_missing_and_no_others(bake: Bake) -> None:
    assert rooms_of(RUNTIME) >= optional_rooms() >= {"metrics", "tracing", "workers"}
    assert rooms_of(runtime_of(bake(**ALL_OFF))) == rooms_of(RUNTIME) - optional_rooms()


def test_every_room_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)/`", README.read_text("utf-8"), re.M)) == rooms_of(RUNTIME)


@pytest.mark.parametrize("room", sorted(optional_rooms()))
def test_optional_room_is_tested_in_place_and_in_a_running_service(room: str) -> None:
    for path in (f"runtime/{room}/__init__.py", f"running/test_{room}.py"):
        assert (TEMPLATE / "tests" / path).is_file(), path


@pytest.mark.parametrize("answers", PROJECTS, ids=label)
def test_delivered_runtime_is_unchanged(bake: Bake, answers: Answers) -> None:
    assert changed_by_hand(runtime_of(bake(**answers))) == []


def test_checksums_are_those_of_sha256sum(bake: Bake) -> None:
    command = [needs("sha256sum"), "--check", "--strict", "--quiet", SUMS]
    subprocess.run(command, cwd=runtime_of(bake(**ALL_ON)), check=True)


def test_version_is_that_of_the_template() -> None:
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    assert (RUNTIME / "VERSION").read_text() == f"{project['version']}\n"


@pytest.mark.parametrize("path", sorted(checksums(RUNTIME)))
def test_runtime_has_no_jinja(path: str) -> None:
    assert not re.search(r"\{[{%#]", (RUNTIME / path).read_text("utf-8"))


def test_no_byte_code_is_delivered(bake: Bake) -> None:
    project = bake(**ALL_ON)
    assert [path for path in project.rglob("__pycache__") if ".venv" not in path.parts] == []


# The arrows between the rooms


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml against the sources in a folder."""
    return subprocess.run(
        [needs("lint-imports"), "--no-cache", "--no-logo", str(TEMPLATE / "pyproject.toml")],
        cwd=source,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_arrows_go_one_way() -> None:
    done = lint_imports(RUNTIME.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("http/body.py", "from ..process import lag\n"),
        ("logs/writer.py", "from ..http.request import Request\n"),
        ("metrics/handler.py", "from ..workers.scoreboard import Row\n"),
        ("http/problem.py", "from .handler import Handler\n"),
    ],
)
def test_import_against_the_arrows_is_noticed(tmp_path: Path, module: str, line: str) -> None:
    copy = shutil.copytree(RUNTIME, tmp_path / "runtime")
    path = copy / module
    path.write_text(line + path.read_text("utf-8"), "utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_picture_of_the_rooms_is_that_of_the_code() -> None:
    assert PICTURE.findall(README.read_text("utf-8")) == [picture()]
