import asyncio
import math
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import prometheus_client
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from tornado.web import RequestHandler

from runtime.metrics import requests as metrics
from runtime.metrics.requests import DURATION, Metrics
from runtime.http.application import Application
from runtime.settings import Settings
from runtime.status import WorkerStatus
from runtime.http.handler import Handler
from runtime.http.websocket import WebSocket

from .conftest import ServiceStarter
from .support import SERVICE, Client, FakeStatus, RawConnection, close, serving, wait_until
from .test_observer import Fails, Refuses, Slow

NAME = "http_server_request_duration_seconds"
BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, math.inf]
REQUEST = {"http_request_method", "http_route", "http_response_status_code"}
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}
CONTRACT = {
    f"{NAME}_bucket": REQUEST | {"le"},
    f"{NAME}_count": REQUEST,
    f"{NAME}_sum": REQUEST,
    "http_server_active_requests": {"worker"},
    "event_loop_lag_seconds": {"worker"},
    "workers_ready": set[str](),
    "worker_restarts_total": {"worker"},
}
"""The samples that there are, with their labels."""
if sys.platform == "linux":  # elsewhere there is no /proc to read
    CONTRACT |= {name: {"worker"} for name in PROCESS}

Requests = Counter[tuple[str, ...]]


class Plain(RequestHandler):
    """Tornado's own kind of handler."""

    def get(self, x: str) -> None:
        self.write(x)


class Good(Handler):
    def get(self, x: str) -> None:
        self.reply(x)


class Wider(Handler):
    """Has a method that is not in every book."""

    SUPPORTED_METHODS = (*Handler.SUPPORTED_METHODS, "PROPFIND")

    def propfind(self) -> None:
        self.reply("found")


@pytest.fixture
def go_on() -> asyncio.Event:
    """Lets the slow requests go on."""
    return asyncio.Event()


@pytest.fixture
async def client(go_on: asyncio.Event) -> AsyncIterator[Client]:
    """A client of handlers of all kinds."""
    settings = Settings(max_body_size=100)
    routes = [
        ("/plain/{x}", Plain),
        ("/good/{x}", Good),
        ("/refuses", Refuses),
        ("/fails", Fails),
        ("/wider", Wider),
        ("/socket", WebSocket),
        ("/slow", Slow, {"go_on": go_on}),
    ]
    app = Application(settings, routes, observers=[Metrics()])
    async with serving(app, settings) as client:
        yield client


def measured() -> Requests:
    """Return how many requests with which labels have been measured by now."""
    [family] = DURATION.collect()
    counts = [one for one in family.samples if one.name == f"{NAME}_count"]
    return Counter({tuple(one.labels.values()): int(one.value) for one in counts})


@pytest.fixture
def before() -> Requests:
    """What other tests have measured."""
    return measured()


@pytest.fixture(autouse=True)
def _created_metrics() -> Iterator[None]:
    yield
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


async def scrape(admin_port: int) -> list[Metric]:
    async with RawConnection(admin_port) as admin:
        answer = await admin.get("/metrics")
    assert answer.status == 200
    return list(text_string_to_metric_families(answer.body.decode()))


def samples(families: list[Metric], name: str) -> dict[tuple[str, ...], float]:
    """Return the values of all samples of a name by the values of their labels."""
    everything = [one for family in families for one in family.samples]
    return {
        tuple(value for _, value in sorted(one.labels.items())): one.value
        for one in everything
        if one.name == name
    }


def labels(families: list[Metric]) -> dict[str, set[str]]:
    """Return the labels of all samples by their names."""
    found: dict[str, set[str]] = {}
    for one in (one for family in families for one in family.samples):
        assert found.setdefault(one.name, set(one.labels)) == set(one.labels)
    return found


# Requests


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/good/1", "/good/{x}", 200),
        ("HEAD", "/good/1", "/good/{x}", 200),
        ("POST", "/good/1", "/good/{x}", 405),
        ("GET", "/plain/1", "/plain/{x}", 200),
        ("DELETE", "/plain/1", "/plain/{x}", 405),
        ("GET", "/refuses", "/refuses", 409),
        ("GET", "/fails", "/fails", 500),
        ("GET", "/socket", "/socket", 426),
        ("PROPFIND", "/wider", "/wider", 200),
        ("GET", "/nowhere", "none", 404),
        ("GET", "/good/1/", "none", 404),
    ],
)
async def test_a_request_counts_once_by_its_method_route_and_status(
    client: Client, before: Requests, method: str, path: str, route: str, status: int
) -> None:
    assert (await client.fetch(method, path)).code == status
    assert measured() - before == {(method, route, str(status)): 1}


async def test_whatever_clients_think_of_becomes_no_label(client: Client, before: Requests) -> None:
    for number in range(20):
        await client.fetch(f"BREW{number}", f"/nowhere/{number}")
        await client.fetch(f"BREW{number}", f"/good/{number}")
        await client.fetch("PROPFIND", f"/plain/{number}?x={number}")
    assert measured() - before == {
        ("_OTHER", "none", "405"): 20,
        ("_OTHER", "/good/{x}", "405"): 20,
        ("_OTHER", "/plain/{x}", "405"): 20,
    }


async def test_a_body_that_is_too_large_counts(client: Client, before: Requests) -> None:
    await client.post("/refuses", bytes(101))
    assert measured() - before == {("POST", "none", "413"): 1}


async def test_of_a_websocket_the_handshake_counts(client: Client, before: Requests) -> None:
    websocket = await client.websocket("/socket")
    assert measured() - before == {("GET", "/socket", "101"): 1}
    await close(websocket)
    await wait_until(lambda: not client.app.websockets)
    assert measured() - before == {("GET", "/socket", "101"): 1}


async def test_a_request_whose_client_has_gone_counts(
    client: Client, before: Requests, go_on: asyncio.Event
) -> None:
    async with client.wire() as wire:
        wire.ask("/slow")
        await wait_until(lambda: client.app.in_flight)
    await wait_until(lambda: not client.app.in_flight)
    assert measured() == before
    go_on.set()
    await wait_until(lambda: measured() - before)
    assert measured() - before == {("GET", "/slow", "499"): 1}


def measured_values(sample: str) -> list[tuple[float, float]]:
    """Return the buckets, or the one sum, of a route: their limits and values."""
    [family] = DURATION.collect()
    return [
        (float(one.labels.get("le", "nan")), one.value)
        for one in family.samples
        if one.name == f"{NAME}_{sample}" and one.labels["http_route"] == "/wider"
    ]


@pytest.mark.parametrize(("seconds", "first"), [(3, 5), (3600, math.inf)])
async def test_its_duration_is_in_its_buckets_and_in_the_sum(
    client: Client, monkeypatch: pytest.MonkeyPatch, seconds: int, first: float
) -> None:
    await client.fetch("PROPFIND", "/wider")
    buckets, [(_, total)] = measured_values("bucket"), measured_values("sum")
    assert [limit for limit, _ in buckets] == BUCKETS
    late = SimpleNamespace(perf_counter=lambda: time.perf_counter() + seconds)
    monkeypatch.setattr(metrics, "time", late)
    await client.fetch("PROPFIND", "/wider")
    more = {limit for limit, value in measured_values("bucket") if (limit, value) not in buckets}
    assert more == {limit for limit in BUCKETS if limit >= first}
    assert seconds < measured_values("sum")[0][1] - total < seconds + 2


# Exposition


@pytest.mark.parametrize(
    "accept", ["*/*", "application/openmetrics-text;version=1.0.0", "text/plain;version=a"]
)
async def test_the_format_is_the_one_that_everybody_reads(
    client: Client, admin: Client, accept: str
) -> None:
    await client.get("/good/1")
    answer = await admin.get("/metrics", Accept=accept)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert NAME in {one.name for one in text_string_to_metric_families(answer.body.decode())}


async def test_the_public_port_does_not_show_it(client: Client, admin: Client) -> None:
    assert (await client.get("/metrics")).code == 404
    assert (await admin.get("/metrics")).code == 200


async def test_head_is_as_good_as_get(admin: Client) -> None:
    answer = await admin.fetch("HEAD", "/metrics")
    assert (answer.code, answer.body) == (200, b"")


async def test_to_look_changes_nothing(client: Client, admin: Client, before: Requests) -> None:
    await client.get("/good/1")
    names = labels(await scrape(admin.port))
    again = await scrape(admin.port)
    assert labels(again) == names
    assert measured() - before == {("GET", "/good/{x}", "200"): 1}


@pytest.fixture
def registered() -> Iterator[list[Collector]]:
    """Metrics of a test's own, forgotten afterwards."""
    registered: list[Collector] = []
    yield registered
    for one in registered:
        REGISTRY.unregister(one)


async def test_metrics_of_a_feature_are_shown(admin: Client, registered: list[Collector]) -> None:
    assert samples(await scrape(admin.port), "orders_total") == {}
    orders = prometheus_client.Counter("orders", "Orders.", ["drink"])
    # Not one of those that the library measures by itself.
    open_orders = Gauge("process_orders", "Orders that are being made.")
    registered += [orders, open_orders]
    orders.labels('"tea"\\\n').inc(2)
    open_orders.set(3)
    families = await scrape(admin.port)
    assert samples(families, "orders_total") == {('"tea"\\\n',): 2}
    assert samples(families, "process_orders") == {(): 3}


async def test_what_the_library_adds_by_itself_is_not_shown(
    client: Client, admin: Client, status: FakeStatus
) -> None:
    status.workers = [WorkerStatus(0, os.getpid(), True, 0, 0.0, 0)]
    await client.get("/good/1")
    found = labels(await scrape(admin.port))
    assert found.items() >= CONTRACT.items()
    assert not [name for name in found if name.endswith("_created") or name[:7] == "python_"]


async def test_the_page_is_put_together_in_a_thread(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    free = asyncio.Event()

    def encode(registry: CollectorRegistry) -> bytes:
        # In the loop's own thread this would wait for ever.
        asyncio.run_coroutine_threadsafe(free.wait(), loop).result(timeout=10)
        return b"page"

    monkeypatch.setattr(metrics, "generate_latest", encode)
    async with admin.wire() as wire:
        wire.ask("/metrics")
        await wait_until(lambda: admin.app.in_flight)
        assert (await admin.get("/livez")).code == 200
        free.set()
        assert (await wire.answer()).body == b"page"


async def test_it_is_shown_while_all_threads_for_blocking_calls_are_busy(admin: Client) -> None:
    free = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, free.wait)
    try:
        async with admin.wire() as wire:
            assert (await wire.get("/metrics")).status == 200
        assert not blocked.done()
    finally:
        free.set()
        await blocked


# The service


async def test_one_process_alone_is_worker_0(start_service: ServiceStarter) -> None:
    process = start_service(SERVICE)
    port, admin_port = await process.ports()
    async with RawConnection(port) as wire:
        for number in range(5):
            await wire.get(f"/nowhere/{number}")
    families = await scrape(admin_port)
    assert labels(families).items() >= CONTRACT.items()
    assert samples(families, f"{NAME}_count") == {("GET", "404", "none"): 5}
    assert samples(families, "workers_ready") == {(): 1}
    assert samples(families, "worker_restarts_total") == {("0",): 0}
    assert samples(families, "http_server_active_requests") == {("0",): 0}
