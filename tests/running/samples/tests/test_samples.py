"""The samples of docs/change.md do what it says."""

import asyncio
import json
import re
import shlex
import signal
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import pytest
from prometheus_client import REGISTRY

from tornado_service import pages
from tornado_service.orders.journal import JOURNAL
from tornado_service.orders.metrics import count
from tornado_service.orders.spans import price
from tornado_service.orders.store import ORDERS
from tornado_service.runtime.testing import (
    Client,
    ServiceStarter,
    response_json,
    response_problem,
    serving,
    wait_until,
)
from tornado_service.settings import Settings


async def test_order_is_shown(client: Client) -> None:
    shown = await client.get("/orders/7")
    assert response_json(shown) == {"number": "7", "state": "sent"}
    unknown = await client.get("/orders/8")
    assert response_problem(unknown)["detail"] == "No such order."
    assert client.app.resources[ORDERS]


async def test_order_is_checked(client: Client) -> None:
    placed = await client.post("/orders", {"item": "tea"})
    assert placed.code == HTTPStatus.CREATED
    assert response_json(placed) == {"item": "tea", "quantity": 1}
    refused = await client.post("/orders", {"item": "", "quantity": "many"})
    assert len(response_problem(refused)["errors"]) == 2


def test_settings() -> None:
    settings = Settings(price_list="https://shop.example")
    assert str(settings.price_list) == "https://shop.example/"
    assert settings.cookie_secret.get_secret_value() == "only-for-tests"
    assert "only-for-tests" not in repr(settings)


async def test_page_keeps_a_name() -> None:
    async with serving(pages.make_app(Settings())) as client:
        empty = await client.get("/name")
        page = empty.body.decode()
        assert "<p></p>" in page
        [style] = re.findall('href="(.*?)"', page)
        assert re.fullmatch(r"/static/page\.css\?v=\w+", style)
        assert "max-age=315360000" in (await client.get(style)).headers["Cache-Control"]
        [token] = re.findall('name="_xsrf" value="(.*?)"', page)
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        cookie = empty.headers["Set-Cookie"].partition(";")[0]
        body = urlencode({"name": "Ada", "_xsrf": token}).encode()
        assert (await client.post("/name", body, **form)).code == HTTPStatus.FORBIDDEN
        saved = await client.post("/name", body, Cookie=cookie, **form)
        assert (saved.code, saved.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/name")
        cookie = saved.headers["Set-Cookie"].partition(";")[0]
        assert b"<p>Ada</p>" in (await client.get("/name", Cookie=cookie)).body


async def run(command: str, folder: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output


@pytest.mark.parametrize(
    ("command", "path", "response"),
    [
        ("curl -F file=@a.pdf", "attach", {"a.pdf": 3_000_000}),
        ("curl -T backup.tar", "upload", {"size": 3_000_000}),
    ],
)
async def test_uploads_by_curl(
    start_service: ServiceStarter, tmp_path: Path, command: str, path: str, response: object
) -> None:
    # More than APP_MAX_BODY_SIZE.
    (tmp_path / command.split()[-1].rpartition("@")[2]).write_bytes(b"x" * 3_000_000)
    port, _ = await start_service().ports()
    output = await run(f"{command} --silent http://127.0.0.1:{port}/{path}", tmp_path)
    assert json.loads(output) == response


async def test_change_is_awaited(client: Client) -> None:
    changes = client.app.resources[JOURNAL]
    waiting = asyncio.create_task(client.get("/orders/change"))
    await wait_until(lambda: client.app.connections.requests)
    changes.add("received")
    assert response_json(await waiting) == {"changed": True}
    waiting = asyncio.create_task(client.get("/orders/change"))
    await wait_until(lambda: client.app.connections.requests)
    await client.server.drain([])
    assert response_json(await waiting) == {"changed": False}


async def test_events_by_curl(start_service: ServiceStarter) -> None:
    service = start_service()
    port, _ = await service.ports()
    url = f"http://127.0.0.1:{port}/orders/events"
    curl = await asyncio.create_subprocess_exec(
        "curl", "-N", "--silent", url, stdout=asyncio.subprocess.PIPE
    )
    assert curl.stdout
    first = await curl.stdout.readuntil(b'{"state":"sent"}\n\n')
    assert b'id: 1\ndata: {"state":"placed"}\n\n' in first
    service.send_signal(signal.SIGTERM)
    assert (await curl.stdout.read()).startswith(b"retry: ")
    assert await curl.wait() == 0
    assert await service.exit_code() == 0


def test_counter() -> None:
    count("book")
    assert REGISTRY.get_sample_value("orders_total", {"kind": "book"}) == 1


def test_span() -> None:
    price()
