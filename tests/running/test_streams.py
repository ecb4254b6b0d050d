"""Many streams of events and WebSockets on several workers: reloaded and stopped."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from runtime.http1.server import CLOSING_TIME, FEW_WEBSOCKETS
from runtime.testing import open_events
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .harness import Service, Starter, until
from .operate import reload, send_requests

STREAMS = Path(__file__).with_name("streams.py")
WORKERS = 4
AT_ONCE = 50
"""Connections that are opened at once: the queue of a listener is not endless."""
STOP = 3.0
"""Seconds that a stop may take."""
MARGIN = 5.0
"""Seconds that a busy machine may add; what is not in time would take a drain time-out longer."""

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("many_files")


async def in_turn(start: Callable[[], Awaitable[T]], count: int) -> list[T]:
    """Start something so many times, `AT_ONCE` at a time. Return what it has returned."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> T:
        async with slots:
            return await start()

    return await asyncio.gather(*(one() for _ in range(count)))


class EventSource:
    """Reads a stream as a browser does: what ends is asked for again, after the last event."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.numbers: list[int] = []
        self.pids: set[int] = set()
        self.ends = 0
        """Streams that have ended as they should."""
        self.cuts = 0
        self.is_stopping = False
        self.opened = asyncio.Event()

    async def run(self) -> None:
        headers: dict[str, str] = {}
        while True:
            with suppress(ConnectionRefusedError):  # if the service has stopped
                retry = await self._read(headers)
            if self.is_stopping:
                return
            await asyncio.sleep(retry)
            headers = {"Last_Event_ID": str(self.numbers[-1])} if self.numbers else {}

    async def _read(self, headers: dict[str, str]) -> float:
        """Read to the end of a stream. Return the seconds to wait then."""
        retry = 0
        try:
            async with open_events(self.port, "/numbers", **headers) as events:
                self.opened.set()
                async for event in events:
                    self.numbers.append(event.json()["number"])
                    self.pids.add(event.json()["pid"])
                    retry, events.retry = events.retry or retry, None
                self.ends += events.retry is not None  # told once more, at the end
                return (events.retry or retry) / 1000
        except ConnectionRefusedError:
            raise
        except ConnectionError:
            self.cuts += 1
            return retry / 1000


async def read_to_close(websocket: WebSocketClientConnection) -> tuple[float, int | None]:
    """Wait for the end of a WebSocket. Return when that was, and the code."""
    while await websocket.read_message() is not None:
        pass
    return time.monotonic(), websocket.close_code


async def open_websockets(service: Service, count: int) -> list[WebSocketClientConnection]:
    url = f"ws://127.0.0.1:{service.port}/socket"
    return await in_turn(lambda: websocket_connect(url), count)


def closings(sockets: Sequence[WebSocketClientConnection]) -> "asyncio.Future[Any]":
    return asyncio.gather(*map(read_to_close, sockets))


def vitals(service: Service) -> dict[str, int]:
    workers = service.ask("/workers", admin=True).json["workers"]
    names = ("websockets", "event_streams", "requests_in_flight")
    return {name: sum(worker[name] for worker in workers) for name in names}


def gauges(service: Service) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for line in service.ask("/metrics", admin=True).body.decode().splitlines():
        if line.startswith(("websockets_open{", "event_streams_open{")):
            sums[line.partition("{")[0]] += float(line.rpartition(" ")[2])
    return dict(sums)


async def wait(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(until, condition, what)


def start(run: Starter) -> Service:
    service = run.faulty(STREAMS, APP_WORKERS=WORKERS, BEGIN=time.time())
    service.workers(WORKERS)
    return service


@pytest.mark.seconds
@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.exhaustive)])
async def test_streams_and_websockets_end_in_order(run: Starter, count: int) -> None:
    service = await asyncio.to_thread(start, run)
    sources = [EventSource(service.port) for _ in range(count)]
    reading = [asyncio.create_task(source.run()) for source in sources]
    for source in sources:
        await source.opened.wait()
    closed = closings(await open_websockets(service, count))
    opened = {"websockets": count, "event_streams": count, "requests_in_flight": 0}
    await wait(lambda: vitals(service) == opened, "open streams and WebSockets")
    assert gauges(service) == {"websockets_open": count, "event_streams_open": count}

    await asyncio.to_thread(reload, service)
    assert {code for _, code in await closed} == {1001}
    closed = closings(await open_websockets(service, count))
    workers = set(service.workers(WORKERS))
    await wait(
        lambda: all(source.pids & workers and source.ends for source in sources),
        "events of the new workers",
    )
    await wait(lambda: vitals(service) == opened, "open streams and WebSockets")
    ends = sum(source.ends for source in sources)

    for source in sources:
        source.is_stopping = True
    signalled = service.signal()
    code = await asyncio.to_thread(service.wait)
    seconds = time.monotonic() - signalled
    print(f"{count} streams and {count} WebSockets: stopped in {seconds:.2f} s")
    assert code == 0
    assert seconds < STOP + MARGIN
    await asyncio.gather(*reading)
    moments, codes = zip(*await closed, strict=True)
    assert set(codes) == {1001}
    if count > WORKERS * FEW_WEBSOCKETS:
        assert max(moments) - min(moments) > CLOSING_TIME / 2
    assert sum(source.ends for source in sources) - ends == count
    assert sum(source.cuts for source in sources) == 0
    for source in sources:
        first, last = source.numbers[0], source.numbers[-1]
        assert source.numbers == list(range(first, last + 1))  # each of them, once
    records = service.records()
    assert [r["message"] for r in records if r["level"] in ("warning", "error")] == []
    assert records[-1]["message"] == "stopped"


async def test_stream_that_does_not_end_is_aborted_and_named(run: Starter) -> None:
    service = await asyncio.to_thread(run.faulty, STREAMS, APP_DRAIN_TIMEOUT=0.5, BEGIN=0)
    async with open_events(service.port, "/stubborn") as events:
        assert (await anext(events)).data == "hello"
        service.signal()
        with pytest.raises(ConnectionError):
            await anext(events)
    assert await asyncio.to_thread(service.wait) == 0
    aborted = "0.5 s after SIGTERM: aborted 1 requests, 0 WebSockets and 0 tasks"
    assert service.messages()[-2:] == [f"{aborted}: event stream /stubborn", "stopped"]


def test_idle_stream_takes_little_memory(run: Starter) -> None:
    service = run.faulty(STREAMS, APP_IDLE_TIMEOUT=600, BEGIN=time.time() + 3600)
    warm_up, count = 300, 1000
    with send_requests(service.port, "/numbers", warm_up):
        until(lambda: vitals(service)["event_streams"] == warm_up, "streams")
        before = service.rss()
        with send_requests(service.port, "/numbers", count):
            until(lambda: vitals(service)["event_streams"] == warm_up + count, "streams")
            growth = (service.rss() - before) / count
    print(f"{growth:.0f} bytes for each stream")
    assert growth < 20 * 1024
