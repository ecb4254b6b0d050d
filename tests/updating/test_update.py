"""A team's project follows the template, and nothing that the team has made is lost."""

from pathlib import Path

import pytest

from ..bakes import Answers
from ..locks import locked
from ..running.environments import install, succeed
from . import repositories as repo
from . import team


def update_old(template: Path, project: Path, answers: Answers) -> Path:
    """Update a project of a team to the newest version in the way of projects without updates."""
    generated = repo.git(project, "rev-parse", "HEAD")
    edited = team.edit(project)
    repo.write_answers(project, answers)
    before = repo.commit(project, "Tell where this project comes from")
    done = repo.update(template, project)
    assert done.code in (0, 2), done.output
    assert repo.git(project, "rev-parse", "main") == before
    if done.code == 2:
        assert repo.resolve(project) == conflicts(done)
        repo.follow(project, repo.told(done, "Correct them, then:"))
    assert repo.git(project, "status", "--porcelain") == ""
    team.check_nothing_lost(project, generated, edited)
    return project


def conflicts(done: repo.Done) -> list[str]:
    """List the files that an update has named as conflicts."""
    word = "  CONFLICT  "
    return [line.removeprefix(word) for line in done.output.split("\n") if line.startswith(word)]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(answers, id=name, marks=[] if name == "everything" else pytest.mark.exhaustive)
        for name, answers in team.SETS.items()
    ],
)
def test_old_project_follows_and_keeps_every_edit(
    template: Path, shared: Path, tmp_path: Path, answers: Answers
) -> None:
    project = team.old_project(template, tmp_path, answers)
    generated = repo.git(project, "rev-parse", "HEAD")
    update_old(template, project, answers)
    own = repo.git(project, "diff", "--name-only", "--no-renames", generated, "main").split("\n")
    edited = {*own} - {repo.ANSWERS_FILE}
    team.check_all_arrived(template, project, tmp_path / "fresh", edited, answers)
    repo.git(project, "switch", "--quiet", "main")
    repo.git(project, "merge", "--quiet", "-")
    merged = repo.snapshot(project)
    done = repo.update(template, project)
    assert (done.code, repo.snapshot(project)) == (0, merged)
    assert "Nothing to do" in done.output
    check_project(project, shared)


def check_project(project: Path, shared: Path) -> None:
    """Run the checks and tests that a project has."""
    python = install(project, shared)
    cache = shared / "mypy"
    with locked(cache):
        succeed(project, python, "mypy", f"--cache-dir={cache}")
    for module, *arguments in (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("importlinter.cli", "--no-cache"),
        ("pytest", "--quiet", "--cov", "--cov-report=term"),
    ):
        succeed(project, python, module, *arguments)
