"""Tests with the newest dependencies that both pyproject.toml allow: `make newest`.

Two environments are made anew below build/newest/, without any constraints.txt, with the Python
that PYTHON names: one for the tests of the runtime, one for those of a project with everything on.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cookiecutter.main import cookiecutter  # type: ignore[import-untyped]

from tests.bakes import ALL_ON

from . import ROOT
from .lock import CONSTRAINTS, parse, pinned

FOLDER = ROOT / "build/newest"


class NewestError(Exception):
    """Something fails with the newest dependencies. The message says what."""


def install(python: str) -> Path:
    """Install the template with its tools; return the Python of the environment."""
    place = FOLDER / "template"
    _uv("venv", "--quiet", "--python", python, str(place))
    installed = place / "bin/python"
    _uv("pip", "install", "--quiet", "--python", str(installed), "--editable", ".[dev]")
    return installed


def differences(python: Path) -> Iterator[str]:
    """Say which versions an environment has instead of those in both constraints.txt."""
    command = [sys.executable, "-m", "uv", "pip", "freeze", "--quiet", "--python", str(python)]
    frozen = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    tested = pinned()
    for name, [line] in parse(frozen.splitlines()).items():
        known = [old.partition(" ;")[0] for old in tested.get(name, [])]
        if line not in known:
            yield f"{line} instead of {', '.join(known) or 'nothing'}"


def generate(folder: Path) -> Path:
    """Generate a project with everything on and no constraints. Return its folder."""
    options = {"no_input": True, "default_config": True, "extra_context": {**ALL_ON}}
    project = Path(cookiecutter(str(ROOT), output_dir=str(folder), **options))
    (project / CONSTRAINTS).write_text("", "utf-8")
    return project


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all tests, and return the exit code: 1 if any fail."""
    parser = argparse.ArgumentParser(prog="make newest")
    parser.add_argument("python")
    python: str = parser.parse_args(arguments).python
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        installed = install(python)
        print("Newer than what the template is tested with:", *differences(installed), sep="\n  ")
        project = generate(FOLDER)
        make = ["make", "-C", str(project), "--no-print-directory"]
        tests = [str(installed), "-m", "pytest", "--quiet", "--numprocesses=2", "tests/runtime"]
        failed = [
            *_failed("the project's checks and tests", *make, "check", "test", f"PYTHON={python}"),
            *_failed("the tests of the runtime", *tests),
        ]
        if failed:
            raise NewestError(f"With the newest dependencies fail: {', '.join(failed)}.")
    except NewestError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _failed(what: str, *command: str) -> Iterator[str]:
    if subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode:
        yield what


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    if subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode:
        raise NewestError(f"`uv {' '.join(arguments[:2])}` failed: see above.")


def _environment() -> dict[str, str]:
    """Return the environment without what a make or a Python around this one has set."""
    names = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in names}


if __name__ == "__main__":
    sys.exit(main())
