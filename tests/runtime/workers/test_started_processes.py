"""What the code of a service starts in a worker: pools, daemons, programs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime.testing import ServiceProcess, ServiceStarter, wait_until

from tests.runtime.support.connections import RawConnection
from tests.runtime.support.workers import ADMIN, all_ready, errors, has_exited, ready

POOLING = "tests.runtime.apps.pooling"


@pytest.fixture
def started() -> Iterator[list[int]]:
    """A list for the pids of processes that must exit with their worker."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if not has_exited(pid):  # the test has failed
            os.kill(pid, signal.SIGKILL)


async def start_processes(process: ServiceProcess, path: str = "/pools") -> dict[str, Any]:
    """Let a worker start processes; return what is known of them."""
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        response = await connection.get(path, Connection="close")
        # A copy of the connection in another process would keep it open.
        assert await connection.read_to_end() == b""
    found: dict[str, Any] = response.json()
    return found


def ignored_signals(pid: int) -> int:
    """Return the signals that a process ignores, as a mask."""
    status = Path(f"/proc/{pid}/status").read_text()
    [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return int(mask, 16)


@pytest.mark.parametrize("workers", [1, 2])
async def test_started_processes_inherit_nothing_of_the_service(
    start_service: ServiceStarter, started: list[int], workers: int
) -> None:
    process = start_service(POOLING, workers=workers)
    found = await start_processes(process)
    started += found["pids"]
    for pool in found["fork"], found["spawn"]:
        assert pool["ports"] == []
        assert all(pool["ordinary"])
    for signum in signal.SIGINT, signal.SIGHUP:
        assert not ignored_signals(started[-1]) & 1 << (signum - 1)
    # The pool that forks has the log of its parent, each record once, and its own pid.
    await process.logged("and more urgently")
    written = [record for record in process.records() if record["pid"] == found["fork"]["pid"]]
    assert [record["message"] for record in written] == ["from a pool", "and more urgently"]
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == "and more urgently\n"  # the one that was spawned has no log


@pytest.mark.parametrize("how", ["reload", "SIGTERM", "SIGKILL"])
async def test_started_processes_exit_with_their_worker(
    start_service: ServiceStarter, started: list[int], how: str
) -> None:
    process = start_service(POOLING, workers=2)
    await all_ready(process)
    found = await start_processes(process)
    started += found["pids"]
    if how == "reload":
        await process.reload()
    else:
        os.kill(found["worker"], signal.Signals[how])
    await wait_until(lambda: all(map(has_exited, started)))
    if how != "SIGKILL":
        assert (process.folder / f"hook-{found['worker']}").exists()
        records = [r for r in process.records() if r["message"] == "last words"]
        assert found["worker"] in [record["pid"] for record in records]
        assert errors(process) == []
    before = len(ready(process, ADMIN))
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    # While the supervisor waits for what they have left, nothing is started any more.
    assert len(ready(process, ADMIN)) == before


@pytest.mark.parametrize("workers", [1, 2])
async def test_stop_does_not_wait_for_busy_pools_beyond_the_drain_timeout(
    start_service: ServiceStarter, started: list[int], workers: int
) -> None:
    process = start_service(POOLING, workers=workers, drain_timeout=0.5)
    found = await start_processes(process, "/pools?busy=1")
    started += found["pids"] if workers > 1 else found["pids"][:-1]  # nobody ends a program then
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    await wait_until(lambda: all(map(has_exited, started)))


async def test_started_processes_exit_without_supervisor(
    start_service: ServiceStarter, started: list[int]
) -> None:
    process = start_service(POOLING, workers=2)
    await all_ready(process)
    started += (await start_processes(process))["pids"]
    process.send_signal(signal.SIGKILL)
    await wait_until(lambda: all(map(has_exited, started)))
