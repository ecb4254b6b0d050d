"""Build the package and say in it which revision it is. ``pip install .`` calls it; flit builds.

The file REVISION of the package has the output of ``git describe``, for example
``v0.1.0-3-g1234567890ab-dirty``. It exists during a build only: in the work tree, where the code
changes with every save, it would soon be wrong. An image is built without git's folder, so the
Dockerfile sets the variable REVISION. An sdist contains the file.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flit_core import buildapi  # pyright: ignore[reportMissingImports]
from flit_core.buildapi import (  # pyright: ignore[reportMissingImports]
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PYPROJECT = Path("pyproject.toml")


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel that contains the revision. Return its name."""
    with revision_file():
        return str(buildapi.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: dict[str, object] | None = None) -> str:
    """Build an sdist that contains the revision. Return its name."""
    with revision_file():
        return str(buildapi.build_sdist(sdist_directory, config_settings))


@contextmanager
def revision_file() -> Iterator[None]:
    """Have the file in the package meanwhile, if the revision is known and can be written."""
    revision = os.environ.get("REVISION") or describe()
    if not revision:
        yield
        return
    flit = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["flit"]
    file = Path("src", flit["module"]["name"], "REVISION")
    try:
        file.write_text(f"{revision}\n", "utf-8")
    except OSError as error:
        print(f"The package will not say its revision: {error}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # another build in this folder may have done it


def describe() -> str:
    """Return the revision of the work tree; empty without git, or if git does not track it."""
    # Otherwise it would be that of a repository further up.
    is_tracked = git("ls-files", "--error-unmatch", str(PYPROJECT))
    return is_tracked and git("describe", "--always", "--dirty", "--tags", "--abbrev=12")


def git(*arguments: str) -> str:
    """Run git and return its output; empty if it fails, or is not there.

    Says so if git refuses, as it does in the folder of another user.
    """
    program = shutil.which("git")
    if not program:
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if "dubious ownership" in done.stderr:
        reason = done.stderr.splitlines()[0]
        print(f"The package will not say its revision: {reason}", file=sys.stderr)
    return "" if done.returncode else done.stdout.strip()
