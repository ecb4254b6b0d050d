"""What a team has made of a project that the old template generated, and must have afterwards."""

import re
import shutil
from pathlib import Path

from ..bakes import ALL_OFF, ALL_ON, AWKWARD, Answers, every_value, label, matrix
from . import repositories as repo
from .repositories import append, commit, git, replace

SETS: dict[str, Answers] = {
    "everything": {**ALL_ON, **AWKWARD},
    "nothing": ALL_OFF,
    **{f"mix-{number}": answers for number, answers in enumerate(every_value())},
}
SETS |= {label(answers): answers for answers in matrix()[-6:]}
"""Twelve sets of answers, by name."""

FEATURE = Path(__file__).with_name("feature")

README = """
## Our team

We release on Mondays.
"""
TARGET = """
.PHONY: release
release: check test ## release it
	@git push origin main
"""
GITHUB_JOB = """\
  release:
    name: Release
    runs-on: ubuntu-24.04
    permissions: {}
    steps:
      - run: echo released
"""
GITLAB_JOB = """
release:
  script:
    - echo released
"""


def old_project(template: Path, folder: Path, answers: Answers) -> Path:
    """Make a project of the old version of the template, as its first commit."""
    name = answers.get("project_slug", "tornado-service")
    project = repo.bake(template, f"v{repo.VERSION}~", folder / name, answers)
    repo.begin(project)
    return project


def edit(project: Path) -> str:
    """Change a project in all the ways in which teams do, and commit it. Returns the commit."""
    [package] = [path.parent for path in (project / "src").glob("*/app.py")]
    add_feature(project, package)
    delete_sample(project, package)
    append(package / "settings.py", '    currency: str = "EUR"\n')
    append(project / ".env.example", "\n# Of our prices.\n# APP_CURRENCY=EUR\n")
    append(project / "deploy/production.env", "\nAPP_THREADS=16\n")
    readme = project / "README.md"
    replace(readme, "readable logs and restarts on every change.", "the logs that we like.")
    append(readme, README)
    makefile = project / "Makefile"
    replace(makefile, "list the targets\n", "list our targets\n")
    append(makefile, TARGET)
    for nginx in (project / "deploy/nginx").glob(f"{project.name}.conf"):
        replace(nginx, "rate=100r/s", "rate=50r/s")
    for workflow in (project / ".github/workflows").glob("ci.yml"):
        append(workflow, GITHUB_JOB)
    for workflow in project.glob(".gitlab-ci.yml"):
        append(workflow, GITLAB_JOB)
    return commit(project, "Make it ours")


def add_feature(project: Path, package: Path) -> None:
    """Add a handler and its test."""
    for part, place in (("src/tornado_service", package), ("tests", project / "tests")):
        shutil.copytree(FEATURE / part, place, dirs_exist_ok=True)
    test = project / "tests/orders/test_handlers.py"
    replace(test, "tornado_service", package.name)
    app = package / "app.py"
    replace(app, "from .runtime", "from .orders.handlers import Orders\nfrom .runtime")
    replace(app, 'Route("/echo"', 'Route("/orders", Orders),\n            Route("/echo"')


def delete_sample(project: Path, package: Path) -> None:
    """Delete the sample WebSocket."""
    (package / "echo.py").unlink()
    (project / "tests/test_echo.py").unlink()
    replace(package / "app.py", "from .echo import Echo\n", "")
    replace(package / "app.py", '            Route("/echo", Echo),\n', "")


def lines_of(project: Path, before: str, after: str) -> dict[str, list[str]]:
    """Return the lines that a team has added between two commits, by file."""
    found: dict[str, list[str]] = {}
    difference = git(project, "diff", "--unified=0", "--no-renames", before, after)
    for part in re.split(r"^diff --git ", difference, flags=re.M)[1:]:
        name = re.search(r"^\+\+\+ b/(.*)$", part, re.M)
        if name:
            found[name[1]] = re.findall(r"^\+(?!\+\+ b/)(.+)$", part, re.M)
    return found


def deleted_by(project: Path, before: str, after: str) -> list[str]:
    """List the files that a team has deleted between two commits."""
    options = ("--name-only", "--no-renames", "--diff-filter=D")
    return git(project, "diff", *options, before, after).split("\n")


def check_nothing_lost(project: Path, generated: str, edited: str) -> None:
    """Check that a project still has all that its team has done between two commits."""
    for name, lines in lines_of(project, generated, edited).items():
        present = (project / name).read_text("utf-8").split("\n")
        assert set(lines) <= set(present), name
    for name in deleted_by(project, generated, edited):
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
    address = repo.ADDRESS.encode(), b""
    kind, content = found[repo.ANSWERS_FILE]
    found[repo.ANSWERS_FILE] = kind, content.replace(*address)
    for name in edited:
        wanted.pop(name, None)
        found.pop(name, None)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []
