"""What stops an update. Nothing is changed then, and the message tells what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from . import repositories as repo

ANSWERS = repo.ANSWERS_FILE


def modify(project: Path) -> None:
    repo.append(project / "README.md", "More.\n")


def stage(project: Path) -> None:
    repo.append(project / "README.md", "More.\n")
    repo.git(project, "add", "README.md")


def add_file(project: Path) -> None:
    (project / "new").write_text("")


def leave_git(project: Path) -> None:
    (project / ".git").rename(project.parent / "git")


def start_repository(project: Path) -> None:
    leave_git(project)
    repo.git(project, "init", "--quiet")


def lose_answers(project: Path) -> None:
    (project / ANSWERS).unlink()
    repo.commit(project)


def break_answers(project: Path) -> None:
    repo.append(project / ANSWERS, "nginx\n")
    repo.commit(project)


def lose_names(project: Path) -> None:
    (project / ANSWERS).write_text('template = "gh:org/tornado-template"\n')
    repo.commit(project)


def misname_package(project: Path) -> None:
    repo.replace(project / ANSWERS, 'package_name = "tornado_service"', 'package_name = "orders"')
    repo.commit(project)


def misspell_question(project: Path) -> None:
    repo.replace(project / ANSWERS, "metrics = true", "metric = true")
    repo.commit(project)


def misstate_version(project: Path) -> None:
    repo.replace(project / ANSWERS, f'version = "{repo.VERSION}"', 'version = "1234567"')
    repo.commit(project)


def ignore_file_in_the_way(project: Path) -> None:
    (project / ".gitignore").write_text("deploy/newer.md\n")
    repo.commit(project)
    (project / "deploy/newer.md").write_text("Ours.\n")


def edit_runtime(project: Path) -> None:
    repo.append(project / "src/tornado_service/runtime/cpus.py", "OURS = True\n")
    (project / "src/tornado_service/runtime/own.py").write_text("")
    repo.commit(project)


def leave_branch(project: Path) -> None:
    repo.git(project, "switch", "--quiet", "--create", f"tornado-template-{repo.NEXT_VERSION}")
    repo.git(project, "commit", "--quiet", "--allow-empty", "--message=Half of it")
    repo.git(project, "switch", "--quiet", "main")


def stay_on_branch(project: Path) -> None:
    repo.git(project, "switch", "--quiet", "--create", f"tornado-template-{repo.NEXT_VERSION}")


def lock(project: Path) -> None:
    (project / ".git/index.lock").write_text("")


def nothing(project: Path) -> None:
    pass


REFUSALS: list[tuple[Callable[[Path], None], dict[str, str], tuple[str, ...]]] = [
    (modify, {}, ("not committed:\n M README.md\n", "git stash --include-untracked")),
    (stage, {}, ("not committed:\nM  README.md\n",)),
    (add_file, {}, ("not committed:\n?? new\n",)),
    (leave_git, {}, ("git init && git add . && git commit",)),
    (start_repository, {}, ("git init && git add . && git commit",)),
    (lose_answers, {}, (f"There is no {ANSWERS}", "[answers]\n  project_name =")),
    (break_answers, {}, (f"{ANSWERS} cannot be read: ", "line ")),
    (lose_names, {}, (f"{ANSWERS} has no [answers] with a project_name and a package_name.",)),
    (misname_package, {}, ("There is no src/orders/runtime/SHA256SUMS here.", "package_name")),
    (misspell_question, {}, (f"{ANSWERS} answers metric, but", "metrics, tracing")),
    (misstate_version, {}, ("The template has no version '1234567'.",)),
    (ignore_file_in_the_way, {}, ("git ignores them. Move them: deploy/newer.md",)),
    (
        edit_runtime,
        {},
        (
            "  src/tornado_service/runtime/cpus.py\n  src/tornado_service/runtime/own.py\n",
            "make update RUNTIME=replace",
            "make update RUNTIME=merge",
        ),
    ),
    (leave_branch, {}, ("There is a branch tornado-template-99.0.0 already.",)),
    (stay_on_branch, {}, ("git switch -",)),
    (lock, {}, ("was killed", "rm ", ".git/index.lock")),
    (nothing, {"PROJECT": ""}, ("make update PROJECT=../orders",)),
    (nothing, {"PROJECT": "/nowhere"}, ("make update PROJECT=../orders",)),
    (nothing, {"RUNTIME": "keep"}, ("RUNTIME is replace or merge, not 'keep'.",)),
    (nothing, {"VERSION": "1.2.3"}, ("The template has no version '1.2.3'.",)),
    (nothing, {"VERSION": "--help"}, ("The template has no version '--help'.",)),
    (nothing, {"ANSWERS": "metrics"}, ("key=value key=value, but 'metrics' has no '='.",)),
    (nothing, {"ANSWERS": "description='x"}, ("ANSWERS cannot be read: No closing quotation.",)),
    (nothing, {"ANSWERS": "metric=no"}, ("There is no question 'metric'.", "metrics, tracing")),
    (nothing, {"ANSWERS": "_version=3"}, ("There is no question '_version'.",)),
    (nothing, {"ANSWERS": "metrics=maybe"}, ("metrics is true or false, not 'maybe'.",)),
    (nothing, {"ANSWERS": "deploy=heroku"}, ("deploy is one of systemd, docker,", "'heroku'")),
    (nothing, {"ANSWERS": "workers=99"}, ("workers must be a whole number from 1 to 64",)),
    (nothing, {"ANSWERS": "project_slug=orders"}, ("project_slug is a part of your own files",)),
    (nothing, {"ANSWERS": "package_name=orders"}, ("package_name is a part of your own files",)),
    (nothing, {"GIT_CONFIG_GLOBAL": os.devnull, "EMAIL": ""}, ("git config user.name",)),
]


@pytest.mark.parametrize(
    ("prepare", "variables", "words"),
    [
        pytest.param(*refusal, id=" ".join([refusal[0].__name__, *refusal[1].values()]))
        for refusal in REFUSALS
    ],
)
def test_refused_update_changes_nothing(
    small: Path,
    project: Path,
    prepare: Callable[[Path], None],
    variables: dict[str, str],
    words: tuple[str, ...],
) -> None:
    if "GIT_CONFIG_GLOBAL" in variables:
        repo.git(project, "config", "user.useConfigOnly", "true")
    prepare(project)
    before = repo.snapshot(project)
    done = repo.update(small, project, **variables)
    assert done.code == 1, done.output
    assert "Traceback" not in done.output
    for word in words:
        assert word in done.output
    assert repo.snapshot(project) == before


def refuse_commits(project: Path) -> None:
    hook = project / ".git/hooks/prepare-commit-msg"
    hook.write_text("#!/bin/sh\necho 'No commits on Fridays.' >&2\nexit 1\n")
    hook.chmod(0o755)
    repo.git(project, "config", "core.hooksPath", str(hook.parent))


def refuse_signatures(project: Path) -> None:
    repo.git(project, "config", "commit.gpgSign", "true")
    repo.git(project, "config", "gpg.program", "false")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (refuse_commits, "No commits on Fridays."),
        pytest.param(refuse_signatures, "failed to sign", marks=pytest.mark.exhaustive),
    ],
)
def test_update_that_cannot_be_committed_changes_nothing(
    small: Path,
    project: Path,
    tmp_path: Path,
    prepare: Callable[[Path], None],
    words: str,
) -> None:
    # In the configuration of the user, which counts in a copy of the project as well.
    prepare(project)
    (project / ".git/config").rename(tmp_path / "own")
    user = Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text()
    repo.git(project, "init", "--quiet")
    (tmp_path / "own").write_text(f"{user}{(tmp_path / 'own').read_text()}")
    variables = {"GIT_CONFIG_GLOBAL": str(tmp_path / "own")}
    before, head = repo.files(project), repo.git(project, "rev-parse", "HEAD")
    shown = repo.update(small, project, DRY_RUN="1", **variables)
    assert shown.code == 0, shown.output
    done = repo.update(small, project, **variables)
    assert done.code == 1
    assert words in done.output
    assert repo.git(project, "status", "--porcelain", "--branch") == "## main"
    assert repo.git(project, "branch", "--list") == "* main"
    assert (repo.files(project), repo.git(project, "rev-parse", "HEAD")) == (before, head)
