"""What a single-process service does around its lifecycle: ports, log, signals, systemd."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.testing import ServiceStarter, wait_until

from ..support import SAMPLE_APP
from ..support.connections import RawConnection
from ..support.messages import (
    CANNOT_CREATE_APP,
    CANNOT_LISTEN,
    CANNOT_OPEN_LOG,
    DRAINING,
    LISTENING,
    STOPPED,
)
from ..support.processes import begin_slow_request, release
from ..support.systemd import FakeSystemd


@pytest.fixture
def used_port() -> Iterator[int]:
    """A port that another process listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("name", ["port", "admin_port"])
async def test_port_in_use_is_one_line(
    start_service: ServiceStarter, used_port: int, name: str
) -> None:
    process = start_service(SAMPLE_APP, **{name: used_port})
    assert await process.exit_code() == 1
    assert process.errors() == CANNOT_LISTEN.format(address="127.0.0.1", port=used_port) + "\n"
    assert process.records() == []


async def test_unwritable_log_file_is_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "service.log"
    process = start_service(SAMPLE_APP, log_file=path)
    assert await process.exit_code() == 1
    [line] = process.errors().splitlines()
    assert line.startswith(CANNOT_OPEN_LOG)
    assert str(path) in line


async def test_failing_application_is_one_line(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START", "app fails")
    process = start_service("tests.runtime.apps.startup")
    assert await process.exit_code() == 1
    assert process.errors() == f"{CANNOT_CREATE_APP}ValueError('no such thing')\n"
    [_, record] = process.records()
    assert record["exception.message"] == "no such thing"


async def test_log_goes_to_a_file_as_text(start_service: ServiceStarter, tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    process = start_service(SAMPLE_APP, log_file=path, log_format="text")
    await wait_until(lambda: path.exists() and LISTENING in path.read_text())
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert re.search(rf"\dZ INFO    \S+: {STOPPED}\n$", path.read_text())
    assert process.records() == []


async def test_unknown_variables_are_logged(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, thraeds=3)
    record = await process.logged("APP_THRAEDS")
    assert record["level"] == "warning"
    assert record["message"] == "APP_THRAEDS is not a setting, did you mean APP_THREADS?"


async def test_closed_terminal_drains(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    await process.ports()
    process.send_signal(signal.SIGHUP)
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED


async def test_second_sighup_of_a_closed_terminal_does_not_abort(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGHUP)
        await process.logged(DRAINING.format(1))
        process.send_signal(signal.SIGHUP)
        release(process)
        assert (await connection.response()).status == 200
    assert await process.exit_code() == 0


async def test_signals_without_a_meaning_are_ignored(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    for signum in signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE:
        process.send_signal(signum)
    async with RawConnection(port) as connection:
        assert (await connection.get("/")).status == 200
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


@pytest.fixture
def _nohup() -> Iterator[None]:
    """Ignore SIGHUP in this process and in those that it starts, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_nohup")
async def test_closed_terminal_is_ignored_with_nohup(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    process.send_signal(signal.SIGHUP)
    async with RawConnection(port) as connection:
        assert (await connection.get("/")).status == 200
    assert not [message for message in process.messages() if message.startswith("draining")]
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_systemd_is_notified_of_start_heartbeats_and_stop(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with FakeSystemd() as systemd:
        process = start_service(SAMPLE_APP)
        await process.ports()
        await wait_until(lambda: systemd.states().count("WATCHDOG=1") >= 3)
        assert "STOPPING=1" not in systemd.states()
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        status = (await process.logged(LISTENING))["message"]
        assert [message for message in systemd.messages() if message != "WATCHDOG=1"] == [
            f"READY=1\nSTATUS={status}",
            "STOPPING=1\nSTATUS=stopping",
        ]


async def test_inherited_sockets_are_served(start_service: ServiceStarter, used_port: int) -> None:
    process = start_service("tests.runtime.apps.socket_activation", port=used_port)
    port, admin_port = await process.ports()
    assert port == int(process.errors()) != used_port
    async with RawConnection(port) as connection, RawConnection(admin_port) as admin:
        assert (await connection.get("/items/cup")).json() == {"name": "cup"}
        assert (await admin.get("/readyz")).json() == {"ready": True}
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
