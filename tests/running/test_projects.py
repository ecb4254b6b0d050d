"""Every value of every answer, executed: installed, started and asked. CI would pass."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..bakes import ALL_OFF, ALL_ON, AWKWARD, Answers, choices, every_value
from ..locks import locked
from ..tools import PLACES, needs
from .environments import VERSION, environment, equip, install, succeed
from .harness import starter
from .osv import Osv, osv

# Every other choice alone, the rest by default.
VARIATIONS = [
    pytest.param({question: other}, id=f"{question}={other}", marks=pytest.mark.exhaustive)
    for question, (_, *others) in choices().items()
    for other in others
]
EXTREMES = [pytest.param(ALL_ON, id="all-on"), pytest.param(ALL_OFF, id="all-off")]
EXECUTED = [
    *(pytest.param(answers, id=f"mix-{number}") for number, answers in enumerate(every_value())),
    # The awkward answers ride on everything on, so that they land wherever answers can.
    pytest.param({**ALL_ON, **AWKWARD}, id="all-on-awkward"),
    pytest.param(ALL_OFF, id="all-off"),
    *VARIATIONS,
]


@pytest.mark.parametrize("answers", EXECUTED)
def test_project_works(
    bake_into: Callable[..., Path],
    shared: Path,
    known: Osv,
    tmp_path: Path,
    answers: dict[str, Any],
) -> None:
    project = bake_into(tmp_path, **for_this_python(answers))
    python = install(project, shared)
    equip(project, shared)
    shown = outcome(project, "make", "ci", CI="true", OSV_URL=known.url)
    assert "Installing" not in shown
    assert known.asked["tornado"]
    check_command(project, python.with_name(project.name))
    with starter(python, tmp_path, project / "src") as run:
        package = answers.get("package_name", "tornado_service")
        service = run.start("-m", package, APP_LOG_FORMAT="json")
        assert service.ask("/").json == {"message": "Hello, world!"}
        assert service.ask("/greetings/Zo%C3%AB").json == {"message": "Hello, Zoë!"}
        assert service.ask("/nope").json["status"] == 404
        metrics = service.ask("/metrics", admin=True)
        assert metrics.status == (200 if answers.get("metrics", True) else 404)
        service.signal()
        assert service.wait() == 0
        assert service.errors() == ""


@pytest.mark.parametrize("answers", [*EXTREMES, *VARIATIONS])
def test_hooks_pass_before_the_first_commit(
    bake_into: Callable[..., Path], shared: Path, tmp_path: Path, answers: Answers
) -> None:
    project = bake_into(tmp_path, **for_this_python(answers))
    install(project, shared)
    equip(project, shared)
    outcome(project, "git", "init", "--quiet")
    outcome(project, "git", "add", "--all")
    hooks = {"PRE_COMMIT_HOME": str(tmp_path / "hooks")}
    shown = outcome(project, needs("pre-commit"), "run", "--all-files", **hooks)
    assert re.search(r"^make check\.+Passed$", shown, re.MULTILINE)
    # They change nothing, and leave nothing that is not ignored.
    assert outcome(project, "git", "ls-files", "--modified", "--others", "--exclude-standard") == ""


@pytest.mark.parametrize("answers", EXTREMES)
def test_editors_find_no_problems(
    bake: Callable[..., Path], shared: Path, answers: dict[str, Any]
) -> None:
    # pyright as it comes, with the environment of the project.
    project = bake(**answers)
    python = environment(project, shared)
    command = [needs("pyright"), "--pythonpath", python]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings, 0 informations" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def known() -> Iterator[Osv]:
    """What is known of vulnerabilities: none."""
    with osv() as started:
        yield started


def for_this_python(answers: Answers) -> Answers:
    """Ask for no later Python than the one at hand: CI runs these tests with each."""
    versions = choices()["python_version"]
    wanted = answers.get("python_version", versions[0])
    return {**answers, "python_version": min(wanted, VERSION, key=versions.index)}


def outcome(project: Path, *command: str, **environment: str) -> str:
    """Run a command in a project, which must succeed, and return what it has printed."""
    done = subprocess.run(
        command,
        cwd=project,
        env={**os.environ, "PATH": PLACES, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_types(project: Path, python: Path, shared: Path, **environment: str) -> None:
    """Run mypy. What it knows of the dependencies and of equal files, it keeps for all projects."""
    cache = shared / "mypy"
    with locked(cache):
        succeed(project, python, "mypy", f"--cache-dir={cache}", **environment)


def check_command(project: Path, command: Path) -> None:
    """Check the command that the project installs."""
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[a-z0-9-]+ 0\.1\.0 \(tornado-template \d+\.\d+\.\d+\)\n", version.stdout)
    settings = project / "deploy/production.env"
    lines = [line for line in settings.read_text().splitlines() if line.startswith("APP_")]
    environment = dict(line.split("=", 1) for line in lines)
    shown = subprocess.run(
        [command, "check"], env=environment, capture_output=True, text=True, check=True
    )
    assert set(lines) <= set(shown.stdout.splitlines())
    assert shown.stderr == ""


def test_failing_project_is_reported(python: Path, shared: Path, tmp_path: Path) -> None:
    # The tools that the test above runs can fail, and mypy keeps no result of another project.
    for name, line in {"good": "number: int = 1", "bad": "number: int = 'text'"}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[tool.mypy]\nstrict = true\nfiles = ["."]\n')
        (folder / "test_number.py").write_text(
            f"{line}\n\n\ndef test_number() -> None:\n    assert number == 1\n"
        )
    check_types(tmp_path / "good", python, shared)
    succeed(tmp_path / "good", python, "pytest")
    with pytest.raises(AssertionError, match="error: Incompatible types"):
        check_types(tmp_path / "bad", python, shared)
    with pytest.raises(AssertionError, match="1 failed"):
        succeed(tmp_path / "bad", python, "pytest")


def test_samples_can_be_deleted(
    bake_into: Callable[..., Path], python: Path, shared: Path, tmp_path: Path
) -> None:
    # As the README says: the folder, the module, their tests, and their routes.
    project = bake_into(tmp_path)
    package = project / "src/tornado_service"
    for folder in (package / "greetings", project / "tests/greetings"):
        shutil.rmtree(folder)
    for file in (package / "echo.py", project / "tests/test_echo.py"):
        file.unlink()
    app = package / "app.py"
    text = re.sub(r"^from (\.echo|\. import greetings).*\n", "", app.read_text(), flags=re.M)
    text, count = re.subn(r"\[\n +\*greetings.*\n +Route\(.*\n +\]", "[]", text)
    assert count == 1
    app.write_text(text.replace("Application, Route", "Application"))
    source = {"PYTHONPATH": str(project / "src")}
    check_types(project, python, shared, **source)
    succeed(project, python, "ruff", "check", ".", **source)
    succeed(project, python, "pytest", "--quiet", **source)
    # And `make feature` needs no sample.
    succeed(project, python, "tornado_service.runtime.feature", "orders", **source)
    check_types(project, python, shared, **source)
    succeed(project, python, "ruff", "check", ".", **source)
    succeed(project, python, "ruff", "format", "--check", ".", **source)
    succeed(project, python, "pytest", "--quiet", "tests/orders", **source)
