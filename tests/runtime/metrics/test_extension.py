"""The duration of requests, by method, route and status."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.samples import Sample
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.request import Request
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.testing import Client, ServiceStarter, serving, wait_until
from tornado.web import RequestHandler

from ..support.connections import RawConnection, close
from ..support.prometheus import DURATION, has_only_documented_names, samples, scrape
from . import MEASURED_APP

BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, math.inf]


class Plain(RequestHandler):
    """Tornado's own kind of handler."""

    def get(self, x: str) -> None:
        self.write(x)


class Good(Handler):
    def get(self, x: str) -> None:
        self.reply(x)


class Refuses(Handler):
    def get(self) -> None:
        raise Problem(409)


class Fails(Handler):
    def get(self) -> None:
        raise ValueError("a mistake")


class Wider(Handler):
    """Supports a method that Tornado does not know."""

    SUPPORTED_METHODS = (*Handler.SUPPORTED_METHODS, "PROPFIND")

    def propfind(self) -> None:
        self.reply("found")


class Slow(Handler):
    def initialize(self, released: asyncio.Event) -> None:
        self._released = released

    async def get(self) -> None:
        await self._released.wait()


@pytest.fixture
def released() -> asyncio.Event:
    """Lets the slow requests finish."""
    return asyncio.Event()


@pytest.fixture
async def client(metrics: Metrics, released: asyncio.Event) -> AsyncIterator[Client]:
    """A client of measured handlers of all kinds."""
    routes = [
        Route("/plain/{x}", Plain),
        Route("/good/{x}", Good),
        Route("/refuses", Refuses),
        Route("/fails", Fails),
        Route("/unable", Fails, unknown="argument"),
        Route("/wider", Wider),
        Route("/socket", WebSocket),
        Route("/slow", Slow, released=released),
    ]
    app = Application(Settings(max_body_size=100), routes)
    async with serving(app, extensions=[metrics]) as client:
        yield client


def duration_samples(registry: CollectorRegistry, suffix: str) -> list[Sample]:
    [family] = registry.collect()
    return [sample for sample in family.samples if sample.name == f"{DURATION}_{suffix}"]


def counts(registry: CollectorRegistry) -> Counter[tuple[str, ...]]:
    """Return how many requests are counted, by their labels."""
    found = duration_samples(registry, "count")
    return Counter({tuple(sample.labels.values()): int(sample.value) for sample in found})


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
async def test_request_counts_once_by_method_route_and_status(
    client: Client, registry: CollectorRegistry, method: str, path: str, route: str, status: int
) -> None:
    assert (await client.fetch(method, path)).code == status
    assert counts(registry) == {(method, route, str(status)): 1}


async def test_client_input_never_becomes_a_label(
    client: Client, registry: CollectorRegistry
) -> None:
    for number in range(20):
        await client.fetch(f"BREW{number}", f"/nowhere/{number}")
        await client.fetch(f"BREW{number}", f"/good/{number}")
        await client.fetch("PROPFIND", f"/plain/{number}?x={number}")
    assert counts(registry) == {
        ("_OTHER", "none", "405"): 20,
        ("_OTHER", "/good/{x}", "405"): 20,
        ("_OTHER", "/plain/{x}", "405"): 20,
    }


async def test_too_large_body_counts(client: Client, registry: CollectorRegistry) -> None:
    await client.post("/refuses", bytes(101))
    assert counts(registry) == {("POST", "/refuses", "413"): 1}


@pytest.mark.parametrize(
    ("leave", "status"), [(RawConnection.abort, "499"), (RawConnection.send_eof, "400")]
)
async def test_request_without_the_end_of_its_body_counts_once(
    client: Client,
    registry: CollectorRegistry,
    leave: Callable[[RawConnection], None],
    status: str,
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send("POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na")
        await wait_until(lambda: client.app.connections.requests)
        leave(connection)
        await wait_until(lambda: not client.app.connections.open)
    assert counts(registry) == {("POST", "/refuses", status): 1}


async def test_request_whose_handler_cannot_be_created_counts_once(
    client: Client, registry: CollectorRegistry
) -> None:
    assert (await client.get("/unable")).code == 500
    assert counts(registry) == {("GET", "/unable", "500"): 1}


async def test_websocket_counts_once_for_its_handshake(
    client: Client, registry: CollectorRegistry
) -> None:
    async with client.websocket("/socket") as websocket:
        assert counts(registry) == {("GET", "/socket", "101"): 1}
        await close(websocket)
        await wait_until(lambda: not client.app.connections.websockets)
    assert counts(registry) == {("GET", "/socket", "101"): 1}


async def test_request_of_disconnected_client_counts_when_its_handler_finishes(
    client: Client, registry: CollectorRegistry, released: asyncio.Event
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send_get("/slow")
        await wait_until(lambda: client.app.connections.requests)
    assert counts(registry) == {}
    released.set()
    await wait_until(lambda: counts(registry))
    assert counts(registry) == {("GET", "/slow", "499"): 1}


@pytest.mark.parametrize(("seconds", "first"), [(3, 5), (3600, math.inf)])
async def test_duration_is_in_its_buckets_and_in_the_sum(
    client: Client,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    first: float,
) -> None:
    duration = property(lambda _: seconds + 0.5, lambda *_: None)
    monkeypatch.setattr(Request, "duration", duration)
    await client.get("/good/1")
    buckets = {
        float(sample.labels["le"]): sample.value for sample in duration_samples(registry, "bucket")
    }
    assert list(buckets) == BUCKETS
    assert buckets == {bound: float(bound >= first) for bound in BUCKETS}
    [total] = duration_samples(registry, "sum")
    assert total.value == seconds + 0.5


async def test_metrics_leave_the_registry_with_their_lifespan(
    registry: CollectorRegistry,
) -> None:
    # Otherwise the next one in this process, in the tests of a service, would be a duplicate.
    for _ in range(2):
        async with serving(Application(Settings(), []), extensions=[Metrics()]) as client:
            await client.get("/")
            labels = {"http_request_method": "GET", "http_route": "none"}
            labels["http_response_status_code"] = "404"
            assert REGISTRY.get_sample_value(f"{DURATION}_count", labels) == 1


async def test_single_process_is_worker_0(start_service: ServiceStarter) -> None:
    process = start_service(MEASURED_APP)
    port, admin_port = await process.ports()
    async with RawConnection(port) as connection:
        for number in range(5):
            await connection.get(f"/nowhere/{number}")
    families = await scrape(admin_port)
    assert has_only_documented_names(families)
    assert samples(families, f"{DURATION}_count") == {("GET", "404", "none"): 5}
    assert samples(families, "workers_ready") == {(): 1}
    assert samples(families, "worker_restarts_total") == {("0",): 0}
    assert samples(families, "http_server_active_requests") == {("0",): 0}
