"""The files of this checkout, without what was installed or generated in it."""

import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from .bakes import TEMPLATE


def names() -> list[str]:
    """List the files that are committed, or would be: their paths below the template."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.check_output(listing, cwd=TEMPLATE, encoding="utf-8").split("\0")
    return [name for name in found if (TEMPLATE / name).is_file()]


def copy_to(folder: Path, *patterns: str) -> None:
    """Copy the files, or those that match one of the patterns."""
    for name in names():
        if not patterns or any(fnmatch(name, pattern) for pattern in patterns):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, folder / name)
