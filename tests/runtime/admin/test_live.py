"""The live page and its stream, on the admin port."""

import asyncio
import logging
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
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
from runtime.monitor.events import EVENT, MAX_EVENTS, RELOADED, WORKER_DIED, EventHandler
from runtime.monitor.history import POINT_INTERVAL, SECOND, SECONDS, WINDOW
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.status import WorkerStatus
from runtime.testing import (
    WAIT_TIMEOUT,
    Client,
    Events,
    Record,
    ServiceStarter,
    open_events,
    response_problem,
    wait_until,
)

from ..support.connections import RawConnection
from ..support.fakes import ORDERS, FakeStatus

UPDATES = "/live/updates"


async def next_message(events: Events) -> Any:
    """Return what the page is told next."""
    return (await anext(events)).json()


@pytest.fixture
def feed(status: FakeStatus) -> Feed:
    """A feed of a service with this status, whose seconds the test records."""
    return Feed(status, Monitor(ORDERS, slots=2))


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


def test_constants_of_the_script_are_those_of_the_admin_process() -> None:
    script = (FOLDER / "constants.js").read_text()
    constants = dict(re.findall(r"^export const (\w+) = (\d+);", script, re.MULTILINE))
    assert {name: int(value) for name, value in constants.items()} == {
        "SECONDS": SECONDS,
        "WINDOW": WINDOW,
        "POINT_INTERVAL": POINT_INTERVAL,
        "MAX_EVENTS": MAX_EVENTS,
    }


async def test_head_of_the_page(admin: Client) -> None:
    response = await admin.fetch("HEAD", "/")
    assert (response.code, response.body) == (200, b"")


async def test_stream_begins_with_the_history_and_goes_on_each_second(
    admin: Client, status: FakeStatus
) -> None:
    status.workers = [WorkerStatus(0, 42, True, 3, 0.5, 1, "ready", 60.0, 17, 1 << 26)]
    async with admin.events(UPDATES) as reader:
        first = await next_message(reader)
        status.counted.record(200, 0.01)
        status.counted.record(500, 0.01)
        status.reasons += ["draining"]
        second = await next_message(reader)
    assert (first["reset"], first["requests"], first["reasons"]) == (True, 0, [])
    assert (second["reset"], second["requests"], second["errors"]) == (False, 2, 1)
    assert second["reasons"] == ["draining"]
    assert second["seconds"]["number"] == [second["now"]]
    assert (second["seconds"]["requests"], second["seconds"]["requests_in_flight"]) == ([2], [3])
    assert reader.retry is not None
    assert 0 < reader.retry <= 1000
    [worker] = second["workers"]
    assert [*worker.pop("points")] == [
        "number", "rate", "requests_in_flight", "event_loop_lag", "memory",
    ]  # fmt: skip
    assert worker == {
        "worker": 0,
        "pid": 42,
        "state": "ready",
        "age": 60,
        "requests": 17,
        "requests_in_flight": 3,
        "event_loop_lag": 0.5,
        "memory": 1 << 26,
        "restarts": 1,
        "version": "",
        "revision": "",
    }


async def test_client_that_comes_back_gets_what_it_has_missed(
    admin: Client, status: FakeStatus
) -> None:
    async with admin.events(UPDATES) as reader:
        await next_message(reader)
        before = await next_message(reader)
    async with admin.events(UPDATES) as other:  # until two more seconds have passed
        messages = [await next_message(other) for _ in range(3)]
    numbers = [number for message in messages for number in message["seconds"]["number"]]
    expected = [number for number in numbers if number > before["now"]]
    async with admin.events(UPDATES, Last_Event_ID=reader.last_event_id) as reader_again:
        missed = await next_message(reader_again)
    async with admin.events(f"{UPDATES}?after={reader.last_event_id}") as reader_again:
        missed_too = await next_message(reader_again)
    for message in (missed, missed_too):
        assert not message["reset"]
        assert message["seconds"]["number"][: len(expected)] == expected
        assert message["seconds"]["number"][-1] == message["now"]


async def test_client_of_another_run_gets_everything(admin: Client) -> None:
    async with admin.events(UPDATES, Last_Event_ID="0a0b0c0d-12-3") as reader:
        assert (await next_message(reader))["reset"]


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


def test_suspension_leaves_nothing_older_than_fifteen_minutes(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000
    monkeypatch.setattr(history, "clock", lambda: now * SECOND)

    def record() -> list[int]:
        feed.record()
        numbers: list[int] = orjson.loads(feed.message(START)[0])["seconds"]["number"]
        return numbers

    for now in range(1000, 1010):  # noqa: B007 - the clock reads it
        feed.record()
    now = 1005 + SECONDS  # the machine was suspended
    assert record() == [1006, 1007, 1008, 1009, now]
    now += 2 * SECONDS
    assert record() == []
    now += 1
    assert record() == [now]


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


async def test_browsers_beyond_the_limit_are_refused(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS):
            await stack.enter_async_context(admin.events(UPDATES))
        problem = response_problem(await admin.get(UPDATES))
        assert (problem["status"], problem["detail"]) == (503, TOO_MANY_STREAMS)
    await wait_until(lambda: not admin.app.connections.event_streams)
    async with admin.events(UPDATES) as reader:
        await next_message(reader)


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
        (("::ffff:127.0.0.1", 4242, 0, 0), True),
        (("::ffff:10.1.2.3", 4242, 0, 0), False),
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
    async with open_events(admin_port, UPDATES) as updates, RawConnection(port) as public:
        await anext(updates)
        assert (await public.get("/")).status == 200
        message = await until_requests(updates)
        assert (message["service"], message["requests"]) == ("sample-app", 1)
        assert [worker["pid"] for worker in message["workers"]] == [process.pid]
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        async for _ in updates:  # raises an error if the stream is cut instead of ended
            pass


async def until_requests(updates: Events) -> Any:
    """Wait for the first message after a request, and return it."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while True:
            message = await next_message(updates)
            if message["requests"]:
                return message


def test_files_have_no_jinja() -> None:
    for file in Path(FOLDER).iterdir():
        assert not re.search(r"\{[{%]", file.read_text("utf-8"))


def test_message_of_a_position_that_nothing_follows(feed: Feed) -> None:
    feed.record()
    _, position = feed.message(START)
    message = orjson.loads(feed.message(position)[0])
    assert message["seconds"]["number"] == []
    assert isinstance(position, Position)
