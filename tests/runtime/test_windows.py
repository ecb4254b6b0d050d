"""The runtime on Windows, as far as another system can tell."""

import os
import signal
from pathlib import Path

import pytest
from runtime.logs.writer import open_log
from runtime.testing import ServiceStarter
from tornado.websocket import websocket_connect

from .support.connections import RawConnection
from .support.messages import LISTENING, STOPPED

ON_WINDOWS = "tests.runtime.apps.on_windows"


async def test_single_process_serves_and_drains_on_windows(start_service: ServiceStarter) -> None:
    process = start_service(ON_WINDOWS, workers=2)
    port, admin_port = await process.ports()
    assert (await process.logged(LISTENING))["pid"] == process.pid
    async with RawConnection(port) as connection:
        assert (await connection.get("/")).json() == {"root": True}
    async with RawConnection(admin_port) as connection:
        assert (await connection.get("/readyz")).json() == {"ready": True}
        assert b"http_server_request_duration_seconds" in (await connection.get("/metrics")).body
    websocket = await websocket_connect(f"ws://127.0.0.1:{port}/socket")
    process.send_signal(signal.SIGUSR1)  # which is Ctrl-Break there
    assert await websocket.read_message() is None
    assert websocket.close_code == 1001
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED
    assert process.errors() == ""


async def test_ctrl_c_reaches_the_restarter_and_its_child_once(
    start_service: ServiceStarter,
) -> None:
    process = start_service(ON_WINDOWS, debug=True)
    child = (await process.logged(LISTENING))["pid"]
    assert child != process.pid
    for pid in child, process.pid:  # as a console does
        os.kill(pid, signal.SIGINT)
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED
    assert process.errors() == ""


def test_log_file_is_opened_as_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Otherwise Windows writes \r\n.
    flags: list[int] = []
    monkeypatch.setattr(os, "O_BINARY", os.O_SYNC, raising=False)
    monkeypatch.setattr(os, "open", lambda path, flag, mode: flags.append(flag))
    open_log(tmp_path / "service.log")
    assert [flag & os.O_SYNC for flag in flags] == [os.O_SYNC]
