"""What the tests of the running service share: an installed environment and a way to start it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..tools import needs
from .harness import Starter, starter
from .machine import pytest_runtest_setup, run_again_if_disturbed

__all__ = ["pytest_runtest_setup"]  # called by pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            run_again_if_disturbed(item)


def install(project: Path) -> Path:
    """Install a baked project into a `.venv` of its own, as its Makefile does. Returns its Python.

    uv keeps what it has downloaded, so that only the first of many installs takes long.
    """
    uv = needs("uv")
    python = project / ".venv/bin/python"
    # The oldest Python that a project asks for may be newer than the one at hand. The code is the
    # same for all of them; CI runs these tests with each.
    text = (project / "pyproject.toml").read_text()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    installable = project / "pyproject.toml"
    newer = f'requires-python = ">={version}"'
    lines = [newer if line.startswith("requires-python") else line for line in text.split("\n")]
    installable.write_text("\n".join(lines))
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    pip = ["pip", "install", "--quiet", "--python", str(python), "-c", "constraints.txt"]
    for command in (
        ["venv", "--quiet", "--python", sys.executable, ".venv"],
        [*pip, "-e", ".[dev]"],
    ):
        subprocess.run([uv, *command], cwd=project, env=environment, check=True)
    installable.write_text(text)
    return python


@pytest.fixture(scope="session")
def project(bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the default answers, which the tests of this folder only read."""
    return bake_into(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def python(project: Path) -> Path:
    """The Python of an environment with everything that the default project needs."""
    return install(project)


@pytest.fixture
def run(python: Path, project: Path, tmp_path: Path) -> Iterator[Starter]:
    """Starts services of the default project; ends them all."""
    with starter(python, tmp_path, project / "src") as made:
        yield made


@pytest.fixture(scope="session")
def two(bake: Callable[..., Path]) -> Path:
    """A project with two workers."""
    return bake(workers="2")
