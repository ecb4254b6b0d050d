"""What the tests of the running service share: an installed environment and a way to start it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .environments import environment
from .harness import Starter, starter
from .machine import pytest_itemcollected, pytest_runtest_setup

__all__ = ["pytest_itemcollected", "pytest_runtest_setup"]  # called by pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if group := group_of(item):
                item.add_marker(pytest.mark.xdist_group(group))


def group_of(item: pytest.Item) -> str:
    """Return the group of tests that one process runs, one after the other.

    Tests that measure seconds or keep all processors busy must not disturb each other. Other tests
    share what their module starts, except those of the projects.
    """
    if item.get_closest_marker("seconds") or item.get_closest_marker("load"):
        return "load"
    return "" if item.path.stem == "test_projects" else item.path.stem


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that the processes that run these tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def project(bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the default answers, which the tests of this folder only read."""
    return bake_into(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def python(project: Path, shared: Path) -> Path:
    """The Python of an environment with everything that the default project needs."""
    return environment(project, shared)


@pytest.fixture
def run(python: Path, project: Path, tmp_path: Path) -> Iterator[Starter]:
    """Starts services of the default project; ends them all."""
    with starter(python, tmp_path, project / "src") as made:
        yield made


@pytest.fixture(scope="session")
def two(bake: Callable[..., Path]) -> Path:
    """A project with two workers."""
    return bake(workers="2")
