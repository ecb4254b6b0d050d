"""The runtime on Windows, as far as another system can tell."""

import signal

import pytest
from runtime.testing import ServiceStarter

from .support.connections import RawConnection
from .support.messages import LISTENING, STOPPED

ON_WINDOWS = "tests.runtime.apps.on_windows"


@pytest.mark.parametrize("ctrl", ["Ctrl-C", "Ctrl-Break"])
async def test_single_process_serves_and_drains_on_windows(
    start_service: ServiceStarter, ctrl: str
) -> None:
    process = start_service(ON_WINDOWS, workers=2)
    port, admin_port = await process.ports()
    assert (await process.logged(LISTENING))["pid"] == process.pid
    async with RawConnection(port) as connection:
        assert (await connection.get("/")).json() == {"root": True}
    async with RawConnection(admin_port) as connection:
        assert (await connection.get("/readyz")).json() == {"ready": True}
        assert b"http_server_request_duration_seconds" in (await connection.get("/metrics")).body
    process.send_signal({"Ctrl-C": signal.SIGINT, "Ctrl-Break": signal.SIGUSR1}[ctrl])
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED
    assert process.errors() == ""
