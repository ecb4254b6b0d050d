import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

from runtime.process.lifecycle import LINGER
from runtime.status import HEARTBEAT_INTERVAL

from .conftest import ServiceStarter
from .support import WAIT_TIMEOUT, SERVICE, ServiceProcess, RawConnection, wait_until
from .test_systemd import Manager

STAND_IN = "tests.stand_in"


def let_go(process: ServiceProcess) -> None:
    """Let the slow handlers answer."""
    (process.folder / "go").touch()


async def begin_slow_request(process: ServiceProcess, wire: RawConnection, path: str = "/slow") -> None:
    wire.ask(path)
    await process.logged({"/slow": "slow request arrived", "/stuck": "event loop blocked"}[path])


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def is_refused(port: int) -> None:
    """Wait until nobody listens any more."""
    await wait_until(lambda: not accepts(port))


async def vitals(admin_port: int) -> list[dict[str, Any]]:
    """Ask how each worker is."""
    async with RawConnection(admin_port) as admin:
        workers: list[dict[str, Any]] = (await admin.get("/workers")).json()["workers"]
    return workers


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_answers_and_stops(start_service: ServiceStarter, signum: int) -> None:
    process = start_service(STAND_IN)
    port, admin_port = await process.ports()
    async with RawConnection(port) as wire, RawConnection(admin_port) as admin:
        assert (await wire.get("/items/cup")).json() == {"name": "cup"}
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.signal(signum)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert process.messages()[-3:] == [
        "draining, requests in flight: 0",
        "resource left",
        "stopped",
    ]


async def test_a_request_in_flight_is_answered(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        await process.logged("draining, requests in flight: 1")
        await is_refused(port)
        let_go(process)
        answer = await wire.answer()
        assert (answer.status, answer.json()) == (200, {"slow": True})
        assert answer.headers["Connection"] == "close"
        assert await wire.rest() == b""
    assert await process.exit_code() == 0
    assert not [message for message in process.messages() if "cut" in message]


async def test_an_idle_connection_may_ask_once_more_while_others_finish(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    async with RawConnection(port) as slow, RawConnection(port) as idle:
        first = await idle.get("/nowhere")
        assert "Connection" not in first.headers
        await begin_slow_request(process, slow)
        process.signal(signal.SIGTERM)
        await is_refused(port)
        await asyncio.sleep(LINGER + 0.1)  # as long as it would stay without the other
        last = await idle.get("/nowhere")
        assert last.status == 404
        assert last.headers["Connection"] == "close"
        assert await idle.rest() == b""
        let_go(process)
        assert (await slow.answer()).status == 200
    assert await process.exit_code() == 0


async def test_an_idle_connection_does_not_hold_up_the_stop(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await wire.get("/")
        process.signal(signal.SIGTERM)
        assert await wire.rest() == b""
    assert await process.exit_code() == 0
    assert not [message for message in process.messages() if "cut" in message]


async def test_a_resource_is_there_before_and_after_all_requests(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        let_go(process)
        await wire.answer()
    assert await process.exit_code() == 0
    messages = [message.partition(",")[0] for message in process.messages()]
    assert [message.partition(" on ")[0] for message in messages] == [
        "resource entered",
        "listening",
        "slow request arrived",
        "draining",
        "GET /slow 200",
        "resource left",
        "stopped",
    ]


async def test_blocking_calls_have_threads_of_their_own(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    entered = await process.logged("resource entered")
    assert entered["blocking_call"].startswith("blocking-call")


async def test_a_websocket_is_told_that_the_service_goes(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    websocket = await websocket_connect(f"ws://127.0.0.1:{port}/socket")
    process.signal(signal.SIGTERM)
    assert await websocket.read_message() is None
    assert (websocket.close_code, websocket.close_reason) == (1001, "the service is stopping")
    websocket.close()
    assert await process.exit_code() == 0
    [end] = [record for record in process.records() if "websocket.close_code" in record]
    assert end["websocket.close_code"] == 1001


async def test_no_websocket_begins_while_the_service_goes(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, _ = await process.ports()
    async with RawConnection(port) as slow, RawConnection(port) as late:
        await late.get("/nowhere")
        await begin_slow_request(process, slow)
        process.signal(signal.SIGTERM)
        await is_refused(port)
        answer = await late.get("/socket", Upgrade="websocket", Connection="Upgrade")
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        let_go(process)
        await slow.answer()
    assert await process.exit_code() == 0


async def test_during_the_drain_delay_it_is_not_ready_and_answers(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_delay=600)
    port, admin_port = await process.ports()
    async with RawConnection(port) as wire, RawConnection(admin_port) as admin:
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        answer = await admin.get("/readyz")
        assert (answer.status, answer.json()) == (503, {"ready": False, "reasons": ["draining"]})
        assert (await admin.get("/livez")).status == 200
        for _ in range(2):
            answer = await wire.get("/")
            assert answer.status == 200
            assert "Connection" not in answer.headers
        async with RawConnection(port) as another:
            assert (await another.get("/")).status == 200
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def test_the_drain_delay_ends(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_delay=0.3)
    await process.ports()
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    draining, _, stopped = process.records()[-3:]
    begin, end = (datetime.fromisoformat(one["timestamp"]) for one in (draining, stopped))
    assert (end - begin).total_seconds() >= 0.29


async def test_what_outlasts_the_drain_timeout_is_cut_and_counted(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_timeout=0.2)
    port, _ = await process.ports()
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    async with RawConnection(port) as first, RawConnection(port) as second, RawConnection(port) as silent:
        answer = await silent.get(
            "/socket", **upgrade, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="
        )
        assert answer.status == 101
        await begin_slow_request(process, first)
        second.ask("/slow")
        await wait_until(lambda: process.messages().count("slow request arrived") == 2)
        process.signal(signal.SIGTERM)
        assert await first.rest() == b""
        assert await second.rest() == b""
    assert await process.exit_code() == 0
    last = process.records()[-1]
    assert last["message"] == "0.2 s after SIGTERM: requests cut: 2, WebSockets cut: 1"
    assert last["level"] == "warning"


async def test_a_second_signal_cuts_at_once(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_timeout=600)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        process.signal(signal.SIGINT)
        assert await wire.rest() == b""
    assert await process.exit_code() == 1
    expected = "second signal, SIGINT: requests cut: 1, WebSockets cut: 0"
    assert process.messages()[-1] == expected


async def test_a_blocked_event_loop_does_not_keep_it_from_stopping(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_timeout=0.2)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire, "/stuck")
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    assert process.messages()[-1].endswith("requests cut: 1, WebSockets cut: 0")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("name", ["port", "admin_port"])
async def test_a_port_in_use_is_one_line(start_service: ServiceStarter, taken: int, name: str) -> None:
    process = start_service(SERVICE, **{name: taken})
    assert await process.exit_code() == 1
    assert process.errors() == f"cannot listen on 127.0.0.1 port {taken}: Address already in use\n"
    assert process.records() == []


async def test_a_log_file_that_cannot_be_written_is_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "service.log"
    process = start_service(SERVICE, log_file=path)
    assert await process.exit_code() == 1
    [line] = process.errors().splitlines()
    assert line.startswith("cannot write the log: ")
    assert str(path) in line


async def test_the_log_goes_to_a_file_as_text_if_asked_to(start_service: ServiceStarter, tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    process = start_service(SERVICE, log_file=path, log_format="text")
    await wait_until(lambda: path.exists() and "listening on" in path.read_text())
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert re.search(r"\dZ INFO    \S+: stopped\n$", path.read_text())
    assert process.records() == []


async def test_with_debug_it_starts_anew_when_its_code_changes(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    module = tmp_path / "changing.py"
    module.write_text("from tests.stand_in import load, make_app, serve\n\nserve(load(), make_app)")
    process = start_service("changing", debug=True)
    await process.ports()

    def has_started_anew() -> bool:
        module.touch()  # again and again, for the first look at the file only notes its time
        return process.messages().count("resource entered") == 2

    await wait_until(has_started_anew)
    await wait_until(lambda: process.messages()[-1].startswith("listening on"))
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_bad_settings_are_exit_code_78(start_service: ServiceStarter) -> None:
    process = start_service(SERVICE, port="eighty", threads=0)
    assert await process.exit_code() == 78
    assert process.errors().splitlines()[0] == "Bad settings:"
    assert len(process.errors().splitlines()) == 3
    assert process.records() == []


def broken(folder: Path, make_app: str, resource: str) -> str:
    """Write a module that serves with a `make_app` or a resource of its own; return its name."""
    (folder / "broken.py").write_text(
        f"""
import os, signal, sys
from contextlib import asynccontextmanager
from tests.stand_in import Application, load, serve

@asynccontextmanager
async def orders():
    {resource}
    yield

def make_app(settings):
    {make_app}
    return Application(settings, [], resources=dict(orders=orders))

sys.exit(serve(load(), make_app))
"""
    )
    return "broken"


async def test_a_resource_that_fails_is_named_in_one_line(start_service: ServiceStarter, tmp_path: Path) -> None:
    process = start_service(broken(tmp_path, "pass", "raise OSError('no database')"))
    assert await process.exit_code() == 1
    assert process.errors() == "cannot start orders: OSError('no database')\n"
    [record] = process.records()
    assert (record["level"], record["message"]) == (
        "error",
        "cannot start orders: OSError('no database')",
    )
    assert record["exception.message"] == "no database"


async def test_an_application_that_fails_is_told_in_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = start_service(broken(tmp_path, "raise ValueError('no such thing')", "pass"))
    assert await process.exit_code() == 1
    assert process.errors() == "cannot make the application: ValueError('no such thing')\n"
    assert [record["exception.message"] for record in process.records()] == ["no such thing"]


async def test_a_signal_while_it_starts_stops_it_before_it_serves(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = start_service(broken(tmp_path, "pass", "os.kill(os.getpid(), signal.SIGTERM)"))
    assert await process.exit_code() == 0
    assert process.messages() == ["draining, requests in flight: 0", "stopped"]


async def test_a_closed_terminal_drains_as_well(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    await process.ports()
    process.signal(signal.SIGHUP)
    assert await process.exit_code() == 0
    assert process.messages()[-1] == "stopped"


async def test_misspelt_settings_are_told_at_the_start(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, thraeds=3)
    record = await process.logged("APP_THRAEDS")
    assert record["level"] == "warning"
    assert record["message"] == "APP_THRAEDS is not a setting, did you mean APP_THREADS?"


async def test_systemd_is_told_of_the_start_of_life_and_of_the_end(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with Manager() as manager:
        process = start_service(STAND_IN)
        await process.ports()
        await wait_until(lambda: manager.states().count("WATCHDOG=1") >= 3)
        assert "STOPPING=1" not in manager.states()
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        greeting = (await process.logged("listening on"))["message"]
        assert [one for one in manager.heard() if one != "WATCHDOG=1"] == [
            f"READY=1\nSTATUS={greeting}",
            "STOPPING=1\nSTATUS=stopping",
        ]


def handing_over(folder: Path) -> str:
    """Write a module that starts the service as systemd does, with a socket for each port."""
    (folder / "handing_over.py").write_text(
        """
import fcntl, os, socket, sys

public, admin = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
print(public.getsockname()[1], file=sys.stderr)
os.environ["APP_ADMIN_PORT"] = str(admin.getsockname()[1])
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "2"
# First out of the way, for one of them may be 3 or 4 itself.
for fd, one in enumerate([fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 100) for one in (public, admin)]):
    os.dup2(one, 3 + fd)
os.execv(sys.executable, [sys.executable, "-m", "tests.stand_in"])
"""
    )
    return "handing_over"


async def test_it_serves_on_sockets_that_systemd_hands_over(
    start_service: ServiceStarter, tmp_path: Path, taken: int
) -> None:
    process = start_service(handing_over(tmp_path), port=taken)
    port, admin_port = await process.ports()
    assert port == int(process.errors()) != taken
    async with RawConnection(port) as wire, RawConnection(admin_port) as admin:
        assert (await wire.get("/items/cup")).json() == {"name": "cup"}
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_until_its_resources_are_there_it_is_not_ready(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        admin_port = unused.getsockname()[1]
    resource = "import asyncio\n    while not os.path.exists('go'): await asyncio.sleep(0.005)"
    process = start_service(broken(tmp_path, "pass", resource), admin_port=admin_port)
    await wait_until(lambda: accepts(admin_port))
    async with RawConnection(admin_port) as admin:
        answer = await admin.get("/readyz")
        assert (answer.status, answer.json()) == (503, {"ready": False, "reasons": ["starting"]})
        assert (await admin.get("/livez")).status == 200
        let_go(process)
        await process.ports()
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_one_process_alone_is_worker_0(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, drain_delay=600)
    port, admin_port = await process.ports()
    pid = (await process.logged("listening on"))["pid"]
    [worker] = await vitals(admin_port)
    assert 0 <= worker.pop("event_loop_lag") < WAIT_TIMEOUT
    alone = {"worker": 0, "pid": pid, "ready": True, "requests_in_flight": 0, "restarts": 0}
    assert worker == alone
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        [worker] = await vitals(admin_port)
        assert (worker["ready"], worker["requests_in_flight"]) == (True, 1)
        process.signal(signal.SIGTERM)
        await process.logged("draining")
        [worker] = await vitals(admin_port)
        assert (worker["ready"], worker["requests_in_flight"]) == (False, 1)
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def test_a_free_event_loop_is_hardly_late(start_service: ServiceStarter) -> None:
    lag = HEARTBEAT_INTERVAL
    for _ in range(5):  # the whole machine may have been late
        process = start_service(STAND_IN)
        _, admin_port = await process.ports()
        await asyncio.sleep(2 * HEARTBEAT_INTERVAL)
        [worker] = await vitals(admin_port)
        lag = min(lag, worker["event_loop_lag"])
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        if lag < HEARTBEAT_INTERVAL:
            break
    assert lag < HEARTBEAT_INTERVAL


async def test_a_blocked_event_loop_was_late(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN)
    port, admin_port = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire, "/stuck")
        await asyncio.sleep(1.5)  # so long it is to be late
        let_go(process)
        assert (await wire.answer()).status == 200

    async def lag() -> float:
        [worker] = await vitals(admin_port)
        late: float = worker["event_loop_lag"]
        return late

    async with asyncio.timeout(WAIT_TIMEOUT):
        while await lag() < 1:
            pass
    assert await lag() < WAIT_TIMEOUT
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
