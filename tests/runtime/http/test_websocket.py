"""WebSockets: handshakes, errors, and the books of open ones."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import pytest
from runtime.http.application import Application
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.settings import Settings
from runtime.testing import Client, Record, serving, wait_until
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClosedError

from ..support.access import access_lines
from ..support.connections import RawConnection, close

PARTNER = "https://partner.example"


class Echo(WebSocket):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


async def test_messages_up_to_the_body_limit_are_received() -> None:
    app = Application(Settings(max_body_size=1000), [Route("/", Echo)])
    async with serving(app) as client, client.websocket("/") as websocket:
        await websocket.write_message("x" * 1000)
        assert await websocket.read_message() == "x" * 1000
        await websocket.write_message("x" * 1001)
        assert await websocket.read_message() is None
    assert websocket.close_code == 1009


async def test_websocket_is_tracked_until_it_is_closed(client: Client) -> None:
    connections = client.app.connections
    async with client.websocket("/socket") as first, client.websocket("/socket") as second:
        await wait_until(lambda: len(connections.websockets) == 2)
        assert not connections.requests
        assert connections.busy
        await wait_until(lambda: not connections.open)
        await close(first)
        await wait_until(lambda: len(connections.websockets) == 1)
        await close(second)
        await wait_until(lambda: not connections.websockets)
    assert not connections.busy


async def test_handshake_and_close_are_logged(client: Client, log_records: list[Record]) -> None:
    async with client.websocket("/socket", X_Request_ID="check-17") as websocket:
        await close(websocket, 4017)
        await wait_until(lambda: not client.app.connections.websockets)
    lines = access_lines(log_records)
    assert [line["http.response.status_code"] for line in lines] == [101, 101]
    assert [line["request_id"] for line in lines] == ["check-17", "check-17"]
    assert [line.get("websocket.close_code") for line in lines] == [None, 4017]


async def test_cross_origin_handshake_is_rejected(client: Client) -> None:
    with pytest.raises(HTTPClientError) as caught:
        async with client.websocket("/socket", Origin="https://elsewhere.example"):
            pass
    response = caught.value.response
    assert response is not None
    assert response.code == 403


async def test_same_origin_handshake_is_accepted(client: Client) -> None:
    origin = f"http://127.0.0.1:{client.port}"
    for site in "same-origin", "none":
        async with client.websocket("/socket", Origin=origin, Sec_Fetch_Site=site) as websocket:
            await close(websocket)


async def test_handshake_is_rejected_while_draining(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        await connection.get("/")
        client.app.connections.draining.set()
        response = await connection.get("/socket", **HANDSHAKE)
    assert (response.status, response.headers["Connection"]) == (503, "close")
    assert response.json()["detail"] == "The service is shutting down."


async def test_client_that_disconnects_during_the_handshake_has_no_websocket(
    log_records: list[Record],
) -> None:
    class Slow(WebSocket):
        async def prepare(self) -> None:
            assert super().prepare() is None
            arrived.set()
            await closed.wait()

        def on_connection_close(self) -> None:
            super().on_connection_close()
            closed.set()

    arrived, closed = asyncio.Event(), asyncio.Event()
    app = Application(Settings(), [Route("/", Slow)])
    async with serving(app) as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/", **HANDSHAKE)
            await arrived.wait()
        await wait_until(lambda: access_lines(log_records))
        assert not client.app.connections.busy
    lines = access_lines(log_records)
    assert [line["http.response.status_code"] for line in lines] == [499]


class Failing(WebSocket):
    """A WebSocket that fails in a method."""

    def initialize(self, method: str, error: BaseException) -> None:
        self.method, self.error = method, error
        self._step("initialize")

    def prepare(self) -> None:
        self._step("prepare")
        assert super().prepare() is None

    def check_origin(self, origin: str) -> bool:
        self._step("check_origin")
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self._step("select_subprotocol")
        return None

    def on_finish(self) -> None:  # without `super()`
        self._step("on_finish")

    def open(self, *args: str, **kwargs: str) -> Awaitable[None] | None:
        self._step("open")
        return self._later() if self.method == "open later" else None

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        self._step("on_message")
        return self._later() if self.method == "on_message later" else None

    def on_close(self) -> None:
        self._step("on_close")

    def _step(self, name: str) -> None:
        if name == self.method:
            raise self.error

    async def _later(self) -> None:
        await asyncio.sleep(0)
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError, ValueError, asyncio.CancelledError])
@pytest.mark.parametrize(
    "method",
    ["open", "open later", "on_message", "on_message later", "on_close", "on_finish"],
)
async def test_websocket_that_fails_is_forgotten(
    method: str, error: type[BaseException], log_records: list[Record]
) -> None:
    app = Application(Settings(), [Route("/", Failing, method=method, error=error())])
    async with serving(app) as client:
        async with client.websocket("/", Origin="http://127.0.0.1") as websocket:
            with suppress(WebSocketClosedError):
                await websocket.write_message("message")
            websocket.close()
            await websocket.read_message()
        await wait_until(lambda: not app.connections.busy)
    statuses = [line["http.response.status_code"] for line in access_lines(log_records)]
    assert statuses == ([101] if method == "on_finish" else [101, 101])


@pytest.mark.parametrize("method", ["initialize", "prepare", "check_origin", "select_subprotocol"])
async def test_websocket_that_fails_before_its_handshake_is_an_error(
    method: str, log_records: list[Record]
) -> None:
    app = Application(Settings(), [Route("/", Failing, method=method, error=ZeroDivisionError())])
    async with serving(app) as client, RawConnection(client.port) as connection:
        response = await connection.get("/", **HANDSHAKE, Origin="https://elsewhere.example")
        assert response.status == 500
        await wait_until(lambda: not app.connections.busy)
    lines = access_lines(log_records)
    assert [line["http.response.status_code"] for line in lines] == [500]


class FromPartner(WebSocket):
    def check_origin(self, origin: str) -> bool:
        return origin == PARTNER


@pytest.mark.parametrize(
    "app",
    [
        Application(Settings(), [Route("/", FromPartner)]),
        Application(Settings(), [Route("/", WebSocket)], trusted_origins=[PARTNER]),
    ],
)
async def test_service_may_allow_other_origins(app: Application) -> None:
    async with serving(app) as client:
        for site in {}, {"Sec_Fetch_Site": "cross-site"}:
            async with client.websocket("/", Origin=PARTNER, **site) as websocket:
                await close(websocket)
        async with RawConnection(client.port) as connection:
            response = await connection.get("/", **HANDSHAKE, Origin="https://elsewhere.example")
        assert response.status == 403
        assert response.headers["Content-Type"] == "application/problem+json"


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("difference", "status"),
    [
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "close"}, 426),
        ({"Sec_WebSocket_Version": "12"}, 426),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
async def test_invalid_handshake_gets_a_problem(
    client: Client, difference: dict[str, str], status: int
) -> None:
    async with RawConnection(client.port) as connection:
        response = await connection.get("/socket", **HANDSHAKE | difference)
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.headers.get("Upgrade") == ("websocket" if status == 426 else None)


async def test_handshake_over_http_1_0_is_rejected(client: Client) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in HANDSHAKE.items())
    async with RawConnection(client.port) as connection:
        connection.send(f"GET /socket HTTP/1.0\r\nHost: localhost\r\n{lines}\r\n")
        assert (await connection.response()).status == 426


async def test_handshake_with_another_method_is_rejected(client: Client) -> None:
    for method in "HEAD", "POST":
        response = await client.fetch(method, "/socket", **HANDSHAKE)
        assert response.code == 426


async def test_plain_request_gets_426(client: Client) -> None:
    response = await client.get("/socket")
    assert response.code == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"


async def test_extensions_are_declined(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        response = await connection.get(
            "/socket", **HANDSHAKE, Sec_WebSocket_Extensions="permessage-x; a="
        )
        assert response.status == 101
        assert "Sec-WebSocket-Extensions" not in response.headers
    await wait_until(lambda: not client.app.connections.requests)


async def test_compression_is_negotiated_if_the_handler_wants_it() -> None:
    class Compressed(Echo):
        def get_compression_options(self) -> dict[str, object]:
            return {}

    app = Application(Settings(), [Route("/", Compressed)])
    async with serving(app) as client, RawConnection(client.port) as connection:
        response = await connection.get(
            "/", **HANDSHAKE, Sec_WebSocket_Extensions="permessage-deflate"
        )
        assert response.status == 101
        assert response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
