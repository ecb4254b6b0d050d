"""A service in the layout of a generated project, with two workers and metrics of its own."""

import shutil
from pathlib import Path

import runtime

from .. import apps


def copy_brewery(folder: Path) -> Path:
    """Copy the package `brewery`, and the runtime into it. Return its folder."""
    package = shutil.copytree(Path(apps.__file__).with_name("brewery"), folder / "brewery")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(runtime.__file__).parent, package / "runtime", ignore=ignored)
    return package
