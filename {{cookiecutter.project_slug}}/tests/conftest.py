"""Fixtures of the service's tests; `runtime/testing.py` has those of every service."""

from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.runtime.testing import (
    Client,
    clean_environment,
    log_records,
    pytest_asyncio_loop_factories,
    serving,
    start_service,
)
from {{ cookiecutter.package_name }}.settings import Settings

__all__ = [
    "clean_environment",
    "log_records",
    "pytest_asyncio_loop_factories",
    "start_service",
]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of this service, which runs in the test's process."""
    async with serving(make_app(Settings())) as client:
        yield client
