"""Stopping a single process while it has many requests in flight."""

import asyncio
import contextlib
import signal
import time

import pytest

from .harness import Answer, Service, Starter, get, until
from .operate import in_flight

MARGIN = 5.0
"""Seconds that a busy machine may add; what is not in time would take a drain time-out longer."""


async def ask_many(service: Service, *paths: str) -> list[asyncio.Task[Answer]]:
    """Send a request for each path and return once the service has all of them in flight."""
    tasks = [asyncio.create_task(get(service.port, path)) for path in paths]

    count = len(paths)
    await asyncio.to_thread(until, lambda: in_flight(service) == count, f"{count} in flight")
    return tasks


@pytest.mark.seconds
async def test_requests_in_flight_are_answered(run: Starter) -> None:
    service = run.faulty(APP_THREADS=50)
    tasks = await ask_many(service, *["/sleep/2", "/plain/2", "/thread/2"] * 16)
    signalled = service.signal()
    answers = await asyncio.gather(*tasks)
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled < 2 + MARGIN
    assert [answer.status for answer in answers] == [200] * 48
    assert {answer.headers.get("connection") for answer in answers} == {"close"}
    assert code == 0
    assert "draining, requests in flight: 48" in service.messages()
    assert service.messages()[-1] == "stopped"
    assert not any("aborted" in message for message in service.messages())


@pytest.mark.seconds
async def test_stuck_requests_are_aborted_after_drain_timeout(run: Starter) -> None:
    service = run.faulty(APP_DRAIN_TIMEOUT=2)
    tasks = await ask_many(service, "/sleep/60", "/plain/60", "/thread/60")
    signalled = service.signal()
    code = await asyncio.to_thread(service.wait)
    assert 2 <= time.monotonic() - signalled < 2 + MARGIN
    assert code == 0
    assert service.records()[-2]["level"] == "warning"
    aborted, _, names = service.messages()[-2].rpartition(": ")
    assert aborted == "2 s after SIGTERM: aborted 3 requests, 0 WebSockets and 0 tasks"
    assert set(names.split(", ")) == {
        f"GET /{way}/{{seconds}}" for way in ("sleep", "plain", "thread")
    }
    await asyncio.wait(tasks)
    for task in tasks:
        assert isinstance(task.exception(), ConnectionError | asyncio.IncompleteReadError)


@pytest.mark.seconds
async def test_second_signal_stops_blocked_process_immediately(run: Starter) -> None:
    service = run.faulty()
    tasks = await ask_many(service, "/thread/60")
    tasks.append(asyncio.create_task(get(service.port, "/block/60")))
    await asyncio.to_thread(service.wait_for_message, "blocking")
    # Nothing shows that it has taken the first. Two equal ones that wait would be one.
    service.signal(signal.SIGINT)
    signalled = service.signal(signal.SIGTERM)
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled < MARGIN
    assert code == 1
    aborted, _, names = service.messages()[-2].rpartition(": ")
    assert aborted == "second signal, SIGTERM: aborted 2 requests, 0 WebSockets and 0 tasks"
    assert set(names.split(", ")) == {"GET /thread/{seconds}", "GET /block/{seconds}"}
    await asyncio.wait(tasks)


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
