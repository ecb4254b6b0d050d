"""What the tests of updates share: the template's repositories, and git's configuration."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..locks import locked
from . import repositories as repo

collect_ignore = ["feature"]  # tests of a project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that the processes that run these tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session", autouse=True)
def git_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's configuration of git, in place of the one of this machine."""
    file = tmp_path_factory.mktemp("git") / "config"
    file.write_text("[user]\n name = Ada Lovelace\n email = ada@example.com\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(file))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield file


@pytest.fixture(scope="session")
def once(shared: Path) -> repo.Once:
    """Makes a folder once for all processes that run these tests."""

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / "updating" / name
        folder.parent.mkdir(exist_ok=True)
        with locked(folder):
            if not folder.exists():
                unfinished = folder.with_name(f"{name}.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return once


@pytest.fixture(scope="session")
def template(once: repo.Once) -> Path:
    """A repository with an old version of the template, and this one, which is a release."""
    return once("template", repo.make_template)


@pytest.fixture(scope="session")
def newer(once: repo.Once, template: Path) -> Path:
    """A clone of the template with a later release."""
    return once("newer", lambda folder: repo.make_newer_template(template, folder))


@pytest.fixture(scope="session")
def small(once: repo.Once) -> Path:
    """A template with two releases and few files, for tests that do not depend on these."""
    return once("small", repo.make_small_template)


@pytest.fixture(scope="session")
def small_project(once: repo.Once, small: Path) -> Path:
    """A project of the first release of the small template, which tests only read."""

    def make(folder: Path) -> None:
        repo.begin(repo.bake(small, f"v{repo.VERSION}", folder, {}))

    return once("small-project", make)


@pytest.fixture
def project(small_project: Path, tmp_path: Path) -> Path:
    """A project of the first release of the small template, under git."""
    folder = tmp_path / "project"
    shutil.copytree(small_project, folder, symlinks=True)
    return folder
