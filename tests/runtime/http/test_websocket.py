import pytest
from tornado.httpclient import HTTPClientError

from .support import Client, Record, close, wait_until


async def test_an_open_one_is_known_and_a_closed_one_forgotten(client: Client) -> None:
    first, second = await client.websocket("/socket"), await client.websocket("/socket")
    await wait_until(lambda: len(client.app.websockets) == 2)
    assert not client.app.in_flight
    await close(first)
    await wait_until(lambda: len(client.app.websockets) == 1)
    await close(second)
    await wait_until(lambda: not client.app.websockets)


async def test_the_log_has_its_beginning_and_its_end(client: Client, log_records: list[Record]) -> None:
    websocket = await client.websocket("/socket", X_Request_ID="check-17")
    await close(websocket, 4017)
    await wait_until(lambda: not client.app.websockets)
    lines = [record for record in log_records if record["logger"] == "access"]
    assert [line["http.response.status_code"] for line in lines] == [101, 101]
    assert [line["request_id"] for line in lines] == ["check-17", "check-17"]
    assert [line.get("websocket.close_code") for line in lines] == [None, 4017]


async def test_one_from_elsewhere_is_refused(client: Client) -> None:
    with pytest.raises(HTTPClientError) as caught:
        await client.websocket("/socket", Origin="https://elsewhere.example")
    response = caught.value.response
    assert response is not None
    assert response.code == 403


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
async def test_a_handshake_that_fails_is_a_problem(
    client: Client, difference: dict[str, str], status: int
) -> None:
    async with client.wire() as wire:
        answer = await wire.get("/socket", **HANDSHAKE | difference)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.headers.get("Upgrade") == ("websocket" if status == 426 else None)


async def test_a_request_that_is_no_handshake_is_told_so(client: Client) -> None:
    response = await client.get("/socket")
    assert response.code == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"


async def test_extensions_are_declined(client: Client) -> None:
    async with client.wire() as wire:
        answer = await wire.get("/socket", **HANDSHAKE, Sec_WebSocket_Extensions="permessage-x; a=")
        assert answer.status == 101
        assert "Sec-WebSocket-Extensions" not in answer.headers
    await wait_until(lambda: not client.app.in_flight)
