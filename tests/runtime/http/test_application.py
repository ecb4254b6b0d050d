"""What applies to every request, whichever handler gets it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.request import Request
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.settings import Settings
from runtime.testing import Client, Record, response_problem, serving, wait_until
from tornado.web import OutputTransform, RequestHandler

from ..support.access import access_lines
from ..support.connections import RawConnection, close


class Plain(RequestHandler):
    """One of Tornado's own handlers."""

    def get(self) -> None:
        request = self.request
        assert isinstance(request, Request)
        self.write({"route": request.route, "id": request.id, "sent": request.headers_sent})


class PlainSlow(RequestHandler):
    """One of Tornado's own handlers; waits for an event."""

    def initialize(self, released: asyncio.Event) -> None:
        self._released = released

    async def get(self) -> None:
        await self._released.wait()
        self.write("plain")


class Long(Handler):
    def get(self) -> None:
        self.reply("x" * 10_000)


def app(*routes: Route, **tornado_settings: Any) -> Application:
    return Application(Settings(), routes, **tornado_settings)


async def test_valid_request_id_is_kept(client: Client) -> None:
    for valid in "check-17", "a" * 128, "Az09._:/+=@-":
        response = await client.get("/nowhere", X_Request_ID=valid)
        assert response.headers["X-Request-ID"] == valid
        assert response_problem(response)["request_id"] == valid


@pytest.mark.parametrize("odd", ["", "a b", "a,b", "<script>", "a" * 129, "\xe9"])
async def test_invalid_request_id_is_replaced(client: Client, odd: str) -> None:
    response = await client.get("/nowhere", X_Request_ID=odd)
    request_id = response.headers["X-Request-ID"]
    assert len(request_id) == 32
    assert response_problem(response)["request_id"] == request_id


async def test_two_requests_get_two_ids(client: Client) -> None:
    first, second = await client.get("/"), await client.get("/")
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


async def test_plain_tornado_handler_gets_the_runtime_s_request() -> None:
    async with serving(app(Route("/{_}", RequestHandler), Route("/", Plain))) as client:
        response = await client.get("/", X_Request_ID="check-17")
    assert orjson.loads(response.body) == {"route": "/", "id": "check-17", "sent": False}


async def test_requests_of_every_handler_are_in_flight() -> None:
    released = asyncio.Event()
    async with serving(app(Route("/", PlainSlow, released=released))) as client:
        requests = [asyncio.ensure_future(client.get("/")) for _ in range(3)]
        await wait_until(lambda: len(client.app.connections.requests) == 3)
        assert client.app.connections.busy
        released.set()
        assert {response.code for response in await asyncio.gather(*requests)} == {200}
        await wait_until(lambda: not client.app.connections.requests)
        assert not client.app.connections.busy


@pytest.mark.parametrize("resets", [False, True])
async def test_request_is_in_flight_until_its_handler_ends_though_its_client_has_disconnected(
    resets: bool,
) -> None:
    released = asyncio.Event()
    async with serving(app(Route("/", PlainSlow, released=released))) as client:
        connections = client.app.connections
        async with RawConnection(client.port) as connection:
            connection.send_get()
            await wait_until(lambda: connections.requests)
            if resets:
                connection.abort()
                await wait_until(lambda: not connections.open)
        assert len(connections.requests) == 1
        released.set()
        await wait_until(lambda: not connections.requests)
        await wait_until(lambda: not connections.open)


@pytest.mark.parametrize(("digits", "status"), [(7, 413), (18, 413), (19, 400), (5000, 400)])
async def test_body_of_an_absurd_size_is_rejected(client: Client, digits: int, status: int) -> None:
    async with RawConnection(client.port) as connection:
        length = digits * "9"
        connection.send(
            f"POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        )
        received = await connection.read_to_end()
        assert received.startswith(f"HTTP/1.1 {status} ".encode())


async def test_settings_of_tornado_replace_the_defaults() -> None:
    class Unknown(RequestHandler):
        def prepare(self) -> None:
            self.set_status(418)
            self.finish("unknown")

    own = app(default_handler_class=Unknown, serve_traceback=True, cookie_secret="secret")
    assert own.settings["cookie_secret"] == "secret"
    async with serving(own) as client:
        response = await client.get("/")
    assert (response.code, response.body) == (418, b"unknown")


async def test_static_path_serves_files(tmp_path: Path, log_records: list[Record]) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with serving(app(Route("/", Plain), static_path=str(tmp_path))) as client:
        response = await client.get("/static/a.txt", X_Request_ID="check-17")
        assert (await client.get("/static/missing")).code == 404
        assert (await client.get("/")).code == 200
    assert (response.code, response.body) == (200, b"hello")
    assert response.headers["X-Request-ID"] == "check-17"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    line = access_lines(log_records)[0]
    assert (line["request_id"], line["http.response.body.size"]) == ("check-17", 5)


async def test_log_function_replaces_the_access_log(log_records: list[Record]) -> None:
    logged: list[RequestHandler] = []
    own = app(Route("/", Plain), Route("/socket", WebSocket), log_function=logged.append)
    async with serving(own) as client:
        await client.get("/")
        await client.get("/nowhere")
        async with client.websocket("/socket") as websocket:
            await close(websocket)
        await wait_until(lambda: not client.app.connections.websockets)
    assert [handler.get_status() for handler in logged] == [200, 404, 101]
    assert access_lines(log_records) == []


async def test_compressed_response_has_its_id_and_the_size_that_is_sent(
    log_records: list[Record],
) -> None:
    async with (
        serving(app(Route("/", Long), compress_response=True)) as client,
        RawConnection(client.port) as connection,
    ):
        response = await connection.get("/", Accept_Encoding="gzip", X_Request_ID="check-17")
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["X-Request-ID"] == "check-17"
    [line] = access_lines(log_records)
    assert line["http.response.body.size"] == len(response.body) < 1000


async def test_transforms_of_the_owner_are_kept_and_not_changed() -> None:
    class Shout(OutputTransform):
        def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
            return chunk.upper()

    transforms = [Shout]
    async with serving(app(Route("/", Long), transforms=transforms)) as client:
        response = await client.get("/")
    assert response.headers["X-Request-ID"]
    assert transforms == [Shout]


@pytest.mark.parametrize(
    ("method", "path", "size", "headers", "status"),
    [
        ("GET", "/nowhere", 0, {}, 404),
        ("DELETE", "/items", 0, {}, 405),
        ("POST", "/items", 2_000_000, {}, 413),
        ("POST", "/items", 2, {"Origin": "https://elsewhere.example"}, 403),
    ],
)
async def test_every_error_of_the_runtime_says_what_to_do(
    client: Client, method: str, path: str, size: int, headers: dict[str, str], status: int
) -> None:
    response = await client.fetch(method, path, size * b"x" or None, **headers)
    assert response.code == status
    assert response_problem(response)["detail"]
