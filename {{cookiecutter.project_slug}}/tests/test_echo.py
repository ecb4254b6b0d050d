import json
from collections.abc import AsyncIterator

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from {{ cookiecutter.package_name }}.app import make_app
from {{ cookiecutter.package_name }}.settings import Settings

from .support import Client, Record, serving, until


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = Settings(max_body_size=1000)
    async with serving(make_app(settings), settings) as client:
        yield client
        await until(lambda: not client.app.websockets)


async def close(echo: WebSocketClientConnection, code: int = 1000) -> None:
    echo.close(code)
    assert await echo.read_message() is None


async def test_text_comes_back_as_text_and_bytes_as_bytes(client: Client) -> None:
    echo = await client.websocket("/echo")
    for message in "caf\xe9", b"\x00\xff", "", 1000 * "x":
        await echo.write_message(message, binary=isinstance(message, bytes))
        assert await echo.read_message() == message
    await close(echo)


async def test_a_message_that_is_too_large_ends_it(client: Client) -> None:
    echo = await client.websocket("/echo")
    await echo.write_message(1001 * "x")
    assert await echo.read_message() is None
    assert echo.close_code == 1009
    echo.close()


async def test_an_open_one_is_known_and_a_closed_one_forgotten(client: Client) -> None:
    first, second = await client.websocket("/echo"), await client.websocket("/echo")
    await until(lambda: len(client.app.websockets) == 2)
    assert not client.app.in_flight
    await close(first)
    await until(lambda: len(client.app.websockets) == 1)
    await close(second)
    await until(lambda: not client.app.websockets)


async def test_the_log_has_its_beginning_and_its_end(client: Client, log: list[Record]) -> None:
    echo = await client.websocket("/echo", X_Request_ID="check-17")
    await close(echo, 4017)
    await until(lambda: not client.app.websockets)
    lines = [record for record in log if record["logger"] == "access"]
    assert [line["http.response.status_code"] for line in lines] == [101, 101]
    assert [line["request_id"] for line in lines] == ["check-17", "check-17"]
    assert [line.get("websocket.close_code") for line in lines] == [None, 4017]


async def test_one_from_elsewhere_is_refused(client: Client) -> None:
    with pytest.raises(HTTPClientError) as caught:
        await client.websocket("/echo", Origin="https://elsewhere.example")
    response = caught.value.response
    assert response is not None
    assert response.code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upgrade": "websocket"}, 400),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "12"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "http://x.example"}, 403),
    ],
)
async def test_a_handshake_that_fails_is_a_problem(
    client: Client, headers: dict[str, str], status: int
) -> None:
    async with client.wire() as wire:
        answer = await wire.get("/echo", **headers)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == status
