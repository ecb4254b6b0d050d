"""Which version a project has, and which one is the newest."""

import shutil
from pathlib import Path

import pytest

from updating.errors import UpdateError
from updating.template import RUNTIME, Template

from . import repositories as repo


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A clone of a template with three commits: a release, a later commit, and an empty runtime."""
    origin = tmp_path / "origin"
    (origin / RUNTIME).mkdir(parents=True)
    (origin / RUNTIME / "SHA256SUMS").write_text("1")
    repo.begin(origin)
    repo.git(origin, "tag", "v0.9.0")
    repo.git(origin, "tag", "not-v1.0.0")
    (origin / "CHANGELOG.md").write_text("")
    repo.commit(origin)
    repo.git(origin, "branch", "other")
    (origin / RUNTIME / "SHA256SUMS").write_text("2")
    repo.commit(origin)
    repo.git(tmp_path, "clone", "--quiet", str(origin), "clone")
    return tmp_path / "clone"


def sums(folder: Path, commit: str) -> str:
    return repo.git(folder, "rev-parse", f"{commit}:{RUNTIME}/SHA256SUMS")


def test_newest_version_is_the_highest_release(history: Path, tmp_path: Path) -> None:
    template = Template(history, tmp_path)
    assert template.newest().name == "0.9.0"
    repo.git(history, "tag", "v0.10.0")
    repo.git(history, "tag", "v0.11.0-rc.1", "HEAD~")
    assert template.newest() == template.version("0.10.0")


def test_newest_version_without_releases_is_the_newest_commit(
    history: Path, tmp_path: Path
) -> None:
    repo.git(history, "tag", "--delete", "v0.9.0", "not-v1.0.0")
    newest = Template(history, tmp_path).newest()
    assert newest.commit == repo.git(history, "rev-parse", "HEAD")
    assert newest.commit.startswith(newest.name)


def test_versions_have_many_names(history: Path, tmp_path: Path) -> None:
    template = Template(history, tmp_path)
    release = repo.git(history, "rev-parse", "v0.9.0")
    for name in ("0.9.0", "v0.9.0", "not-v1.0.0", release, release[:8]):
        assert template.version(name).commit == release
    for name in ("other", "HEAD~", template.version("other").name):
        assert template.version(name).commit == repo.git(history, "rev-parse", "HEAD~")
    for name in ("", "0.1.0", "-x", "v0.9.0:CHANGELOG.md", "a b"):
        with pytest.raises(UpdateError, match="has no version"):
            template.version(name)


def test_runtime_leads_to_the_versions_that_have_it(history: Path, tmp_path: Path) -> None:
    template = Template(history, tmp_path)
    first = template.with_runtime(sums(history, "HEAD~"))
    assert [version.name.partition("-g")[0] for version in first] == ["0.9.0", "0.9.0-1"]
    [last] = template.with_runtime(sums(history, "HEAD"))
    assert last.commit == repo.git(history, "rev-parse", "HEAD")
    assert template.with_runtime("") == []


def test_only_accepted_versions_are_generated(history: Path, tmp_path: Path) -> None:
    # Generating one runs its hooks.
    repo.git(history, "switch", "--quiet", "--create", "contribution")
    (history / "hooks.py").write_text("")
    repo.commit(history)
    repo.git(history, "switch", "--quiet", "-")
    repo.git(history, "tag", "nightly", "contribution")
    found = Template(history, tmp_path).with_runtime(sums(history, "HEAD"))
    assert [version.commit for version in found] == [repo.git(history, "rev-parse", "HEAD")]


def test_project_of_a_later_commit_is_recognized(small: Path, tmp_path: Path) -> None:
    # cookiecutter takes the newest commit, which may be later than the release that it names.
    template, project = tmp_path / "template", tmp_path / "project"
    shutil.copytree(small, template)
    readme = template / repo.PROJECT / "README.md"
    repo.append(readme, "\nAfter the release.\n")
    repo.commit(template)
    repo.begin(repo.bake(template, "HEAD", project, {}))
    done = repo.update(template, project)
    assert done.code == 0
    assert "Nothing to do: " in done.output
    # Another commit and the next release: only what is new since then is merged.
    repo.replace(readme, "\nAfter the release.\n", "\nLong after the release.\n")
    repo.commit(template)
    repo.git(template, "tag", "v99.1.0")
    done = repo.update(template, project)
    assert done.code == 0, done.output
    assert "\nLong after the release.\n" in (project / "README.md").read_text()
    assert "Update tornado-template from 99.0.0-1-g" in done.output


@pytest.mark.exhaustive
def test_version_before_updates_is_refused(template: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    repo.begin(repo.bake(template, f"v{repo.VERSION}", project, {}))
    done = repo.update(template, project, VERSION="v0.1.0~")
    assert done.code == 1
    assert "is older than updates" in done.output
    assert repo.git(project, "branch", "--list") == "* main"
