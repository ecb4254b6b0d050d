"""Python environments for baked projects: dependencies are installed once, not for each project."""

import hashlib
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from ..bakes import TEMPLATE
from ..locks import locked
from ..tools import needs

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def environment(project: Path, folder: Path) -> Path:
    """Return the Python of an environment with all that a project depends on, but not the project.

    The environments are in `folder`. Projects with the same dependencies have the same one.
    """
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    constraints = (project / "constraints.txt").read_text("utf-8")
    wanted = [*data["project"]["dependencies"], *data["dependency-groups"]["dev"], constraints]
    name = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:8]
    place = folder / f"environment-{name}"
    python = place / "bin/python"
    complete = place / "complete"
    with locked(place):
        if not complete.exists():
            _uv(project, "venv", "--clear", "--python", sys.executable, str(place))
            _pip(project, python, "-r", "pyproject.toml", "--group", "dev")
            complete.touch()
    return python


def install(project: Path, folder: Path) -> Path:
    """Install a project with its command into a `.venv` of its own. Return its Python.

    What it depends on is added from the environment that `environment` makes in `folder`.
    """
    dependencies = _site_packages(environment(project, folder))
    python = project / ".venv/bin/python"
    _uv(project, "venv", "--python", sys.executable, ".venv")
    # Not only a path: its own .pth files count as well, such as that of coverage.
    line = f"import site; site.addsitedir({str(dependencies)!r})\n"
    (_site_packages(python) / "dependencies.pth").write_text(line)
    # The oldest Python that a project asks for may be newer than the one at hand. The code is the
    # same for all of them; CI runs these tests with each.
    configuration = project / "pyproject.toml"
    text = configuration.read_text("utf-8")
    newer = f'requires-python = ">={VERSION}"'
    lines = [newer if line.startswith("requires-python") else line for line in text.split("\n")]
    configuration.write_text("\n".join(lines), "utf-8")
    _pip(project, python, "--no-deps", "--editable", ".")
    configuration.write_text(text, "utf-8")
    return python


def add(project: Path, python: Path, *requirements: str) -> None:
    """Install more into the `.venv` of a project, in the versions that this template has."""
    constraints = ("--constraints", str(TEMPLATE / "constraints.txt"))
    _uv(project, "pip", "install", "--python", str(python), *constraints, *requirements)


def equip(project: Path, folder: Path) -> None:
    """Give a project that `install` has installed what its targets run, so that make adds nothing.

    All projects share the tools for audits, and what mypy knows of the dependencies.
    """
    commands = project / ".venv/bin"
    shared = environment(project, folder).parent
    (commands / "ruff").symlink_to(shared / "ruff")
    lint_imports = (shared / "lint-imports").read_text()
    write_command(commands / "lint-imports", lint_imports.replace(str(shared), str(commands), 1))
    mypy = [commands / "python", "-m", "mypy", f"--cache-dir={folder / 'mypy'}"]
    lock = shlex.join(["flock", f"{folder / 'mypy.lock'}", *map(str, mypy)])
    write_command(commands / "mypy", f'#!/bin/sh\nexec {lock} "$@"\n')
    tools = project / ".venv/tools"
    tools.symlink_to(_tools(project, folder))
    subprocess.run(["make", "--silent", ".venv/made-for"], cwd=project, check=True)
    # In this order: make compares times.
    for made in (project / ".venv/serving", project / ".venv/installed", tools / "installed"):
        made.touch()


def _tools(project: Path, folder: Path) -> Path:
    """Return a folder with the tools of a project that are apart from the others."""
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    wanted = data["dependency-groups"]["tools"]
    name = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:8]
    place = folder / f"tools-{name}"
    with locked(place):
        if not place.exists():
            unfinished = place.with_suffix(".unfinished")
            _pip(project, Path(sys.executable), "--target", str(unfinished), *wanted)
            unfinished.rename(place)
    return place


def write_command(path: Path, text: str) -> None:
    """Write a script that can be called."""
    path.write_text(text)
    path.chmod(0o755)


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


def _site_packages(python: Path) -> Path:
    return python.parents[1] / f"lib/python{VERSION}/site-packages"


def _pip(project: Path, python: Path, *arguments: str) -> None:
    constraints = ("--constraints", "constraints.txt")
    _uv(project, "pip", "install", "--python", str(python), *constraints, *arguments)


def _uv(project: Path, *arguments: str) -> None:
    """Run uv, which keeps what it has downloaded."""
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run([needs("uv"), "--quiet", *arguments], cwd=project, env=variables, check=True)
