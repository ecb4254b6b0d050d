"""Renews both constraints.txt, within the ranges of both pyproject.toml: `make lock`.

What a project installs depends on its answers. So its dependencies are resolved for several
projects, and each line gets the condition that holds for exactly those that need it.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter  # type: ignore[import-untyped]
from jinja2 import Environment

from tests.bakes import ALL_OFF, ALL_ON, choices

from . import ROOT

CONSTRAINTS = "constraints.txt"
TREE = ROOT / "{{cookiecutter.project_slug}}"
OLDEST_PYTHON = "3.11"

Answers = Mapping[str, Any]
Lines = dict[str, list[str]]
"""The lines of each distribution: several if its version depends on the platform or on Python."""

_NAME = re.compile(r"([a-z0-9][a-z0-9._-]*)==", re.IGNORECASE)
_BEGIN = re.compile(r"{% if (.+) %}")
_END = "{% endif %}"


class LockError(Exception):
    """The versions cannot be renewed. The message says what to do."""


def variations() -> list[Answers]:
    """Return the answers to resolve for: everything on first, then each other choice by itself."""
    others = [
        {**ALL_ON, question: choice}
        for question, possible in choices().items()
        for choice in possible
        if choice != ALL_ON.get(question)
    ]
    return [ALL_ON, *others, ALL_OFF]


def parse(lines: Iterable[str]) -> Lines:
    """Sort lines by the distributions that they are for; comments and Jinja are left out."""
    found: Lines = {}
    for line in lines:
        if match := _NAME.match(line):
            found.setdefault(match[1], []).append(line)
    return found


def comment(text: str) -> str:
    """Return the comment at the top of a file."""
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))


def conditions(text: str) -> dict[str, str]:
    """Return the condition of each distribution in the file of projects. Raises `LockError`."""
    found: dict[str, str] = {}
    condition = ""
    for line in text.splitlines():
        if match := _BEGIN.fullmatch(line):
            condition = match[1]
        elif line == _END:
            condition = ""
        elif match := _NAME.match(line):
            found[match[1]] = condition
        elif not line.startswith("#"):
            raise LockError(f"{CONSTRAINTS} of projects: cannot keep {line!r}.")
    return found


def renew_project(text: str, resolved: Sequence[tuple[Answers, Lines]]) -> str:
    """Return the new file of projects.

    Arguments:

    - `text`: the old one, with the conditions.
    - `resolved`: what projects with these answers install. All lines are taken from the first one
      that has them.

    Raises `LockError` if no condition fits something that has none yet.
    """
    old = conditions(text)
    holds = {
        condition: tuple(_is_met(condition, answers) for answers, _ in resolved)
        for condition in ["", *old.values()]
    }
    lines: Lines = {}
    for _, found in resolved:
        lines = found | lines
    new: dict[str, str] = {}
    for name in sorted(lines):
        needed = tuple(name in found for _, found in resolved)
        exact = [condition for condition, where in holds.items() if where == needed]
        # One that also holds elsewhere does no harm. It stays if it is there.
        is_covered = name in old and all(
            held or not need for held, need in zip(holds[old[name]], needed, strict=True)
        )
        if not exact and not is_covered:
            raise LockError(
                f"{CONSTRAINTS} of projects has no condition that fits {name}: add a line of it, "
                "below one that holds for the projects that need it."
            )
        new[name] = exact[0] if exact else old[name]
    return comment(text) + _written(lines, new)


def renew_template(text: str, resolved: Lines, of_projects: Lines) -> str:
    """Return the new file of the template, which has what is not in that of projects."""
    own = {name: lines for name, lines in resolved.items() if name not in of_projects}
    return comment(text) + _written(own, dict.fromkeys(own, ""))


def changes(before: Lines, after: Lines) -> list[str]:
    """Say what has changed, a line for each distribution."""

    def versions(lines: Lines, name: str) -> str:
        return ", ".join(line.partition("==")[2] for line in lines.get(name, [])) or "none"

    names = sorted(before.keys() | after.keys())
    pairs = [(name, versions(before, name), versions(after, name)) for name in names]
    return [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]


def main() -> int:
    """Renew both files, and print what has changed."""
    before = pinned()
    project = TREE / CONSTRAINTS
    try:
        resolved = _resolve_projects()
        of_projects = renew_project(project.read_text("utf-8"), resolved)
        resolved_here = _resolve(ROOT, "--all-extras", constraints=of_projects)
    except LockError as error:
        print(f"{error}\nNothing was changed.", file=sys.stderr)
        return 1
    template = ROOT / CONSTRAINTS
    in_projects = parse(of_projects.splitlines())
    own = renew_template(template.read_text("utf-8"), resolved_here, in_projects)
    project.write_text(of_projects, "utf-8", newline="\n")
    template.write_text(own, "utf-8", newline="\n")
    print(*changes(before, pinned()) or ["All versions are the newest already."], sep="\n")
    return 0


def pinned() -> Lines:
    """Return the lines of both files."""
    texts = [(folder / CONSTRAINTS).read_text("utf-8") for folder in (TREE, ROOT)]
    return parse("\n".join(texts).splitlines())


def _is_met(condition: str, answers: Answers) -> bool:
    environment = Environment(autoescape=False)
    return not condition or bool(environment.compile_expression(condition)(cookiecutter=answers))


def _written(lines: Lines, conditions: Mapping[str, str]) -> str:
    written = []
    for condition, names in groupby(sorted(lines), conditions.__getitem__):
        block = [line for name in names for line in lines[name]]
        written += [f"{{% if {condition} %}}", *block, _END] if condition else block
    return "".join(f"{line}\n" for line in written)


def _resolve_projects() -> list[tuple[Answers, Lines]]:
    found: dict[str, Lines] = {}
    resolved = []
    with tempfile.TemporaryDirectory() as folder:
        for number, answers in enumerate(variations()):
            project = Path(
                cookiecutter(
                    str(ROOT),
                    no_input=True,
                    default_config=True,
                    extra_context={**answers},
                    output_dir=str(Path(folder, str(number))),
                    accept_hooks=False,  # they print what to do next
                )
            )
            data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
            groups = data["dependency-groups"]
            wanted = f"{data['project']['dependencies']} {groups}"
            if wanted not in found:
                found[wanted] = _resolve(project, *(f"--group={group}" for group in groups))
            resolved.append((answers, found[wanted]))
    return resolved


def _resolve(folder: Path, *options: str, constraints: str = "") -> Lines:
    """Return the newest versions that a pyproject.toml allows. Raises `LockError`."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, CONSTRAINTS)
        plain = [line for line in constraints.splitlines() if "{" not in line]
        path.write_text("\n".join(plain), "utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *options]
        command += ["--quiet", "--universal", "--no-annotate", "--no-header"]
        command += [f"--python-version={OLDEST_PYTHON}", f"--constraint={path}"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=False
        )
    if done.returncode:
        raise LockError(f"uv cannot resolve the dependencies of {folder}.")
    return parse(done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
