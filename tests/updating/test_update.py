"""A team's project follows the template, and nothing that the team has made is lost."""

from pathlib import Path

import pytest

from ..bakes import ALL_OFF, ALL_ON, AWKWARD, Answers, every_value, label, matrix
from ..running.environments import install, locked, succeed
from . import repositories as repo
from . import team

EVERYTHING = {**ALL_ON, **AWKWARD}
SETS = [EVERYTHING, ALL_OFF, *every_value()]
SETS += [answers for answers in matrix() if answers not in SETS][: 12 - len(SETS)]


def old_project(template: Path, folder: Path, answers: Answers) -> Path:
    """Make a project of the old version of the template, as its first commit."""
    name = answers.get("project_slug", "tornado-service")
    project = repo.bake(template, f"v{repo.VERSION}~", folder / name, answers)
    repo.begin(project)
    return project


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
    assert repo.git(project, "status", "--porcelain") == ""
    check_nothing_lost(project, generated, edited)
    return project


def conflicts(done: repo.Done) -> list[str]:
    """List the files that an update has named as conflicts."""
    word = "  CONFLICT  "
    return [line.removeprefix(word) for line in done.output.split("\n") if line.startswith(word)]


def check_nothing_lost(project: Path, generated: str, edited: str) -> None:
    """Check that a project still has all that its team has done between two commits."""
    for name, lines in team.lines_of(project, generated, edited).items():
        present = (project / name).read_text("utf-8").split("\n")
        assert set(lines) <= set(present), name
    for name in team.deleted_by(project, generated, edited):
        assert not (project / name).exists(), name
    # A merge must not bring back what was deleted inside a file.
    assert "Echo" not in next(project.glob("src/*/app.py")).read_text()


def check_all_arrived(
    template: Path, project: Path, folder: Path, edited: set[str], answers: Answers
) -> None:
    """Check that the files that nobody has edited are as in a project of the newest version."""
    fresh = repo.bake(template, f"v{repo.VERSION}", folder, answers)
    repo.git(fresh, "init", "--quiet")
    wanted, found = repo.files(fresh), repo.files(project)
    address = repo.ADDRESS.encode(), b"gh:org/tornado-template"
    kind, content = found[repo.ANSWERS_FILE]
    found[repo.ANSWERS_FILE] = kind, content.replace(*address)
    for name in edited:
        wanted.pop(name, None)
        found.pop(name, None)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(answers, id=label(answers), marks=pytest.mark.exhaustive if number > 1 else [])
        for number, answers in enumerate(SETS)
    ],
)
def test_old_project_follows_and_keeps_every_edit(
    template: Path, shared: Path, tmp_path: Path, answers: Answers
) -> None:
    project = old_project(template, tmp_path, answers)
    generated = repo.git(project, "rev-parse", "HEAD")
    update_old(template, project, answers)
    own = repo.git(project, "diff", "--name-only", "--no-renames", generated, "main").split("\n")
    edited = {*own} - {repo.ANSWERS_FILE}
    check_all_arrived(template, project, tmp_path / "fresh", edited, answers)
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
