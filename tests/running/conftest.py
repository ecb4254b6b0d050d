"""What the tests of the running service share: an installed environment and a way to start it."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from .environments import environment
from .harness import Starter, starter
from .machine import pytest_itemcollected, pytest_runtest_setup

__all__ = ["pytest_itemcollected", "pytest_runtest_setup"]  # called by pytest

collect_ignore = ["feature", "samples"]  # tests of projects


UNDER_LOAD = {
    "test_alerts",
    "test_bench",
    "test_chaos",
    "test_drain",
    "test_hostile",
    "test_live",
    "test_logs",
    "test_metrics",
    "test_nginx_load",
    "test_resize",
    "test_streams",
    "test_systemd",
    "test_tracing",
    "test_workers",
}
"""Modules with tests that measure seconds or keep the processors busy: they run one by one."""


class Groups(LoadScopeScheduling):
    """Deals out tests to the processes of pytest-xdist in groups.

    Tests of a module stay together, for they share what it starts; each project is on its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        if path.parent.name != "running" or path.stem == "test_projects":
            return nodeid
        return "under load" if path.stem in UNDER_LOAD else path.stem


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("seconds") and item.path.stem not in UNDER_LOAD:
                raise pytest.UsageError(f"{item.path.stem} measures seconds: add it to UNDER_LOAD")


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


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files and connections as the system allows, also for what the test starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="session")
def two(bake: Callable[..., Path]) -> Path:
    """A project with two workers."""
    return bake(workers="2")
