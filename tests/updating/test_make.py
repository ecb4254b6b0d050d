"""`make update` as a team types it: in a project, with a clone and an installation of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from ..tools import PLACES, needs, without
from . import repositories as repo

# Whatever wants to go through a proxy is refused.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_NETWORK = dict.fromkeys((*PROXIES, *map(str.lower, PROXIES)), "http://127.0.0.1:1")
NO_NETWORK |= {"NO_PROXY": "", "no_proxy": ""}


def make(project: Path, *arguments: str, **environment: str) -> repo.Done:
    """Run make in a project. It exits with 2 for every failure."""
    return repo.run(project, "make", *arguments, **{"PATH": PLACES, **environment})


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(PLACES, id="uv"),
        pytest.param(without("uv", PLACES), id="pip", marks=pytest.mark.exhaustive),
    ],
)
def test_make_update(newer: Path, project_of_newer: Path, tmp_path: Path, path: str) -> None:
    needs("uv")
    project = tmp_path / "ada's service"
    repo.git(tmp_path, "clone", "--quiet", str(project_of_newer), str(project))
    repo.append(project / "README.md", "\n## Ours\n")
    main = repo.commit(project)
    (tmp_path / "template").symlink_to(newer)
    source = "SOURCE=../template"
    shown = make(project, "update", source, "DRY_RUN=1", PATH=path)
    assert shown.code == 0, shown.output
    assert "Fetching the template from ../template ...\n" in shown.output
    assert repo.git(project, "rev-parse", "HEAD") == main
    # What it needs is here now.
    answers = """ANSWERS=description='Tea "&" cakes' workers=8"""
    done = make(project, "update", source, answers, "VERSION=v99.0.0", PATH=path, **NO_NETWORK)
    assert done.code == 0, done.output
    assert "Update tornado-template from" in done.output
    text = (project / repo.ANSWERS_FILE).read_text()
    assert 'description = "Tea \\"&\\" cakes"\n' in text
    assert 'workers = "8"\n' in text
    assert (project / "README.md").read_text().endswith("\n## Ours\n")
    assert repo.git(project, "status", "--porcelain", "--ignored") == "!! .venv/"
    again = make(project, "update", source, PATH=path, **NO_NETWORK)
    assert again.code == 0, again.output
    assert "Nothing to do" in again.output
    refused = make(project, "update", source, "VERSION=1.2.3", PATH=path)
    assert refused.code == 2
    assert "The template has no version '1.2.3'.\n" in refused.output


@pytest.fixture(scope="session")
def project_of_newer(once: repo.Once, newer: Path) -> Path:
    """A project with the default answers and of the release before the newest."""

    def make(folder: Path) -> None:
        repo.begin(repo.bake(newer, f"v{repo.VERSION}", folder, {}))

    return once("project-of-newer", make)


def test_old_project_is_updated_from_a_clone(template: Path, tmp_path: Path) -> None:
    # Its own Makefile has no such target.
    project = tmp_path / "tornado-service"
    repo.begin(repo.bake(template, f"v{repo.VERSION}~", project, {}))
    clone = tmp_path / "tornado-template"
    repo.git(tmp_path, "clone", "--quiet", str(template), str(clone))
    update = ("-C", str(clone), "update", f"PROJECT={project}")
    refused = make(tmp_path, *update)
    assert refused.code == 2
    assert f"There is no {repo.ANSWERS_FILE}" in refused.output
    repo.write_answers(project, {})
    repo.commit(project)
    done = make(tmp_path, *update)
    assert done.code == 0, done.output
    repo.git(project, "switch", "--quiet", "main")
    repo.git(project, "merge", "--quiet", "-")
    assert f'template = "{repo.ADDRESS}"\n' in (project / repo.ANSWERS_FILE).read_text()
    listed = make(project, "help")
    assert "make update" in listed.output


@pytest.mark.exhaustive
def test_credentials_of_a_source_are_kept_nowhere(
    newer: Path, project_of_newer: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    repo.git(tmp_path, "clone", "--quiet", str(project_of_newer), str(project))
    # git asks a server for the one, and gets the other: the template, from this machine.
    address = "https://ada:secret@git.example.com/template"
    config = tmp_path / "gitconfig"
    config.write_text(
        Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text()
        + f'[url "{newer}"]\n insteadOf = {address}\n'
    )
    done = make(project, "update", f"SOURCE={address}", GIT_CONFIG_GLOBAL=str(config))
    assert done.code == 0, done.output
    assert "Fetching the template from https://git.example.com/template ...\n" in done.output
    assert "secret" not in done.output
    found = subprocess.run(
        ["git", "grep", "--quiet", "secret", "HEAD", "--", repo.ANSWERS_FILE],
        cwd=project,
        check=False,
    )
    assert found.returncode == 1
    assert "secret" not in (project / ".venv/template/.git/config").read_text()
    assert "secret" not in repo.git(project, "log", "--format=%B")
