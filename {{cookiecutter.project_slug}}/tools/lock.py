"""Renew the versions in constraints.txt, within the ranges of pyproject.toml, by ``make lock``.

uv chooses them, for all systems and versions of Python. Where pip installs, uv asks the indexes
that pip asks.
"""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

TOOLS = Path(sys.prefix, "tools")
"""Where ``make`` installs uv."""
CONSTRAINTS = Path("constraints.txt")
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
}
"""The settings of pip for indexes: the variable of uv for each, and what separates its values."""


def indexes_of_pip() -> dict[str, str]:
    """Return the variables with which uv asks the indexes that pip is configured for."""
    settings = subprocess.check_output(
        [sys.executable, "-m", "pip", "config", "list"],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        text=True,
    )
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip does it
    # Such as "global.index-url='https://...'". Of several the first one counts.
    for line in reversed(settings.splitlines()):
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in VARIABLES:
            variable, separator = VARIABLES[setting]
            found[variable] = separator.join(ast.literal_eval(value).split())
    return found


def resolve() -> str:
    """Return the newest versions, one in each line. Exits if there are none."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    groups = [option for name in pyproject["dependency-groups"] for option in ("--group", name)]
    oldest = pyproject["project"]["requires-python"].removeprefix(">=")
    uv = [str(TOOLS / "bin" / "uv"), "pip", "compile", "pyproject.toml", *groups]
    form = ["--universal", "--python-version", oldest, "--no-annotate", "--no-header", "--quiet"]
    indexes = {} if shutil.which("uv") else indexes_of_pip()
    done = subprocess.run(
        [*uv, *form], env={**indexes, **os.environ}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    """Write the file anew, but for the comment at its top."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    comment = takewhile(lambda line: line.startswith("#"), lines)
    versions = (line for line in resolve().splitlines() if not line.startswith("#"))
    CONSTRAINTS.write_text("".join(f"{line}\n" for line in [*comment, *versions]), "utf-8")


if __name__ == "__main__":
    main()
