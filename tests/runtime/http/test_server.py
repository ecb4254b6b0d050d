from http import HTTPStatus

from runtime.settings import Settings

from .stand_in import make_app
from .support import Client, Record, serving, wait_until

REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


async def test_a_connection_carries_request_after_request(client: Client) -> None:
    async with client.wire() as wire:
        for _ in range(3):
            answer = await wire.get("/")
            assert answer.status == HTTPStatus.OK
            assert "Connection" not in answer.headers
        assert len(client.server.open) == 1
    await wait_until(lambda: not client.server.open)


async def test_between_requests_a_connection_carries_none(client: Client) -> None:
    async with client.wire() as wire:
        await wire.get("/")
        await wait_until(lambda: not client.app.in_flight)
        assert len(client.server.open) == 1


async def test_requests_may_be_sent_ahead(client: Client) -> None:
    async with client.wire() as wire:
        wire.send(REQUEST + REQUEST.replace("GET /", "GET /nowhere"))
        assert (await wire.answer()).status == HTTPStatus.OK
        assert (await wire.answer()).status == HTTPStatus.NOT_FOUND


async def test_nothing_is_answered_behind_the_last_request(client: Client) -> None:
    last = REQUEST.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    async with client.wire() as wire:
        wire.send(last + REQUEST)
        assert (await wire.rest()).count(b"HTTP/1.1 ") == 1


async def test_each_request_of_a_connection_has_its_own_id(
    client: Client, log_records: list[Record]
) -> None:
    async with client.wire() as wire:
        first = await wire.get("/", X_Request_ID="first")
        second = await wire.get("/nowhere", X_Request_ID="second")
        third = await wire.get("/")
    ids = [answer.headers["X-Request-ID"] for answer in (first, second, third)]
    assert ids[:2] == ["first", "second"]
    assert second.json()["request_id"] == "second"
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in log_records if line["logger"] == "access"] == ids


async def test_what_follows_a_request_does_not_have_its_id(
    client: Client, log_records: list[Record]
) -> None:
    async with client.wire() as wire:
        await wire.get("/", X_Request_ID="first")
        wire.send("nonsense\r\n\r\n")
        await wire.rest()
    [record] = [record for record in log_records if record["message"].startswith("Malformed")]
    assert record["request_id"] is None


async def test_header_lines_that_end_in_lf_alone_are_refused(client: Client) -> None:
    for bare in (
        REQUEST.replace("localhost\r\n", "localhost\n"),
        REQUEST.replace("HTTP/1.1\r\n", "HTTP/1.1\n"),
        REQUEST.replace("\r\n\r\n", "\n\n"),
        REQUEST.replace("\r\n\r\n", "\r\n\n"),
    ):
        async with client.wire() as wire:
            wire.send(bare)
            assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


async def test_header_lines_that_end_in_crlf_are_not(client: Client) -> None:
    async with client.wire() as wire:
        wire.send(REQUEST)
        assert (await wire.answer()).status == HTTPStatus.OK


async def test_a_body_may_contain_lf(client: Client) -> None:
    assert (await client.post("/items", b'{\n"name":\n"cup"}')).code == HTTPStatus.CREATED


async def test_a_body_in_chunks_has_the_same_limit() -> None:
    settings = Settings(max_body_size=20)
    head = (
        "POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    async with serving(make_app(settings), settings) as client:
        async with client.wire() as wire:
            wire.send(head + 'f\r\n{"name": "cup"}\r\n0\r\n\r\n')
            assert (await wire.answer()).status == HTTPStatus.CREATED
        async with client.wire() as wire:
            wire.send(f"{head}15\r\n{21 * ' '}\r\n0\r\n\r\n")
            assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


async def test_headers_that_are_too_large_are_refused(client: Client) -> None:
    async with client.wire() as wire:
        wire.ask("/", Cookie=17 * 1024 * "x")
        assert b" 200 " not in await wire.rest()


async def test_large_headers_are_not(client: Client) -> None:
    async with client.wire() as wire:
        assert (await wire.get("/", Cookie=15 * 1024 * "x")).status == HTTPStatus.OK


async def test_an_idle_connection_is_closed() -> None:
    settings = Settings(idle_timeout=0.05)
    async with serving(make_app(settings), settings) as client, client.wire() as wire:
        assert await wire.rest() == b""


async def test_a_body_that_does_not_come_is_given_up() -> None:
    settings = Settings(body_timeout=0.05)
    async with serving(make_app(settings), settings) as client, client.wire() as wire:
        wire.send("POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123")
        assert b" 201 " not in await wire.rest()
        await wait_until(lambda: not client.app.in_flight)
