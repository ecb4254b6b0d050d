"""The lifecycle of a single-process service, on real processes."""

import asyncio
import re
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import ClassVar

import pytest
from runtime import Application, Resource, ServiceInfo, Settings
from runtime.http1.server import LINGER
from runtime.process import lifecycle
from runtime.process.lifecycle import Lifecycle
from runtime.status import HEARTBEAT_INTERVAL, ProcessDetails, State, Vitals
from runtime.testing import WAIT_TIMEOUT, ServiceStarter, wait_until
from tornado.websocket import websocket_connect

from ...ports import free_port
from ..support import SAMPLE_APP
from ..support.connections import RawConnection
from ..support.messages import ABORTED, DRAINING, STOPPED
from ..support.processes import (
    accepts,
    begin_slow_request,
    is_refused,
    release,
    worker_statuses,
)

STARTUP_APP = "tests.runtime.apps.startup"
WEBSOCKET_HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("platform", "module"), [(sys.platform, "uvloop"), ("win32", "asyncio.unix_events")]
)
def test_event_loop_is_uvloop_where_it_exists(
    platform: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    async def main() -> None:
        used.append(type(asyncio.get_running_loop()).__module__)

    monkeypatch.setattr(lifecycle, "sys", SimpleNamespace(platform=platform))
    lifecycle.run_event_loop(main())
    assert used == [module]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_service_starts_serves_and_stops(start_service: ServiceStarter, signum: int) -> None:
    process = start_service(SAMPLE_APP)
    port, admin_port = await process.ports()
    async with RawConnection(port) as connection, RawConnection(admin_port) as admin:
        assert (await connection.get("/items/cup")).json() == {"name": "cup"}
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.send_signal(signum)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert process.messages()[-3:] == [DRAINING.format(0), "resource left", STOPPED]


async def test_request_in_flight_is_finished(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        await process.logged(DRAINING.format(1))
        await is_refused(port)
        release(process)
        response = await connection.response()
        assert (response.status, response.json()) == (200, {"slow": True})
        assert response.headers["Connection"] == "close"
        assert await connection.read_to_end() == b""
    assert await process.exit_code() == 0
    assert not [message for message in process.messages() if "aborted" in message]


async def test_idle_connections_may_send_one_more_request(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    slow, first, second = (RawConnection(port) for _ in range(3))
    async with slow, first, second:
        for idle in first, second:
            response = await idle.get("/nowhere")
            assert "Connection" not in response.headers
        await begin_slow_request(process, slow)
        process.send_signal(signal.SIGTERM)
        await is_refused(port)
        await asyncio.sleep(LINGER + 0.1)  # longer than they would stay without the slow request
        await assert_last_response(first)
        release(process)
        assert (await slow.response()).status == 200
        await asyncio.sleep(LINGER / 5)  # and they stay for a moment after it
        await assert_last_response(second)
    assert await process.exit_code() == 0


async def assert_last_response(connection: RawConnection) -> None:
    """Send a request while the service drains: it is served, and the connection closed."""
    response = await connection.get("/nowhere")
    assert response.status == 404
    assert response.headers["Connection"] == "close"
    assert await connection.read_to_end() == b""


async def test_idle_connection_does_not_delay_the_stop(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await connection.get("/")
        process.send_signal(signal.SIGTERM)
        assert await connection.read_to_end() == b""
    assert await process.exit_code() == 0
    assert not [message for message in process.messages() if "aborted" in message]


async def test_resource_is_open_before_and_after_all_requests(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        await process.logged("draining")
        release(process)
        await connection.response()
    assert await process.exit_code() == 0
    messages = [message.partition(",")[0] for message in process.messages()]
    assert [message.partition(" on ")[0] for message in messages[1:]] == [
        "resource entered",
        "listening",
        "slow request arrived",
        "draining",
        "GET /slow 200",
        "resource left",
        STOPPED,
    ]


@pytest.mark.parametrize("workers", [1, 2])
async def test_work_without_a_client_is_shown_and_finished(
    start_service: ServiceStarter, workers: int
) -> None:
    process = start_service(SAMPLE_APP, workers=workers)
    port, admin_port = await process.ports()

    async def in_flight() -> int:
        statuses = await worker_statuses(admin_port)
        return sum(status["requests_in_flight"] for status in statuses)

    async with RawConnection(port) as gone, RawConnection(port) as answered:
        assert (await answered.get("/later")).status == 202
        await begin_slow_request(process, gone)
        gone.abort()
    async with asyncio.timeout(WAIT_TIMEOUT):
        while await in_flight() != 1:
            pass
    process.send_signal(signal.SIGTERM)
    await process.logged(DRAINING.format(1))
    assert await in_flight() == 1
    release(process)
    assert await process.exit_code() == 0
    records = process.records()
    assert not [record for record in records if "aborted" in record["message"]]
    for message in "background task finished", "GET /slow 499":
        [work] = [record for record in records if record["message"] == message]
        left = [r for r in records if (r["message"], r["pid"]) == ("resource left", work["pid"])]
        assert records.index(work) < records.index(*left)


async def test_blocking_calls_run_in_the_thread_pool(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    entered = await process.logged("resource entered")
    assert entered["blocking_call"].startswith("blocking-call")


async def test_websocket_is_closed_with_going_away(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    websocket = await websocket_connect(f"ws://127.0.0.1:{port}/socket")
    process.send_signal(signal.SIGTERM)
    assert await websocket.read_message() is None
    assert (websocket.close_code, websocket.close_reason) == (1001, "service shutdown")
    websocket.close()
    assert await process.exit_code() == 0
    [closed] = [record for record in process.records() if "websocket.close_code" in record]
    assert closed["websocket.close_code"] == 1001


async def test_websocket_handshake_while_draining_is_refused(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    async with RawConnection(port) as slow, RawConnection(port) as late:
        await late.get("/nowhere")
        await begin_slow_request(process, slow)
        process.send_signal(signal.SIGTERM)
        await is_refused(port)
        response = await late.get("/socket", Upgrade="websocket", Connection="Upgrade")
        assert response.status == 503
        assert response.headers["Content-Type"] == "application/problem+json"
        release(process)
        await slow.response()
    assert await process.exit_code() == 0


async def test_service_is_not_ready_but_serves_during_the_drain_delay(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, drain_delay=600)
    port, admin_port = await process.ports()
    async with RawConnection(port) as connection, RawConnection(admin_port) as admin:
        process.send_signal(signal.SIGTERM)
        await process.logged("draining")
        response = await admin.get("/readyz")
        assert response.status == 503
        assert response.json() == {"ready": False, "reasons": ["draining"]}
        assert (await admin.get("/livez")).status == 200
        for _ in range(2):
            response = await connection.get("/")
            assert response.status == 200
            assert "Connection" not in response.headers
        async with RawConnection(port) as another:
            assert (await another.get("/")).status == 200
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def test_drain_timeout_begins_after_the_drain_delay(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, drain_delay=0.6, drain_timeout=0.5)
    await process.ports()
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    draining, _, stopped = process.records()[-3:]
    assert (draining["message"], stopped["message"]) == (DRAINING.format(0), STOPPED)
    begin, end = (datetime.fromisoformat(record["timestamp"]) for record in (draining, stopped))
    assert (end - begin).total_seconds() >= 0.59


async def test_drain_timeout_aborts_and_counts_the_rest(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, drain_timeout=0.2)
    port, _ = await process.ports()
    first, second, silent = (RawConnection(port) for _ in range(3))
    async with first, second, silent:
        assert (await silent.get("/later")).status == 202
        assert (await silent.get("/socket", **WEBSOCKET_HANDSHAKE)).status == 101
        await begin_slow_request(process, first)
        second.send_get("/slow")
        await wait_until(lambda: process.messages().count("slow request arrived") == 2)
        process.send_signal(signal.SIGTERM)
        assert await first.read_to_end() == b""
        assert await second.read_to_end() == b""
    assert await process.exit_code() == 0
    aborted, last = process.records()[-2:]
    assert last["message"] == STOPPED
    assert (aborted["level"], aborted["event.name"]) == ("warning", "requests.aborted")
    expected = ABORTED.format(reason="0.2 s after SIGTERM", requests=2, websockets=1, tasks=1)
    assert aborted["message"] == f"{expected}: GET /slow (2), WebSocket /socket, finish_later"


async def test_second_signal_aborts(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, drain_timeout=600)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        await process.logged("draining")
        process.send_signal(signal.SIGINT)
        assert await connection.read_to_end() == b""
    assert await process.exit_code() == 1
    expected = ABORTED.format(reason="second signal, SIGINT", requests=1, websockets=0, tasks=0)
    assert process.messages()[-2:] == [f"{expected}: GET /slow", STOPPED]


async def test_drain_timeout_applies_to_a_blocked_event_loop(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, drain_timeout=0.2)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck")
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    expected = ABORTED.format(reason="0.2 s after SIGTERM", requests=1, websockets=0, tasks=0)
    assert process.messages()[-2:] == [f"{expected}: GET /stuck", STOPPED]


class FakeTimer:
    """A timer of the drain timeout, which never fires."""

    started: ClassVar[list[float]] = []

    def __init__(self, seconds: float, *arguments: object) -> None:
        self.seconds = seconds

    def start(self) -> None:
        self.started.append(self.seconds)


class DrainingListener:
    """Drains twice, from other threads, as soon as the process is ready."""

    def __init__(self) -> None:
        self.lifecycle: Lifecycle
        self.states: list[State] = []
        self.reports: list[str] = []
        """States, heartbeats, and what a test adds."""

    def state_changed(self, state: State) -> None:
        self.states.append(state)
        self.reports.append(state.name)
        if state is State.READY:
            for timeout in 600, 700:
                thread = threading.Thread(target=self.lifecycle.drain, args=("a test", timeout))
                thread.start()
                thread.join()

    def details_changed(self, details: ProcessDetails) -> None: ...

    def heartbeat(self, vitals: Vitals) -> None:
        self.reports.append("heartbeat")

    async def serve(self, application: Application) -> None:
        """Serve until the process has drained."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            info = ServiceInfo("test", "0")
            self.lifecycle = Lifecycle(application, [server], info, drain_delay=0)
            async with asyncio.timeout(WAIT_TIMEOUT):
                await self.lifecycle.run(self)


async def test_drain_is_idempotent_and_thread_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "threading", SimpleNamespace(Timer=FakeTimer))
    listener = DrainingListener()
    application = Application(Settings(), [])
    await listener.serve(application)
    assert listener.states == [State.READY, State.DRAINING]
    assert FakeTimer.started == [600]
    handler = asyncio.get_running_loop().get_exception_handler()
    assert handler == application.handle_error_of_loop


async def test_process_that_becomes_ready_has_a_new_heartbeat() -> None:
    listener = DrainingListener()

    @asynccontextmanager
    async def block(settings: Settings) -> AsyncIterator[None]:
        listener.reports.append("blocked")  # for longer than APP_HANG_TIMEOUT, say
        yield

    await listener.serve(Application(Settings(), [], resources=[Resource("model", block)]))
    begin = listener.reports.index("blocked")
    assert listener.reports[begin:][:3] == ["blocked", "heartbeat", "READY"]


@pytest.mark.parametrize(
    ("start", "message", "cause"),
    [
        ("resource fails", "cannot open database: OSError('no database')", "no database"),
        ("extension fails", "cannot start Tracker: OSError('no tracker')", "no tracker"),
        ("extension refuses", "the tracker has no key", None),
    ],
)
async def test_failed_start_is_one_line(
    start_service: ServiceStarter,
    monkeypatch: pytest.MonkeyPatch,
    start: str,
    message: str,
    cause: str | None,
) -> None:
    monkeypatch.setenv("START", start)
    process = start_service(STARTUP_APP)
    assert await process.exit_code() == 1
    assert process.errors() == f"{message}\n"
    [_, record] = process.records()
    assert (record["level"], record["message"]) == ("error", message)
    assert record.get("exception.message") == cause


DOES_NOT_END = "a resource, an exit hook or a thread does not end"
CLOSE_FAILURES = {
    "queue fails": "cannot close queue: OSError('messages are left')",
    "queue waits for what it has cancelled": "cannot close queue: CancelledError()",
}


@pytest.mark.parametrize("end", CLOSE_FAILURES)
@pytest.mark.parametrize("workers", [1, 2])
async def test_failed_close_is_one_record_and_an_exit_code(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch, end: str, workers: int
) -> None:
    monkeypatch.setenv("END", end)
    process = start_service(STARTUP_APP, workers=workers)
    await process.ports()
    if workers > 1:
        await wait_until(lambda: len(re.findall(": ready", "".join(process.messages()))) == 3)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1
    records = [record for record in process.records() if record["level"] == "error"]
    assert len(records) == workers
    assert all(CLOSE_FAILURES[end] in record["message"] for record in records)
    assert all("open_queue" in record["exception.stacktrace"] for record in records)


async def test_failed_start_is_told_even_if_an_open_resource_fails_to_close(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START", "resource fails")
    monkeypatch.setenv("END", "queue fails")
    process = start_service(STARTUP_APP)
    assert await process.exit_code() == 1
    failure = "cannot open database: OSError('no database')"
    assert process.errors() == f"{failure}\n"
    assert process.messages()[1:] == [CLOSE_FAILURES["queue fails"], failure]


async def test_failed_start_is_told_even_if_an_open_resource_hides_it(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START", "resource fails")
    monkeypatch.setenv("END", "queue hides errors")
    process = start_service(STARTUP_APP)
    assert await process.exit_code() == 1
    assert process.errors() == "cannot open database: OSError('no database')\n"


async def test_resource_that_does_not_close_is_told(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("END", "queue waits")
    process = start_service(STARTUP_APP, drain_timeout=0.5)
    await process.ports()
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    aborted, last = process.messages()[-2:]
    assert aborted.startswith(f"0.5 s after SIGTERM: {DOES_NOT_END} (MainThread")
    assert last == STOPPED


async def test_failed_start_is_told_even_if_an_open_resource_does_not_close(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START", "resource fails")
    monkeypatch.setenv("END", "queue waits")
    process = start_service(STARTUP_APP, drain_timeout=0.5)
    assert await process.exit_code() == 1
    failure = "cannot open database: OSError('no database')"
    assert process.messages()[-2].startswith(f"0.5 s after: {failure}: {DOES_NOT_END}")


async def test_signal_while_starting_stops_before_serving(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START", "signal")
    process = start_service(STARTUP_APP)
    assert await process.exit_code() == 0
    assert process.messages()[1:] == [DRAINING.format(0), STOPPED]


async def test_service_is_not_ready_until_its_resources_are_open(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_port = free_port()
    monkeypatch.setenv("START", "resource waits")
    process = start_service(STARTUP_APP, admin_port=admin_port)
    await wait_until(lambda: accepts(admin_port))
    async with RawConnection(admin_port) as admin:
        response = await admin.get("/readyz")
        assert response.status == 503
        assert response.json() == {"ready": False, "reasons": ["starting"]}
        assert (await admin.get("/livez")).status == 200
        release(process)
        await process.ports()
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_single_process_is_worker_0(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, drain_delay=600)
    port, admin_port = await process.ports()
    pid = (await process.logged("listening on"))["pid"]
    [worker] = await worker_statuses(admin_port)
    assert 0 <= worker.pop("event_loop_lag") < WAIT_TIMEOUT
    assert 0 < worker.pop("age") < WAIT_TIMEOUT
    assert worker.pop("memory") > 1e6
    assert worker.pop("details")["version"]
    assert worker == {
        "worker": 0,
        "pid": pid,
        "ready": True,
        "requests_in_flight": 0,
        "restarts": 0,
        "state": "ready",
        "requests": 0,
        "websockets": 0,
        "event_streams": 0,
    }
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        [worker] = await worker_statuses(admin_port)
        assert (worker["ready"], worker["requests_in_flight"]) == (True, 1)
        process.send_signal(signal.SIGTERM)
        await process.logged("draining")
        [worker] = await worker_statuses(admin_port)
        assert (worker["ready"], worker["requests_in_flight"]) == (False, 1)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def test_lag_of_a_free_event_loop_is_small(start_service: ServiceStarter) -> None:
    lag = HEARTBEAT_INTERVAL
    for _ in range(5):  # the whole machine may have been late
        process = start_service(SAMPLE_APP)
        _, admin_port = await process.ports()
        await asyncio.sleep(2 * HEARTBEAT_INTERVAL)
        [worker] = await worker_statuses(admin_port)
        lag = min(lag, worker["event_loop_lag"])
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        if lag < HEARTBEAT_INTERVAL:
            break
    assert lag < HEARTBEAT_INTERVAL


async def test_lag_of_a_blocked_event_loop_is_reported(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, admin_port = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck")
        await asyncio.sleep(3 * HEARTBEAT_INTERVAL)  # how long it is blocked
        release(process)
        assert (await connection.response()).status == 200

    async def lag() -> float:
        [worker] = await worker_statuses(admin_port)
        seconds: float = worker["event_loop_lag"]
        return seconds

    async with asyncio.timeout(WAIT_TIMEOUT):
        while await lag() < 1.9 * HEARTBEAT_INTERVAL:
            pass
    assert await lag() < WAIT_TIMEOUT
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
