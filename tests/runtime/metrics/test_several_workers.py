"""Metrics of a service that runs in two workers, through crashes and reloads."""

import asyncio
import os
import signal
from pathlib import Path

from runtime.testing import WAIT_TIMEOUT, ServiceProcess, ServiceStarter

from ..support.brewery import copy_brewery
from ..support.connections import RawConnection
from ..support.processes import worker_statuses
from ..support.prometheus import (
    CONTRACT,
    DURATION,
    has_only_documented_names,
    samples,
    scrape,
)
from . import MEASURED_APP


async def ready_pids(admin_port: int) -> list[int]:
    """Wait until every worker is ready; return their pids."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not all(worker["ready"] for worker in await worker_statuses(admin_port)):
            pass
    return [worker["pid"] for worker in await worker_statuses(admin_port)]


async def stop(process: ServiceProcess) -> None:
    """Stop a service, and check that nothing went wrong."""
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""


async def test_metrics_of_two_workers_are_exact_through_crashes_and_reloads(
    start_service: ServiceStarter,
) -> None:
    process = start_service(MEASURED_APP, workers=2)
    port, admin_port = await process.ports()
    await ready_pids(admin_port)
    sent = 0

    async def counted() -> float:
        return samples(await scrape(admin_port), f"{DURATION}_count").get(("GET", "404", "none"), 0)

    async def send_requests() -> None:
        nonlocal sent
        for _ in range(30):
            async with RawConnection(port) as connection:
                assert (await connection.get("/nowhere")).status == 404
            sent += 1
        # A request is counted just after its response.
        async with asyncio.timeout(WAIT_TIMEOUT):
            while await counted() < sent:
                pass
        assert await counted() == sent

    await send_requests()
    families = await scrape(admin_port)
    assert has_only_documented_names(families)
    for name, labels in CONTRACT.items():
        if labels == {"worker"}:
            assert set(samples(families, name)) == {("0",), ("1",)}
    assert samples(families, "workers_ready") == {(): 2}
    assert samples(families, "worker_restarts_total") == {("0",): 0, ("1",): 0}
    pids = await ready_pids(admin_port)
    os.kill(pids[1], signal.SIGKILL)
    await process.logged(f"worker 1, pid {pids[1]}: killed")
    assert await ready_pids(admin_port) != pids
    await send_requests()
    await process.reload()
    await send_requests()
    families = await scrape(admin_port)
    assert samples(families, "worker_restarts_total") == {("0",): 0, ("1",): 1}
    assert len(samples(families, f"{DURATION}_count")) == 1
    await stop(process)


async def test_own_metrics_of_a_service_are_exported_and_survive_a_reload(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    package = copy_brewery(tmp_path)
    process = start_service("brewery", workers=2)
    port, admin_port = await process.ports()

    async def brew() -> None:
        async with RawConnection(port) as connection:
            connection.send("POST /cups HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert (await connection.response()).status == 201

    async def check(cups: int, pids: list[int]) -> None:
        families = await scrape(admin_port)
        assert samples(families, "brewed_cups_total") == {(): cups}
        assert samples(families, "brewed_leaves_total") == {(): 5 * cups}
        assert samples(families, "brewer_pid") == {("0",): pids[0], ("1",): pids[1]}

    before = await ready_pids(admin_port)
    await brew()
    await check(1, before)
    # A changed help text does not begin a new counter.
    module = package / "brewing.py"
    module.write_text(module.read_text().replace("Cups of tea.", "Cups of tea and coffee."))
    await process.reload()
    after = await ready_pids(admin_port)
    assert not set(before) & set(after)
    await brew()
    await check(2, after)
    await stop(process)
    assert [record for record in process.records() if record["level"] in ("warning", "error")] == []
