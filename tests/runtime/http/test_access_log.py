"""One line for each request: what it contains, and what it must not contain."""

import json
import logging
import re
from types import SimpleNamespace

import pytest
from runtime.http import access_log
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.logs import direct
from runtime.settings import Settings
from runtime.testing import Client, Record, serving, wait_until

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.logs import configured_log
from ..support.sample_app import make_app


async def test_access_line_has_the_names_of_opentelemetry(
    client: Client, log_records: list[Record]
) -> None:
    response = await client.get("/items/cup?token=hunter2", User_Agent="check/1.7")
    [line] = access_lines(log_records)
    assert 0 < line.pop("duration_ms") < 60_000
    del line["timestamp"], line["pid"]
    assert line == {
        "level": "info",
        "logger": "access",
        "message": "GET /items/cup 200",
        "request_id": response.headers["X-Request-ID"],
        "worker": 0,
        "http.request.method": "GET",
        "url.path": "/items/cup",
        "http.route": "/items/{name}",
        "http.response.status_code": 200,
        "http.response.body.size": len(response.body),
        "client.address": "127.0.0.1",
        "user_agent.original": "check/1.7",
    }


async def test_route_is_a_constant_if_none_matches(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/nowhere")
    assert [line["http.route"] for line in access_lines(log_records)] == ["none"]


async def test_body_of_a_head_response_has_size_0(
    client: Client, log_records: list[Record]
) -> None:
    await client.fetch("HEAD", "/items/cup")
    assert [line["http.response.body.size"] for line in access_lines(log_records)] == [0]


async def test_client_address_is_the_one_from_a_trusted_proxy(log_records: list[Record]) -> None:
    for trusted in "127.0.0.1", "10.0.0.1":
        async with serving(make_app(Settings(trusted_proxies=trusted))) as client:
            await client.get("/", X_Forwarded_For="203.0.113.5")
    addresses = [line["client.address"] for line in access_lines(log_records)]
    assert addresses == ["203.0.113.5", "127.0.0.1"]


class Fails(Handler):
    def get(self, status: str) -> None:
        raise Problem(int(status))


@pytest.mark.parametrize(
    ("access_level", "status", "level"),
    [
        (logging.INFO, 499, "info"),
        (logging.INFO, 500, "error"),
        (logging.INFO, 503, "error"),
        (logging.DEBUG, 503, "debug"),
    ],
)
async def test_responses_of_500_and_above_are_errors_unless_the_level_is_below_info(
    log_records: list[Record], access_level: int, status: int, level: str
) -> None:
    app = Application(Settings(), [Route("/{status}", Fails)], access_level=access_level)
    async with serving(app) as client:
        await client.get(f"/{status}")
    assert [line["level"] for line in access_lines(log_records)] == [level]


async def test_access_lines_are_left_out_if_the_log_level_is_higher(
    client: Client, log_records: list[Record]
) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    await client.get("/")
    assert log_records == []


async def test_queries_stay_out_of_the_log(client: Client, log_records: list[Record]) -> None:
    for path in "/", "/nowhere", "/socket", "/items":
        await client.get(f"{path}?token=hunter2")
    await client.post("/items?token=hunter2", b"a=%ff", Content_Type="multipart/form-data")
    assert len(access_lines(log_records)) == 5
    assert "hunter2" not in str(log_records)


class Silence(logging.Filter):
    """A filter as an owner adds it: no lines for the root."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.__dict__["url.path"] != "/"


async def test_lines_can_be_silenced_and_heard_again(client: Client) -> None:
    silence, access = Silence(), logging.getLogger("access")
    with configured_log() as log:
        await client.get("/")
        assert len(log.pop_lines()) == 1
        access.addFilter(silence)
        await client.get("/")
        assert log.pop_lines() == []
        access.removeFilter(silence)
        await client.get("/")
        assert len(log.pop_lines()) == 1


async def test_lines_of_a_process_are_those_that_logging_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def log_twice(
        logger: logging.Logger,
        level: int,
        message: str,
        args: tuple[object, ...],
        fields: dict[str, object],
    ) -> None:
        direct.log(logger, level, message, args, dict(fields))
        logger.log(level, message, *args, extra=fields)

    app = Application(Settings(), [Route("/socket", WebSocket), Route("/{status}", Fails)])
    monkeypatch.setattr(access_log, "direct", SimpleNamespace(log=log_twice))
    with configured_log() as log:
        async with serving(app) as client, RawConnection(client.port) as connection:
            for path in "/404?token=hunter2", "/499", "/500", f"/{1_000 * '%E2%82%AC'}", "/a/b":
                await connection.get(path, User_Agent="\xff é \U0001f600")
            for method in "HEAD", "BREW":
                await client.fetch(method, "/404", User_Agent="")
            connection.send_get("/404")
            await connection.response()
            async with client.websocket("/socket"):
                pass
            await wait_until(lambda: not client.app.connections.websockets)
        lines = [line for line in log.pop_lines() if '"logger":"access"' in line]
    without_time = [re.sub(r'"timestamp":"[^"]+"', "", line) for line in lines]
    assert without_time[::2] == without_time[1::2]
    records = [json.loads(line) for line in lines[::2]]
    statuses = [record["http.response.status_code"] for record in records]
    assert statuses == [404, 499, 500, 500, 404, 404, 405, 404, 101, 101]
    assert "websocket.close_code" in records[-1]
