"""Connections: requests on them, limits, time-outs, and what is rejected."""

import asyncio
import socket
from http import HTTPStatus

from runtime.settings import Settings
from runtime.testing import Client, Record, serving, wait_until

from ..support.access import access_lines
from ..support.connections import RawConnection
from ..support.sample_app import make_app

REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


async def test_connection_is_reused_for_further_requests(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        for _ in range(3):
            response = await connection.get("/")
            assert response.status == HTTPStatus.OK
            assert "Connection" not in response.headers
        assert len(client.app.connections.open) == 1
    await wait_until(lambda: not client.app.connections.open)


async def test_idle_connection_is_open_but_has_no_request_in_flight(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        await connection.get("/")
        await wait_until(lambda: not client.app.connections.in_flight)
        assert len(client.app.connections.open) == 1
        assert not client.app.connections.busy


async def test_pipelined_requests_are_handled_in_order(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        connection.send(REQUEST + REQUEST.replace("GET /", "GET /nowhere"))
        assert (await connection.response()).status == HTTPStatus.OK
        assert (await connection.response()).status == HTTPStatus.NOT_FOUND


async def test_nothing_is_handled_behind_the_last_request(client: Client) -> None:
    last = REQUEST.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    async with RawConnection(client.port) as connection:
        connection.send(last + REQUEST)
        assert (await connection.read_to_end()).count(b"HTTP/1.1 ") == 1


async def test_each_request_of_a_connection_has_its_own_id(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        first = await connection.get("/", X_Request_ID="first")
        second = await connection.get("/nowhere", X_Request_ID="second")
        third = await connection.get("/")
    ids = [response.headers["X-Request-ID"] for response in (first, second, third)]
    assert ids[:2] == ["first", "second"]
    assert second.json()["request_id"] == "second"
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in access_lines(log_records)] == ids


async def test_malformed_request_is_logged_without_the_id_of_the_one_before(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        await connection.get("/", X_Request_ID="first")
        connection.send("nonsense\r\n\r\n")
        await connection.read_to_end()
    [record] = [record for record in log_records if record["message"].startswith("malformed")]
    assert record["request_id"] not in {None, "first"}


async def test_header_lines_that_end_in_bare_lf_are_rejected(client: Client) -> None:
    for bare in (
        REQUEST.replace("localhost\r\n", "localhost\n"),
        REQUEST.replace("HTTP/1.1\r\n", "HTTP/1.1\n"),
        REQUEST.replace("\r\n\r\n", "\n\n"),
        REQUEST.replace("\r\n\r\n", "\r\n\n"),
    ):
        async with RawConnection(client.port) as connection:
            connection.send(bare)
            assert (await connection.read_to_end()).startswith(b"HTTP/1.1 400 ")


async def test_body_may_contain_bare_lf(client: Client) -> None:
    assert (await client.post("/items", b'{\n"name":\n"cup"}')).code == HTTPStatus.CREATED


async def test_chunked_body_has_the_same_size_limit() -> None:
    head = (
        "POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    async with serving(make_app(Settings(max_body_size=20))) as client:
        async with RawConnection(client.port) as connection:
            connection.send(head + 'f\r\n{"name": "cup"}\r\n0\r\n\r\n')
            assert (await connection.response()).status == HTTPStatus.CREATED
        async with RawConnection(client.port) as connection:
            connection.send(f"{head}15\r\n{21 * ' '}\r\n0\r\n\r\n")
            assert (await connection.read_to_end()).startswith(b"HTTP/1.1 413 ")


async def test_headers_are_limited_to_16_kib(client: Client) -> None:
    async with RawConnection(client.port) as connection:
        assert (await connection.get("/", Cookie=15 * 1024 * "x")).status == HTTPStatus.OK
    async with RawConnection(client.port) as connection:
        connection.send_get("/", Cookie=17 * 1024 * "x")
        assert b" 200 " not in await connection.read_to_end()


async def test_idle_connection_is_closed_after_idle_timeout() -> None:
    async with (
        serving(make_app(Settings(idle_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        assert await connection.read_to_end() == b""


async def test_connection_is_closed_if_the_body_exceeds_body_timeout() -> None:
    async with (
        serving(make_app(Settings(body_timeout=0.05))) as client,
        RawConnection(client.port) as connection,
    ):
        connection.send("POST /items HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123")
        assert b" 201 " not in await connection.read_to_end()
        await wait_until(lambda: not client.app.connections.in_flight)


async def test_connection_closes_before_a_request_without_a_trace(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send("GET / HTTP/1.1\r\nHos")
        await wait_until(lambda: client.app.connections.open)
    await wait_until(lambda: not client.app.connections.open)
    assert access_lines(log_records) == []
    assert not [record for record in log_records if record["level"] == "error"]


async def test_connection_for_one_request_asks_the_client_to_connect_anew(client: Client) -> None:
    ours, theirs = socket.socketpair()
    client.server.accept(theirs, ("127.0.0.1", 0), close_after_response=True)
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(REQUEST.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in head
