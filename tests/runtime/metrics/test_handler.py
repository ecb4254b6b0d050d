"""The metrics page of the admin port."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
)
from prometheus_client.parser import text_string_to_metric_families
from runtime.metrics import handler
from runtime.status import ProcessDetails, WorkerStatus
from runtime.testing import Client, wait_until

from ..support.connections import RawConnection
from ..support.fakes import FakeStatus
from ..support.prometheus import (
    DURATION,
    has_only_documented_names,
    label_names,
    samples,
    scrape,
)


@pytest.mark.parametrize(
    "accept", ["*/*", "application/openmetrics-text;version=1.0.0", "text/plain;version=a"]
)
async def test_content_type_is_text_0_0_4(client: Client, admin: Client, accept: str) -> None:
    await client.get("/")
    response = await admin.get("/metrics", Accept=accept)
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.body.decode())
    assert DURATION in {family.name for family in families}


async def test_page_is_on_the_admin_port_only(client: Client, admin: Client) -> None:
    assert (await client.get("/metrics")).code == 404
    assert (await admin.get("/metrics")).code == 200


async def test_head_works_like_get(admin: Client) -> None:
    response = await admin.fetch("HEAD", "/metrics")
    assert (response.code, response.body) == (200, b"")


async def test_scrape_has_no_side_effects(client: Client, admin: Client) -> None:
    await client.get("/")
    first, second = await scrape(admin.port), await scrape(admin.port)
    assert label_names(first) == label_names(second)
    count = samples(first, f"{DURATION}_count")
    assert count == samples(second, f"{DURATION}_count") == {("GET", "200", "/"): 1}


async def test_metrics_of_the_service_are_shown(registry: CollectorRegistry, admin: Client) -> None:
    assert samples(await scrape(admin.port), "orders_total") == {}
    Counter("orders", "Orders.", ["drink"], registry=registry).labels('"tea"\\\n').inc(2)
    # Its name begins like those of the library's defaults.
    Gauge("process_orders", "Orders in work.", registry=registry).set(3)
    families = await scrape(admin.port)
    assert samples(families, "orders_total") == {('"tea"\\\n',): 2}
    assert samples(families, "process_orders") == {(): 3}


async def test_default_metrics_of_the_library_are_not_shown(
    client: Client, admin: Client, status: FakeStatus, registry: CollectorRegistry
) -> None:
    for collector in GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR:
        registry.register(collector)
    status.workers = [WorkerStatus(0, os.getpid(), True, 0, 0.0, 0, details=ProcessDetails("1.0"))]
    await client.get("/")
    assert has_only_documented_names(await scrape(admin.port))


async def test_page_is_built_in_a_thread(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    released = asyncio.Event()

    def generate(registry: CollectorRegistry) -> bytes:
        # In the thread of the event loop this would time out.
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(timeout=10)
        return b"page"

    monkeypatch.setattr(handler, "generate_latest", generate)
    async with RawConnection(admin.port) as connection:
        connection.send_get("/metrics")
        await wait_until(lambda: admin.app.connections.requests)
        assert (await admin.get("/livez")).code == 200
        released.set()
        assert (await connection.response()).body == b"page"


async def test_page_does_not_need_the_default_executor(admin: Client) -> None:
    free = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, free.wait)
    try:
        async with RawConnection(admin.port) as connection:
            assert (await connection.get("/metrics")).status == 200
        assert not blocked.done()
    finally:
        free.set()
        await blocked
