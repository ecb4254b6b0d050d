"""The live page and its stream, on the admin port."""

import logging
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from runtime.admin import live
from runtime.admin.feed import MAX_MESSAGES, START, Feed, Position
from runtime.admin.live import (
    CONTENT_SECURITY_POLICY,
    FOLDER,
    FOREIGN_NAME,
    MAX_STREAMS,
    TOO_MANY_STREAMS,
    _is_local_name,
    _is_loopback,
)
from runtime.monitor import history
from runtime.monitor.events import EVENT, RELOADED, WORKER_DIED, EventHandler
from runtime.monitor.history import SECOND, SECONDS
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.status import WorkerStatus
from runtime.testing import Client, Record, ServiceStarter, response_problem, wait_until

from ..support.connections import RawConnection
from ..support.fakes import FakeStatus

UPDATES = "/live/updates"


class Reader:
    """A browser that reads the stream."""

    def __init__(self, connection: RawConnection) -> None:
        self._connection = connection
        self.last_id = ""
        self.retry = ""

    async def begin(self, path: str = UPDATES, **headers: str) -> Self:
        self._connection.send_get(path, **headers)
        head = await self._connection.read_until(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        assert b"text/event-stream" in head
        return self

    async def message(self) -> Any:
        """Return the next message."""
        while True:
            event = (await self._connection.read_until(b"\n\n")).decode()
            if match := re.search(r"^retry: (\d+)$", event, re.MULTILINE):
                self.retry = match[1]
            if match := re.search(r"^id: (.*)$", event, re.MULTILINE):
                self.last_id = match[1]
                return orjson.loads(event.partition("data: ")[2])


@asynccontextmanager
async def reading(client: Client, path: str = UPDATES, **headers: str) -> AsyncIterator[Reader]:
    async with RawConnection(client.port) as connection:
        yield await Reader(connection).begin(path, **headers)


@pytest.fixture
def feed(status: FakeStatus) -> Feed:
    """A feed of a service with this status, whose seconds the test records."""
    return Feed(status, Monitor("orders", slots=2))


async def test_page_comes_with_a_strict_policy_and_nothing_inline(admin: Client) -> None:
    response = await admin.get("/")
    assert response.code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    page = response.body.decode()
    assert "<style" not in page
    assert not re.search(r"<script[^>]*>[^<]", page)
    assert not re.search(r"\son\w+=|style=", page)


async def test_page_links_its_own_files_only(admin: Client) -> None:
    page = (await admin.get("/")).body.decode()
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert links
    for link in links:
        response = await admin.get(f"/{link}")
        assert response.code == 200
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_script_writes_text_only() -> None:
    for script in FOLDER.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", script.read_text())


async def test_head_of_the_page(admin: Client) -> None:
    response = await admin.fetch("HEAD", "/")
    assert (response.code, response.body) == (200, b"")


async def test_stream_begins_with_the_history_and_goes_on_each_second(
    admin: Client, status: FakeStatus
) -> None:
    status.workers = [WorkerStatus(0, 42, True, 3, 0.5, 1, "ready", 60.0, 17, 1 << 26)]
    async with reading(admin) as reader:
        first = await reader.message()
        status.counted.record(200, 0.01)
        status.counted.record(500, 0.01)
        status.reasons += ["draining"]
        second = await reader.message()
    assert (first["reset"], first["requests"], first["reasons"]) == (True, 0, [])
    assert (second["reset"], second["requests"], second["errors"]) == (False, 2, 1)
    assert second["reasons"] == ["draining"]
    assert second["seconds"]["number"] == [second["now"]]
    assert (second["seconds"]["requests"], second["seconds"]["in_flight"]) == ([2], [3])
    assert int(reader.retry) <= 1000
    [worker] = second["workers"]
    assert [*worker.pop("points")] == ["number", "rate", "in_flight", "lag", "memory"]
    assert worker == {
        "worker": 0,
        "pid": 42,
        "state": "ready",
        "age": 60,
        "requests": 17,
        "in_flight": 3,
        "lag": 0.5,
        "memory": 1 << 26,
        "restarts": 1,
        "version": "",
        "revision": "",
    }


async def test_client_that_comes_back_gets_what_it_has_missed(
    admin: Client, status: FakeStatus
) -> None:
    async with reading(admin) as reader:
        await reader.message()
        before = await reader.message()
    async with reading(admin) as other:  # until two more seconds have passed
        for _ in range(3):
            latest = await other.message()
    async with reading(admin, Last_Event_ID=reader.last_id) as reader_again:
        missed = await reader_again.message()
    async with reading(admin, f"{UPDATES}?after={reader.last_id}") as reader_again:
        missed_too = await reader_again.message()
    for message in (missed, missed_too):
        assert not message["reset"]
        numbers = message["seconds"]["number"]
        assert numbers == list(range(before["now"] + 1, message["now"] + 1))
        assert message["now"] >= latest["now"]


async def test_client_of_another_run_gets_everything(admin: Client) -> None:
    async with reading(admin, Last_Event_ID="0a0b0c0d-12-3") as reader:
        assert (await reader.message())["reset"]


def test_positions(feed: Feed) -> None:
    feed.record()
    _, position = feed.message(START)
    token = feed.id_of(position).partition("-")[0]
    assert feed.position_of(feed.id_of(position)) == position
    # Nobody has read what is yet to come.
    assert feed.position_of(f"{token}-{'9' * 4000}-{'9' * 4000}") == position
    for identifier in (
        "",
        "x",
        token,
        f"{token}-1",
        f"{token}-1-2-3",
        f"{token}-a-b",
        f"{token}--",
        f"{token}-\u0661-1",
        "\x00",
    ):
        assert feed.position_of(identifier) == START


def test_all_browsers_get_the_same_message(feed: Feed) -> None:
    feed.record()
    assert feed.message(START)[0] is feed.message(START)[0]


def test_messages_of_many_positions_are_not_kept(feed: Feed) -> None:
    feed.record()
    for event in range(1000):
        feed.message(Position(1, event))
        assert 0 < len(feed._messages) <= MAX_MESSAGES


def test_event_comes_with_its_stack(feed: Feed, log_records: list[Record]) -> None:
    logger = logging.getLogger("runtime.test_live")
    handler = EventHandler(feed._monitor.events.append)
    logger.addHandler(handler)
    try:
        hostile = "</script><img src=x onerror=alert(1)>"
        logger.error(hostile, extra={EVENT: WORKER_DIED, "code.stacktrace": "File a.py"})
        feed.record()
        text, position = feed.message(START)
        logger.info("reloaded", extra={EVENT: RELOADED})
        feed.record()
        later, _ = feed.message(position)
    finally:
        logger.removeHandler(handler)
    [event] = orjson.loads(text)["events"]
    assert (event["number"], event["event"]["message"]) == (1, hostile)
    assert (event["event"]["level"], event["event"]["stack"]) == ("error", "File a.py")
    [event] = orjson.loads(later)["events"]
    assert (event["number"], event["event"]["name"]) == (2, RELOADED)


def test_days_leave_no_more_than_fifteen_minutes(
    feed: Feed, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    status.workers = [WorkerStatus(0, 42, True, 0, 0.0, 0)]
    now = 1000
    monkeypatch.setattr(history, "clock", lambda: now * SECOND)
    sizes, position = set(), START
    for day in range(3):
        for _ in range(SECONDS + 100):
            status.counted.record(200, 0.01)
            feed.record()
            now += 1
            _, position = feed.message(position)
        message = feed.message(START)[0]
        sizes.add(len(message) // 1000)
        assert len(orjson.loads(message)["seconds"]["number"]) == SECONDS
        now += 24 * 3600 * day
    assert max(sizes) < 100
    assert len(feed._messages) <= 2


def test_workers_beyond_the_slots_have_no_points(feed: Feed, status: FakeStatus) -> None:
    status.workers = [WorkerStatus(number, 42, True, 0, 0.0, 0) for number in range(3)]
    feed.record()
    workers = orjson.loads(feed.message(START)[0])["workers"]
    assert [worker["worker"] for worker in workers] == [0, 1, 2]
    assert workers[2]["points"]["number"] == []


async def test_status_that_cannot_be_read_is_logged_and_read_again(
    status: FakeStatus, feed: Feed, log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = status.worker_statuses
    failures = iter([ValueError("a process has just exited")])

    def fail_once() -> list[WorkerStatus]:
        for failure in failures:
            raise failure
        return read()

    monkeypatch.setattr(status, "worker_statuses", fail_once)
    async with feed.running(Settings()):
        await feed.next_second()
    assert "cannot record the history" in [record["message"] for record in log_records]
    assert feed.message(START)[1] != START


async def test_stalled_browser_is_disconnected(
    admin: Client, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STALL_TIMEOUT", 0.2)
    # More in each message than the buffers of a connection take in a few seconds.
    status.reasons += ["x" * (1 << 22)]
    streams = admin.app.connections.event_streams
    with socket.create_connection(("127.0.0.1", admin.port)) as browser:
        browser.sendall(f"GET {UPDATES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await wait_until(lambda: len(streams) == 1)
        await wait_until(lambda: not streams and not admin.app.connections.open)


async def test_browsers_beyond_the_limit_are_refused(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS):
            await stack.enter_async_context(reading(admin))
        problem = response_problem(await admin.get(UPDATES))
        assert (problem["status"], problem["detail"]) == (503, TOO_MANY_STREAMS)
    await wait_until(lambda: not admin.app.connections.event_streams)
    async with reading(admin) as reader:
        await reader.message()


@pytest.mark.parametrize("path", ["/", UPDATES])
async def test_foreign_name_of_this_machine_is_refused(admin: Client, path: str) -> None:
    problem = response_problem(await admin.get(path, Host="rebound.example"))
    assert (problem["status"], problem["detail"]) == (403, FOREIGN_NAME)
    assert (await admin.get("/", Host=f"localhost:{admin.port}")).code == 200
    # Probes and scrapes come under any name.
    assert (await admin.get("/livez", Host="rebound.example")).code == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", True),
        ("live.localhost", True),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("[::1]", True),
        ("::1", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_local_names(name: str, expected: bool) -> None:
    assert _is_local_name(name) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 4242), True),
        (("::1", 4242, 0, 0), True),
        (("10.1.2.3", 4242), False),
        (("fe80::1%eth0", 4242, 0, 2), False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_addresses(address: object, expected: bool) -> None:
    assert _is_loopback(address) is expected


async def test_single_process_shows_itself_and_stops_with_the_page_open(
    start_service: ServiceStarter,
) -> None:
    process = start_service("tests.runtime.support.sample_app")
    port, admin_port = await process.ports()
    async with RawConnection(admin_port) as connection, RawConnection(port) as public:
        reader = await Reader(connection).begin()
        await reader.message()
        assert (await public.get("/")).status == 200
        while not (message := await reader.message())["requests"]:
            pass
        assert (message["service"], message["requests"]) == ("sample-app", 1)
        assert [worker["pid"] for worker in message["workers"]] == [process.pid]
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        assert b"0\r\n\r\n" in await connection.read_to_end()


async def test_drain_ends_the_streams(admin: Client) -> None:
    async with reading(admin) as reader:
        await reader.message()
        await admin.server.drain([])
    assert not admin.app.connections.event_streams


def test_files_have_no_jinja() -> None:
    for file in Path(FOLDER).iterdir():
        assert not re.search(r"\{[{%]", file.read_text("utf-8"))


def test_message_of_a_position_that_nothing_follows(feed: Feed) -> None:
    feed.record()
    _, position = feed.message(START)
    message = orjson.loads(feed.message(position)[0])
    assert message["seconds"]["number"] == []
    assert isinstance(position, Position)
