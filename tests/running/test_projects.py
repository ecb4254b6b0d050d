"""Every value of every answer, executed: installed, checked, tested, started and asked."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..bakes import ALL_OFF, ALL_ON, ALONE, AWKWARD, label, one_at_a_time
from .conftest import install
from .harness import starter

EXECUTED = [
    *(pytest.param(answers, id=label(answers)) for answers in one_at_a_time()),
    # The awkward answers ride on everything on, so that they land wherever answers can.
    pytest.param({**ALL_ON, **AWKWARD}, id="all-on-awkward"),
    pytest.param(ALL_OFF, id="all-off"),
]


# These change no code of the service.
BESIDE_THE_CODE = {*ALONE, "nginx", "deploy", "ci"}
# What such answers can break. The others run all tests of the project.
OF_EVERY_ANSWER = ["tests/test_app.py", "tests/deploy", "tests/test_main.py"]


@pytest.mark.parametrize("answers", EXECUTED)
def test_project_works(
    bake_into: Callable[..., Path], tmp_path: Path, answers: dict[str, Any]
) -> None:
    project = bake_into(tmp_path, **answers)
    python = install(project)
    succeed(project, python, "mypy")
    if answers and answers.keys() <= BESIDE_THE_CODE:
        succeed(project, python, "pytest", "--quiet", *OF_EVERY_ANSWER)
    else:
        succeed(project, python, "pytest", "--quiet", "--cov", "--cov-report=term")
    check_command(project, python.with_name(project.name))
    with starter(python, tmp_path, project / "src") as run:
        package = answers.get("package_name", "tornado_service")
        service = run.start("-m", package, APP_LOG_FORMAT="json")
        assert service.ask("/").json == {"message": "Hello, world!"}
        assert service.ask("/greetings/Zo%C3%AB").json == {"message": "Hello, Zoë!"}
        assert service.ask("/nope").json["status"] == 404
        service.signal()
        assert service.wait() == 0
        assert service.errors() == ""


def check_command(project: Path, command: Path) -> None:
    """Check the command that the project installs."""
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == "0.1.0\n"
    settings = project / "deploy/production.env"
    lines = [line for line in settings.read_text().splitlines() if line.startswith("APP_")]
    environment = dict(line.split("=", 1) for line in lines)
    shown = subprocess.run(
        [command, "check"], env=environment, capture_output=True, text=True, check=True
    )
    assert set(lines) <= set(shown.stdout.splitlines())
    assert shown.stderr == ""


def succeed(project: Path, python: Path, module: str, *arguments: str, **environment: str) -> None:
    """Run a tool of the project's environment in the project."""
    done = subprocess.run(
        [python, "-m", module, *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_project_is_noticed(python: Path, tmp_path: Path) -> None:
    # The twin of the test above: what it runs can fail.
    for module, broken in {"mypy": "number: int = 'text'", "pytest": "assert False"}.items():
        folder = tmp_path / module
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[tool.mypy]\nstrict = true\nfiles = ["."]\n')
        (folder / "test_broken.py").write_text(broken + "\n")
        with pytest.raises(AssertionError, match="error"):
            succeed(folder, python, module)


def test_samples_can_be_deleted(
    bake_into: Callable[..., Path], python: Path, tmp_path: Path
) -> None:
    # As the README says: the folder, the module, their tests, and their routes.
    project = bake_into(tmp_path)
    package = project / "src/tornado_service"
    for folder in (package / "greetings", project / "tests/greetings"):
        shutil.rmtree(folder)
    for file in (package / "echo.py", project / "tests/test_echo.py"):
        file.unlink()
    app = package / "app.py"
    text = re.sub(r"^from \.(echo|greetings).*\n", "", app.read_text(), flags=re.M)
    text, count = re.subn(r"\[\n( +\(\"/.*\n)+ +\]", "[]", text)
    assert count == 1
    app.write_text(text)
    for module, *arguments in (
        ("ruff", "check", "."),
        ("mypy", "--no-incremental"),
        ("pytest", "--quiet"),
    ):
        succeed(project, python, module, *arguments, PYTHONPATH=str(project / "src"))
