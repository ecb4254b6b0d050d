"""Extensions in real processes: what is called in which process, in which order."""

import signal

from runtime.settings import Settings
from runtime.testing import ServiceStarter, wait_until
from runtime.workers.resize import capacity

from .support.connections import RawConnection
from .support.processes import begin_slow_request, release

EXTENDED_APP = "tests.runtime.apps.extended"


async def test_extensions_frame_the_resources_and_all_requests(
    start_service: ServiceStarter,
) -> None:
    process = start_service(EXTENDED_APP, threads=3)
    port, admin_port = await process.ports()
    async with RawConnection(admin_port) as admin:
        assert (await admin.get("/second")).json() == {"calls": [], "workers": 1}
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        await process.logged("draining")
        release(process)
        await connection.response()
    assert await process.exit_code() == 0
    assert [message.partition(" on ")[0].partition(",")[0] for message in process.messages()] == [
        "starting extended-app 1.7",
        "first entered",
        "second entered",
        "resource entered",
        "listening",
        "slow request arrived",
        "draining",
        "GET /slow 200",
        "first finished",
        "second finished",
        "resource left",
        "second left",
        "first left",
        "stopped",
    ]
    _, first, *_ = process.records()
    assert first["about"] == "extended-app 1.7, threads: 3"
    # A single process is not forked.
    assert first["calls"] == []


async def test_extensions_prepare_before_and_after_each_fork(
    start_service: ServiceStarter,
) -> None:
    process = start_service(EXTENDED_APP, workers=2)
    _, admin_port = await process.ports()
    await wait_until(lambda: process.messages().count("second entered") == 2)
    async with RawConnection(admin_port) as admin:
        in_admin = (await admin.get("/first")).json()
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    # For the admin process, for each worker that there can be, and for three that are replaced.
    before = f"before_fork, rows: {1 + capacity(Settings(workers=2)) + 3}"
    assert in_admin == {
        "calls": [before, "after_fork, slot: -1, app imported: False"],
        "workers": 2,
    }
    entered = [record for record in process.records() if record["message"] == "second entered"]
    assert {record["worker"]: record["calls"] for record in entered} == {
        0: [before, "after_fork, slot: 0, app imported: False"],
        1: [before, "after_fork, slot: 1, app imported: False"],
    }
