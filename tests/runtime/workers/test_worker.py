"""Workers as real processes, without their supervisor or signalled directly."""

import os
import signal

from runtime.testing import ServiceStarter, wait_until

from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import begin_slow_request, release
from tests.runtime.support.workers import (
    DRAINING,
    STOPPED,
    SUPERVISOR_EXITED,
    all_ready,
    errors,
    has_exited,
    ready,
    stop,
)


async def test_processes_drain_and_exit_without_their_supervisor(
    start_service: ServiceStarter, orphans: list[int]
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, _ = await process.ports()
    orphans += await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGKILL)
        await wait_until(lambda: process.messages().count(SUPERVISOR_EXITED) == 3)
        release(process)
        assert (await connection.response()).status == 200
    await wait_until(lambda: all(map(has_exited, orphans)))
    assert process.messages().count(STOPPED) == 3


async def test_blocked_and_stopped_workers_do_not_outlive_their_supervisor(
    start_service: ServiceStarter, orphans: list[int]
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, _ = await process.ports()
    orphans += await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck")
        blocked = (await process.logged("event loop blocked"))["pid"]
        [other] = set(orphans[1:]) - {blocked}
        os.kill(other, signal.SIGSTOP)
        process.send_signal(signal.SIGKILL)
        assert await connection.read_to_end() == b""
        await wait_until(lambda: all(map(has_exited, orphans)))


async def test_worker_signalled_directly_drains_and_is_replaced(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        slot = (await process.logged("slow request arrived"))["worker"]
        os.kill(pids[1 + slot], signal.SIGTERM)
        await process.logged(f"{DRAINING}: 1")
        os.kill(pids[1 + slot], signal.SIGTERM)  # a second one does not abort
        release(process)
        assert (await connection.response()).status == 200
    await wait_until(lambda: len(ready(process, f"worker {slot}")) == 2)
    await stop(process)
    assert errors(process) == []
