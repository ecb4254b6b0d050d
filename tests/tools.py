"""Tools that tests need and a machine may lack."""

import os
import shutil
import sys
from pathlib import Path

import pytest

# The tools of the environment that runs the tests come first, even if nobody activated it.
PLACES = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
)

# What only root may do.
AS_ROOT = [] if not hasattr(os, "geteuid") or os.geteuid() == 0 else ["sudo", "--non-interactive"]


def needs(tool: str) -> str:
    """Find a tool. A test that misses one fails in CI, and says so and is skipped elsewhere."""
    found = shutil.which(tool, path=PLACES)
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{tool} is not installed")
    pytest.skip(f"{tool} is not installed")


def without(tool: str, path: str) -> str:
    """Leave the folders out of a PATH that hold a tool."""
    return os.pathsep.join(
        folder for folder in path.split(os.pathsep) if not (Path(folder) / tool).exists()
    )
