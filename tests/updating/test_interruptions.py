"""An update that is killed leaves the project's branch as it was. The next one tells what to do."""

import os
from pathlib import Path

import pytest

from ..tools import needs
from . import repositories as repo

KILLING = Path(__file__).with_name("killing")

IN_PROJECT = 4
"""The last calls of git change the project, and those before look at it or change a copy."""

PLACES = 20


def update_killed_at(call: int, small: Path, project: Path) -> int:
    """Update a project, and kill that at a call of git; 0: at none. Returns how many there were."""
    calls = project.with_name("calls")
    calls.write_text("0")
    variables = {
        "PATH": f"{KILLING}{os.pathsep}{os.environ['PATH']}",
        "REAL_GIT": needs("git"),
        "CALLS": str(calls),
        "KILL_AT": str(call),
    }
    done = repo.update(small, project, **variables)
    assert done.code == (-9 if call else 0), done.output
    return int(calls.read_text())


def recover(small: Path, project: Path) -> list[str]:
    """Update a project again, and do what that tells until it succeeds. Returns what was told."""
    typed: list[str] = []
    while (done := repo.update(small, project)).code:
        assert "Traceback" not in done.output
        commands = repo.last_told(done)
        assert commands not in typed, done.output
        typed += commands
        repo.follow(project, commands)
    return [command.strip() for command in typed]


@pytest.fixture(scope="session")
def number_of_calls(once: repo.Once, small: Path, small_project: Path) -> int:
    """How often an update calls git."""

    def count(folder: Path) -> None:
        repo.git(folder.parent, "clone", "--quiet", str(small_project), str(folder))
        update_killed_at(0, small, folder)
        folder.with_name("calls").rename(folder / "calls")

    return int((once("number-of-calls", count) / "calls").read_text())


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[] if place == 0 else pytest.mark.exhaustive)
        for place in range(PLACES)
    ],
)
def test_killed_update_is_taken_up_again(
    small: Path, project: Path, number_of_calls: int, place: int
) -> None:
    # From the last call to the first.
    distance = place if place < IN_PROJECT else place * number_of_calls // PLACES
    main, before = repo.git(project, "rev-parse", "main"), repo.files(project)
    update_killed_at(number_of_calls - distance, small, project)
    assert repo.git(project, "rev-parse", "main") == main
    assert repo.files(project) == before
    typed = recover(small, project)
    assert typed == (["git switch -"] if place == 0 else [])
    assert (project / "deploy/newer.md").exists()
    assert repo.git(project, "rev-parse", "main", "HEAD~") == f"{main}\n{main}"


def test_git_that_is_killed_while_it_writes_leaves_no_mystery(small: Path, project: Path) -> None:
    main = repo.git(project, "rev-parse", "main")
    repo.git(project, "config", "filter.killing.smudge", str(KILLING / "smudge"))
    attributes = project / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("README.md filter=killing\n")
    done = repo.update(small, project)
    assert done.code == -9, done.output
    attributes.unlink()
    assert repo.git(project, "rev-parse", "main") == main
    assert repo.git(project, "status", "--porcelain") != ""
    typed = recover(small, project)
    assert [command.partition(" ")[0] for command in typed] == ["rm", "git"]
    assert (project / "deploy/newer.md").exists()
    assert repo.git(project, "rev-parse", "main", "HEAD~") == f"{main}\n{main}"
