"""Fixtures of the runtime's tests. The runtime is imported in place, as the package `runtime`."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from runtime.admin.handlers import make_admin_app
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.testing import (
    Client,
    clean_environment,
    log_records,
    serving,
    start_service,
)

from .support.fakes import ORDERS, FakeStatus
from .support.sample_app import make_app

__all__ = ["clean_environment", "log_records", "start_service"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _programs_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that tests start import `tests.runtime.apps` and its like."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of the sample application, which runs in this process."""
    async with serving(make_app(Settings())) as client:
        yield client


@pytest.fixture
def status() -> FakeStatus:
    """The status of a service; a test sets it."""
    return FakeStatus()


@pytest.fixture
async def admin(status: FakeStatus) -> AsyncIterator[Client]:
    """A client of the admin port of a service with this status."""
    async with serving(make_admin_app(Settings(), status, Monitor(ORDERS))) as client:
        yield client
