"""Stopping with requests in flight, on a real process and over real sockets."""

import asyncio
import contextlib
import signal
import time

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .harness import Answer, Service, Starter, get, until

MARGIN = 1.0
"""Seconds that the contract allows over the time that is due."""


async def many(service: Service, count: int, path: str) -> list[asyncio.Task[Answer]]:
    """Send requests and return once the service has all of them in flight."""
    tasks = [asyncio.create_task(get(service.port, path)) for _ in range(count)]
    await asyncio.sleep(1)
    return tasks


@pytest.mark.parametrize("path", ["/sleep/2", "/plain/2", "/thread/2"])
async def test_requests_in_flight_are_answered(run: Starter, path: str) -> None:
    service = run.faulty(APP_THREADS=50)
    tasks = await many(service, 50, path)
    signalled = service.signal()
    answers = await asyncio.gather(*tasks)
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled < 2 + MARGIN
    assert [answer.status for answer in answers] == [200] * 50
    assert {answer.headers.get("connection") for answer in answers} == {"close"}
    assert code == 0
    assert "draining, requests in flight: 50" in service.messages()
    assert service.messages()[-1] == "stopped"
    assert not any("cut" in message for message in service.messages())


async def test_answers_keep_the_connection_while_nothing_stops(run: Starter) -> None:
    service = run.faulty()
    answer = await get(service.port, "/sleep/0")
    assert "connection" not in answer.headers


@pytest.mark.parametrize("path", ["/sleep/60", "/plain/60", "/thread/60", "/block/60"])
async def test_a_stuck_request_is_cut_in_time_and_counted(run: Starter, path: str) -> None:
    service = run.faulty(APP_DRAIN_TIMEOUT=2)
    tasks = await many(service, 1, path)
    signalled = service.signal()
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled == pytest.approx(2, abs=MARGIN)
    assert code == 0
    assert service.records()[-1]["level"] == "warning"
    assert service.messages()[-1] == "2 s after SIGTERM: requests cut: 1, WebSockets cut: 0"
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await tasks[0]


@pytest.mark.parametrize("path", ["/sleep/60", "/thread/60", "/block/60"])
async def test_a_second_signal_stops_at_once(run: Starter, path: str) -> None:
    service = run.faulty()
    tasks = await many(service, 1, path)
    service.signal(signal.SIGINT)
    await asyncio.sleep(0.5)
    assert service.process.poll() is None
    signalled = service.signal(signal.SIGINT)
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled < MARGIN
    assert code == 1
    assert service.messages()[-1] == "second signal, SIGINT: requests cut: 1, WebSockets cut: 0"
    await asyncio.wait(tasks)
    assert isinstance(tasks[0].exception(), ConnectionError | asyncio.IncompleteReadError)


async def test_websockets_are_closed_with_going_away(run: Starter) -> None:
    service = run.faulty()
    url = f"ws://127.0.0.1:{service.port}/echo"
    sockets: list[WebSocketClientConnection] = [await websocket_connect(url) for _ in range(100)]
    for socket in sockets:
        await socket.write_message("still there?")
    assert [await socket.read_message() for socket in sockets] == ["still there?"] * 100
    signalled = service.signal()
    assert [await socket.read_message() for socket in sockets] == [None] * 100
    assert [socket.close_code for socket in sockets] == [1001] * 100
    assert await asyncio.to_thread(service.wait) == 0
    assert time.monotonic() - signalled < 2 + MARGIN
    closed = [r for r in service.records() if r.get("websocket.close_code") == 1001]
    assert len(closed) == 100


async def test_a_websocket_that_does_not_answer_is_cut_and_counted(run: Starter) -> None:
    service = run.faulty(APP_DRAIN_TIMEOUT=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(
        b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    service.signal()
    assert await asyncio.to_thread(service.wait) == 0
    assert service.messages()[-1] == "1 s after SIGTERM: requests cut: 0, WebSockets cut: 1"
    writer.close()


async def test_not_ready_first_then_served_for_the_delay(run: Starter) -> None:
    service = run.faulty(APP_DRAIN_DELAY=3)
    assert service.ask("/readyz", admin=True).json == {"ready": True}
    signalled = service.signal()
    until(lambda: service.ask("/readyz", admin=True).status == 503, "not ready", patience=1)
    answered = 0
    while time.monotonic() - signalled < 2.5:
        answer = await get(service.port, "/greetings/Ada")
        assert (answer.status, answer.headers.get("connection")) == (200, None)
        ready = service.ask("/readyz", admin=True)
        assert (ready.status, ready.json["reasons"]) == (503, ["draining"])
        assert service.ask("/livez", admin=True).status == 200
        answered += 1
    assert answered > 10
    assert await asyncio.to_thread(service.wait) == 0
    assert 3 <= time.monotonic() - signalled < 3 + MARGIN


async def test_stopping_under_load_answers_all_that_was_accepted(run: Starter) -> None:
    service = run.faulty()
    answers: list[Answer] = []
    refused = []

    async def client() -> None:
        # A client that keeps its connection and leaves it when it is told to.
        while not refused:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            except ConnectionRefusedError as error:
                refused.append(error)
                return
            with contextlib.closing(writer):
                close = False
                while not close:
                    writer.write(b"GET /sleep/0.01 HTTP/1.1\r\nHost: x\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(len(b'{"slept":"0.01"}'))
                    assert head.startswith(b"HTTP/1.1 200 "), head
                    answers.append(Answer(200, {}, body))
                    close = b"Connection: close" in head

    clients = [asyncio.create_task(client()) for _ in range(10)]
    await asyncio.to_thread(until, lambda: len(answers) > 1000, "a thousand answers")
    service.signal()
    await asyncio.gather(*clients)
    assert await asyncio.to_thread(service.wait) == 0
    access = [record for record in service.records() if record["logger"] == "access"]
    assert len(access) == len(answers)
