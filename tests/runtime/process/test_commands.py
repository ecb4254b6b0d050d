"""status and stop of a service with a single process, as real processes."""

import signal
from pathlib import Path

import pytest
from runtime.control.server import USELESS
from runtime.control.steering import NOT_RELOADED
from runtime.testing import ServiceProcess, ServiceStarter

from ..support import SAMPLE_APP
from ..support.commands import Command, ask, status, until_status
from ..support.connections import RawConnection
from ..support.messages import STOPPED
from ..support.processes import begin_slow_request, release


def has_socket(process: ServiceProcess) -> bool:
    return (process.folder / process.environment["APP_CONTROL_SOCKET"]).exists()


async def test_single_process_tells_its_status_and_stops(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    port, _ = await process.ports()
    ready = await status(process)
    [worker] = ready["workers"]
    assert (ready["pid"], worker["pid"], worker["state"]) == (process.pid, process.pid, "ready")
    refused = await ask(process, command="reload")
    assert (refused["success"], refused["message"]) == (False, NOT_RELOADED)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        stopping = Command(process, "stop")
        draining = await until_status(process, lambda status: not status["ready"])
        assert draining["reasons"] == ["draining"]
        assert stopping.is_running
        release(process)
        assert (await connection.response()).status == 200
    stopped = await stopping.result()
    assert (stopped.code, stopped.out, stopped.err) == (0, "stopped\n", "")
    assert await process.exit_code() == 0
    assert process.messages()[-1] == STOPPED
    assert not has_socket(process)


@pytest.mark.parametrize("is_second_signal", [False, True])
async def test_stop_tells_what_was_aborted(
    start_service: ServiceStarter, is_second_signal: bool
) -> None:
    process = start_service(SAMPLE_APP, drain_timeout=60 if is_second_signal else 0.2)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        # The event loop is blocked: a thread has to tell.
        await begin_slow_request(process, connection, "/slow" if is_second_signal else "/stuck")
        if is_second_signal:
            stopping = Command(process, "stop")
            await until_status(process, lambda status: not status["ready"])
            process.send_signal(signal.SIGTERM)
            result = await stopping.result()
            assert (result.code, result.last_error) == (1, "stopping was aborted")
            reason = "second signal, SIGTERM"
        else:
            process.send_signal(signal.SIGTERM)
            reason = "0.2 s after SIGTERM"
        assert await process.exit_code() == (1 if is_second_signal else 0)
        await process.logged(f"{reason}: aborted 1 requests")
        if is_second_signal:
            assert f"Warning: {reason}: aborted 1 requests" in result.err
    assert not has_socket(process)


@pytest.mark.parametrize("workers", [1, 2])
async def test_stop_says_nothing_of_what_was_not_aborted(
    start_service: ServiceStarter, workers: int
) -> None:
    process = start_service(SAMPLE_APP, workers=workers, drain_delay=60)
    await process.ports()
    stopping = Command(process, "stop")
    while (await status(process))["ready"]:
        pass
    process.send_signal(signal.SIGTERM)
    # With a supervisor, the workers may drain meanwhile.
    result = await stopping.result()
    assert result.code == 1
    assert "Warning" not in result.err
    assert await process.exit_code() == 1
    aborted = [record for record in process.records() if "aborted 0" in record["message"]]
    assert all(record.get("event.name") is None for record in aborted)
    assert aborted or workers == 2
    assert process.messages()[-1] == STOPPED


@pytest.mark.parametrize("workers", [1, 2])
async def test_socket_that_cannot_be_opened_is_one_line(
    start_service: ServiceStarter, workers: int
) -> None:
    process = start_service(SAMPLE_APP, workers=workers, control_socket="missing/control.sock")
    assert await process.exit_code() == 1
    line = "cannot open the control socket missing/control.sock: No such file or directory\n"
    assert process.errors() == line


async def test_default_that_cannot_be_opened_fails_no_start(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "missing"))
    process = start_service(SAMPLE_APP, control_socket="")
    await process.ports()
    record = await process.logged("cannot open the control socket ")
    assert record["level"] == "warning"
    assert record["message"].endswith(USELESS)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
