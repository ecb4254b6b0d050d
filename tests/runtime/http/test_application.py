import asyncio
import json
from typing import Any

import pytest
from tornado.web import RequestHandler

from runtime.http.application import Application
from runtime.settings import Settings
from runtime.http.handler import Handler

from .support import Client, Record, serving, wait_until


class Shows(Handler):
    def get(self, **segments: str) -> None:
        self.reply(segments)


class Plain(RequestHandler):
    """Tornado's own kind of handler; waits until it may answer."""

    def initialize(self, go_on: asyncio.Event) -> None:
        self._go_on = go_on

    async def get(self) -> None:
        await self._go_on.wait()
        self.write("plain")


def accesses(log_records: list[Record]) -> list[Record]:
    return [record for record in log_records if record["logger"] == "access"]


def app(*routes: tuple[Any, ...], **settings: Any) -> tuple[Application, Settings]:
    values = Settings(**settings)
    return Application(values, routes), values


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/1", {"x": "1"}),
        ("/a/with%20space", {"x": "with space"}),
        ("/a/1%2F2", {"x": "1/2"}),
        ("/a/1/b/2", {"x": "1", "y": "2"}),
        ("/a/1?x=9", {"x": "1"}),
    ],
)
async def test_a_template_takes_one_segment_a_name(path: str, expected: dict[str, str]) -> None:
    async with serving(*app(("/a/{x}", Shows), ("/a/{x}/b/{y}", Shows))) as client:
        response = await client.get(path)
        assert response.code == 200
        assert json.loads(response.body) == expected


@pytest.mark.parametrize("path", ["/a", "/a/", "/a/1/", "/a/1/b", "/b/a/1", "/A/1"])
async def test_a_template_takes_nothing_else(path: str) -> None:
    async with serving(*app(("/a/{x}", Shows))) as client:
        assert (await client.get(path)).code == 404


async def test_the_log_names_the_route(log_records: list[Record]) -> None:
    async with serving(*app(("/a/{x}", Shows))) as client:
        await client.get("/a/1")
        await client.get("/nowhere")
    assert [line["http.route"] for line in accesses(log_records)] == ["/a/{x}", "none"]


async def test_a_sane_request_id_is_kept(client: Client) -> None:
    response = await client.get("/nowhere", X_Request_ID="check-17")
    assert response.headers["X-Request-ID"] == "check-17"
    assert json.loads(response.body)["request_id"] == "check-17"


@pytest.mark.parametrize("odd", ["", "a b", "a,b", "<script>", "a" * 129, "\xe9"])
async def test_an_odd_request_id_is_replaced(client: Client, odd: str) -> None:
    response = await client.get("/nowhere", X_Request_ID=odd)
    request_id = response.headers["X-Request-ID"]
    assert len(request_id) == 32
    assert json.loads(response.body)["request_id"] == request_id


async def test_two_requests_get_two_ids(client: Client) -> None:
    first, second = await client.get("/"), await client.get("/")
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


async def test_every_handler_counts_as_in_flight() -> None:
    go_on = asyncio.Event()
    async with serving(*app(("/", Plain, {"go_on": go_on}))) as client:
        requests = [asyncio.ensure_future(client.get("/")) for _ in range(3)]
        await wait_until(lambda: len(client.app.in_flight) == 3)
        go_on.set()
        assert {response.code for response in await asyncio.gather(*requests)} == {200}
        await wait_until(lambda: not client.app.in_flight)


async def test_a_request_whose_client_goes_is_in_flight_no_more() -> None:
    async with serving(*app(("/", Plain, {"go_on": asyncio.Event()}))) as client:
        async with client.wire() as wire:
            wire.ask()
            await wait_until(lambda: client.app.in_flight)
        await wait_until(lambda: not client.app.in_flight)


async def test_the_log_has_the_size_of_the_body(log_records: list[Record]) -> None:
    async with serving(*app(("/a/{x}", Shows))) as client:
        response = await client.get("/a/1")
        await client.fetch("HEAD", "/a/1")
    assert [line["http.response.body.size"] for line in accesses(log_records)] == [len(response.body), 0]


@pytest.mark.parametrize(("digits", "status"), [(7, 413), (18, 413), (19, 400), (5000, 400)])
async def test_a_body_of_any_absurd_size_is_refused(
    client: Client, digits: int, status: int
) -> None:
    async with client.wire() as wire:
        length = digits * "9"
        wire.send(f"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
        assert (await wire.rest()).startswith(f"HTTP/1.1 {status} ".encode())


async def test_the_log_has_the_client_that_a_trusted_proxy_names(log_records: list[Record]) -> None:
    for trusted in "127.0.0.1", "10.0.0.1":
        async with serving(*app(("/a/{x}", Shows), trusted_proxies=trusted)) as client:
            await client.get("/a/1", X_Forwarded_For="203.0.113.5")
    assert [line["client.address"] for line in accesses(log_records)] == ["203.0.113.5", "127.0.0.1"]


async def test_a_template_may_take_all_the_rest() -> None:
    async with serving(*app(("/files/{path*}", Shows))) as client:
        response = await client.get("/files/a/b.txt")
        assert json.loads(response.body) == {"path": "a/b.txt"}


@pytest.mark.parametrize("path", ["/robotsXtxt", "/robots.txt/", "/aab"])
async def test_a_template_is_no_regular_expression(path: str) -> None:
    async with serving(*app(("/robots.txt", Shows), ("/a+b", Shows))) as client:
        assert (await client.get(path)).code == 404
        assert (await client.get("/robots.txt")).code == 200
        assert (await client.get("/a+b")).code == 200
