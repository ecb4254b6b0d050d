"""What is measured, installed: baked projects, and an environment for each server.

Everything is below `build/bench/`. An environment is installed once, and again when its
requirements change.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build/bench"
REQUIREMENTS = Path(__file__).with_name("requirements")
SERVICE = "service"
"""The environment of the service; its requirements are those of the baked project."""
SLUG = "tornado-service"
PACKAGE = "tornado_service"
BAKE_OPTIONS = ("--no-input", "--default-config")


class BenchmarkError(Exception):
    """A benchmark cannot run, or its result would mean nothing. The message says why."""


def needs(tool: str) -> str:
    """Return the path of a program; those of this Python's environment come first.

    Raises `BenchmarkError` if it is not installed.
    """
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    found = shutil.which(tool, path=os.pathsep.join(places))
    if not found:
        raise BenchmarkError(f"{tool} is not installed (on Debian: apt install {tool})")
    return found


def bake(name: str) -> Path:
    """Generate a project with the default answers, anew, and return its folder."""
    folder = FOLDER / "projects" / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [*(needs("cookiecutter"), str(ROOT)), *BAKE_OPTIONS, "--output-dir", str(folder)],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder / SLUG


def environment(name: str, project: Path | None = None) -> Path:
    """Return the folder of commands of an environment, and install it first if need be.

    With `project` it has what serving this project needs, and the project in place.
    """
    place = FOLDER / "environments" / name
    if project:
        sources = [project / "pyproject.toml", project / "constraints.txt"]
        arguments = ["--editable", str(project), "--constraint", str(sources[1])]
    else:
        sources = [REQUIREMENTS / f"{name}.txt"]
        arguments = ["--requirement", str(sources[0])]
    wanted = "\n".join([sys.version, *arguments, *(path.read_text("utf-8") for path in sources)])
    installed = place / "installed"
    if not installed.exists() or installed.read_text("utf-8") != wanted:
        _uv("venv", "--clear", "--python", sys.executable, str(place))
        _uv("pip", "install", "--python", str(place / "bin/python"), *arguments)
        installed.write_text(wanted, "utf-8")
    return place / "bin"


def _uv(*arguments: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run([needs("uv"), "--quiet", *arguments], env=variables, check=True)
