"""The command: ``python -m <package>.runtime.feature orders``."""

import builtins
import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from .files import PACKAGE, TESTS, path_of, rendered
from .wiring import names_in, wired

USAGE = "Usage: make feature NAME=orders"
EXIT_REFUSED = 1
EXIT_USAGE = 2
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SORT_IMPORTS = ("check", "--fix-only", "--fixable=I")
MAX_LINE = 100
"""Characters, as ruff is configured in a new project."""


class FeatureError(Exception):
    """A feature cannot be written, and nothing was; the message is one line that says why."""


class Project:
    """The files of a project, which is where this runtime is."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.folder = package.parents[1]
        self.tests = self.folder / "tests"
        self.app = package / "app.py"

    def check_name(self, name: str) -> None:
        """Check that a feature can have a name. Raises `FeatureError`."""
        if not NAME.fullmatch(name):
            near = _snake_case(name)
            hint = f" Try NAME={near}." if NAME.fullmatch(near) else ""
            rule = "lower-case letters, digits and single underscores, starting with a letter"
            raise FeatureError(f"{name!a} is no name for a package: {rule}.{hint}")
        if keyword.iskeyword(name) or hasattr(builtins, name):
            raise FeatureError(f"{name} is a word of Python.")
        if name == self.tests.name:
            raise FeatureError(f"{name} is the name of the folder of all tests.")
        for folder in (self.package, self.tests):
            for path in (folder / name, folder / f"{name}.py"):
                if path.exists():
                    raise FeatureError(f"{self.show(path)} exists.")

    def add(self, name: str) -> bool:
        """Write a feature: all of its files or none. Return whether `app.py` has its routes.

        Raises `FeatureError`, or `OSError` if a file cannot be written.
        """
        self.check_name(name)
        source = self.app.read_bytes() if self.app.exists() else b""
        if name in names_in(source):
            raise FeatureError(f"{name} already means something in {self.show(self.app)}.")
        app = wired(source, name)
        with ExitStack() as undo:
            for folder, files in (self.package / name, PACKAGE), (self.tests / name, TESTS):
                folder.mkdir()
                undo.callback(shutil.rmtree, folder)
                for file, content in rendered(files, self.package.name, name).items():
                    (folder / file).write_bytes(content)
                self._tidy(folder)
            if app is not None:
                _replace(self.app.resolve(), self._tidied(source, app))
            undo.pop_all()
        return app is not None

    def show(self, path: Path) -> str:
        """Return a path as a user of the project writes it."""
        return path.relative_to(self.folder).as_posix()

    def _tidy(self, folder: Path) -> None:
        """Sort imports and format, as the project has it. Raises `FeatureError`."""
        self._ruff(*SORT_IMPORTS, folder)
        self._ruff("format", folder)
        lines = [line for file in folder.iterdir() for line in file.read_bytes().splitlines()]
        if max(map(len, lines)) > MAX_LINE:
            raise FeatureError(f"{folder.name} is too long for lines of {MAX_LINE} characters.")

    def _tidied(self, before: bytes, after: bytes) -> bytes:
        """Sort the imports of `app.py`; format it if it was formatted before."""
        stdin = "--stdin-filename", self.app, "-"
        after = self._ruff(*SORT_IMPORTS, *stdin, source=after)
        is_formatted = self._ruff("format", *stdin, source=before) == before
        return self._ruff("format", *stdin, source=after) if is_formatted else after

    def _ruff(self, *command: str | Path, source: bytes = b"") -> bytes:
        """Run ruff. Return what it prints, or `source` if the project does without ruff."""
        ruff = shutil.which("ruff", path=Path(sys.executable).parent)
        if ruff is None:
            return source
        done = subprocess.run(  # noqa: S603 - the arguments are of this module
            [ruff, *command, "--quiet"],
            cwd=self.folder,
            input=source,
            capture_output=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else source


def _snake_case(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_0123456789")


def _replace(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that it is never half-written."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    new = Path(name)
    try:
        new.write_bytes(content)
        shutil.copymode(path, new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def report(project: Project, name: str, is_wired: bool) -> str:
    """Say what was written and what to do next."""
    package, tests, app = map(
        project.show, (project.package / name, project.tests / name, project.app)
    )
    if is_wired:
        wiring = f"and added {name}.routes to {app}. "
    else:
        wiring = f"""\
but found no place for the routes in {app}. Add them:

  from . import {name}
  *{name}.routes,

"""
    return f"""\
Wrote {package}/ and {tests}/, {wiring}Next:

  make dev     serve it: curl http://127.0.0.1:8000{path_of(name)}/tea
  make test    run all tests, with the new ones
"""


def main(arguments: list[str], package: Path = Path(__file__).parents[2]) -> int:
    """Write the feature whose name is the only argument, and return the exit code."""
    if len(arguments) != 1 or not arguments[0]:
        print(USAGE, file=sys.stderr)
        return EXIT_USAGE
    [name] = arguments
    project = Project(package)
    try:
        is_wired = project.add(name)
    except FeatureError as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED
    except OSError as error:
        print(f"cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_REFUSED
    print(report(project, name, is_wired), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
