"""The error tracker of docs/change.md reports each unexpected exception once."""

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tornado_service import __version__
from tornado_service.runtime import ServiceInfo
from tornado_service.runtime.testing import ServiceStarter, wait_until
from tornado_service.settings import Settings
from tornado_service.tracker import ErrorTracker

CONFIDENTIAL = "f0rg3t"
COUNT = 6


class Envelope(RequestHandler):
    """Takes what Sentry's client sends: lines of JSON, one of which is an event.

    Not before the service stops, and then slowly.
    """

    async def post(self) -> None:
        await self.settings["is_stopping"].wait()
        await asyncio.sleep(0.05)
        lines = map(json.loads, self.request.body.splitlines())
        self.settings["events"].extend(line for line in lines if "exception" in line)
        self.write({})


@pytest.fixture
def is_stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def events(
    monkeypatch: pytest.MonkeyPatch, is_stopping: asyncio.Event
) -> AsyncIterator[list[dict[str, Any]]]:
    """The events that a receiver gets, to which the service sends."""
    events: list[dict[str, Any]] = []
    settings: dict[str, Any] = {"events": events, "is_stopping": is_stopping, "log_function": id}
    receiver = Application([("/api/1/envelope/", Envelope)], **settings)
    server = HTTPServer(receiver, decompress_request=True)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    address, port = sockets[0].getsockname()
    monkeypatch.setenv("SENTRY_DSN", f"http://key@{address}:{port}/1")
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "staging")
    monkeypatch.setenv("NO_PROXY", address)
    yield events
    server.stop()


def facts(event: dict[str, Any]) -> tuple[object, ...]:
    """Return what an event says."""
    [exception] = event["exception"]["values"]
    tags = event["tags"]
    return exception["value"], tags["method"], tags["route"], tags["request_id"]


async def test_each_exception_is_an_event(
    events: list[dict[str, Any]], is_stopping: asyncio.Event, start_service: ServiceStarter
) -> None:
    process = start_service(workers=2)
    port, _ = await process.ports()
    url, client = f"http://127.0.0.1:{port}", AsyncHTTPClient()

    async def ask(method: str, path: str, request_id: str) -> int:
        response = await client.fetch(
            f"{url}{path}?text={CONFIDENTIAL}",
            method=method,
            body=CONFIDENTIAL if method == "POST" else None,
            headers={"X-Request-ID": request_id, "Cookie": f"session={CONFIDENTIAL}"},
            raise_error=False,
        )
        return response.code

    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /left HTTP/1.1\r\nHost: x\r\n\r\n")
    await process.logged("arrived")
    writer.close()
    assert await ask("GET", "/refusals", "refused") == HTTPStatus.SERVICE_UNAVAILABLE
    assert await ask("GET", "/nowhere", "lost") == HTTPStatus.NOT_FOUND
    failures = [ask("GET", f"/failures/{n}", f"id-{n}") for n in range(COUNT)]
    assert set(await asyncio.gather(*failures)) == {HTTPStatus.INTERNAL_SERVER_ERROR}
    assert await ask("POST", "/failures/later", "id-later") == HTTPStatus.ACCEPTED
    await wait_until(lambda: "GET /left 499" in process.messages())
    process.send_signal(signal.SIGTERM)
    await process.logged("draining")
    is_stopping.set()
    assert await process.exit_code() == 0
    # All have been delivered when the service has stopped.
    route = "/failures/{name}"
    expected = {
        (f"{n}: {len(CONFIDENTIAL)} characters", "GET", route, f"id-{n}") for n in range(COUNT)
    }
    expected.add(("later", "POST", route, "id-later"))
    assert len(events) == len(expected)
    assert set(map(facts, events)) == expected
    assert {event["release"] for event in events} == {f"tornado-service@{__version__}"}
    assert {event["environment"] for event in events} == {"staging"}
    assert CONFIDENTIAL not in json.dumps(events)


async def test_nothing_that_every_request_passes_through_is_replaced() -> None:
    classes = logging.Logger, RequestHandler, Application
    before = [dict(vars(replaced)) for replaced in classes]
    async with ErrorTracker().lifespan(ServiceInfo("tornado-service", "1"), Settings()):
        assert [dict(vars(replaced)) for replaced in classes] == before
