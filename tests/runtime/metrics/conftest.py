"""A measured application and the metrics page, in the process of the test."""

from collections.abc import AsyncIterator, Iterator

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from runtime.admin.handlers import make_admin_app
from runtime.metrics import Metrics
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.testing import Client, serving

from ..support.fakes import ORDERS, FakeStatus
from ..support.sample_app import make_app


@pytest.fixture(autouse=True)
def _restore_created_series() -> Iterator[None]:
    yield
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture
def registry() -> CollectorRegistry:
    """Where the metrics of the test are."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


@pytest.fixture
async def client(metrics: Metrics) -> AsyncIterator[Client]:
    """A client of a measured application."""
    async with serving(make_app(Settings()), extensions=[metrics]) as client:
        yield client


@pytest.fixture
async def admin(status: FakeStatus, metrics: Metrics) -> AsyncIterator[Client]:
    """A client of the admin port of a single-process service with metrics."""
    async with serving(make_admin_app(Settings(), status, Monitor(ORDERS), [metrics])) as client:
        yield client
