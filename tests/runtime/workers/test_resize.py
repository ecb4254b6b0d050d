"""More and fewer workers while the service runs, as real processes."""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from runtime.control.protocol import Message
from runtime.settings import Settings
from runtime.testing import ServiceProcess, ServiceStarter, wait_until
from runtime.workers import resize
from runtime.workers.children import Children
from runtime.workers.operations import RefusedError
from runtime.workers.resize import MAX_WORKERS, Resize, capacity, check_count
from runtime.workers.restarts import MAX_ATTEMPTS
from runtime.workers.scoreboard import Scoreboard

from tests.ports import free_ports
from tests.runtime.support.commands import run
from tests.runtime.support.processes import children, release, worker_statuses
from tests.runtime.support.workers import (
    ACCEPTING,
    KEEPING_OLD,
    RELOADABLE,
    RELOADED,
    RELOADING,
    all_ready,
    deploy,
    errors,
    not_ready_reasons,
    occupy_workers,
    order_workers,
    ready,
    requests,
    start_reloadable,
    stop,
    succeed,
    versions,
)

NO_WORKER_STAYS = "none of the workers that stay is ready: try again when one is"
ANOTHER = "after a restart there are 2 workers again; to keep {0}, set APP_WORKERS={0}"


def changed(before: int, count: int) -> Message:
    """Return what comes of a change that succeeds."""
    warnings = [] if count == 2 else [ANOTHER.format(count)]
    return {"success": True, "message": f"workers: {before} -> {count}", "warnings": warnings}


def not_changed(reason: str) -> Message:
    """Return what comes of a change that fails or is refused."""
    return {"success": False, "message": reason, "warnings": []}


async def start(start_service: ServiceStarter, folder: Path) -> tuple[ServiceProcess, int, int]:
    """Start a service with two workers; return its ports as well."""
    process = await start_reloadable(start_service, folder)
    return process, *await process.ports()


async def workers(admin_port: int) -> list[int]:
    """Return the numbers of the workers, all of which are ready."""
    statuses = await worker_statuses(admin_port)
    assert all(status["ready"] for status in statuses)
    return [status["worker"] for status in statuses]


async def test_number_of_workers_changes_under_load_and_no_request_fails(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(requests(port)) for _ in range(4)]
        for before, count in (2, 4), (4, 1), (1, 3), (3, 2):
            change = f"workers: {before} -> {count}"
            if before == 2:  # once as a user does it
                result = await run(process, "workers", str(count))
                assert (result.code, result.out) == (0, f"{change}\n")
                assert result.last_error == f"Warning: {ANOTHER.format(count)}"
                for name in "worker 2", "worker 3":
                    assert f"{name}, pid {ready(process, name)[-1]}: ready\n" in result.err
            else:
                assert await order_workers(process, count) == changed(before, count)
            assert change in process.messages()
            assert await workers(admin_port) == [*range(count)]
            assert await not_ready_reasons(admin_port) == []
            counts = [len(statuses) for statuses in clients]
            await wait_until(
                lambda: all(len(c) > n + 20 for c, n in zip(clients, counts, strict=True))  # noqa: B023
            )
    assert {status for statuses in clients for status in statuses} == {200}
    # Those that stay are the ones that have been there all the time.
    assert [len(ready(process, f"worker {slot}")) for slot in range(4)] == [1, 2, 2, 1]
    assert not [message for message in process.messages() if message.startswith(ACCEPTING)]
    assert await order_workers(process, 2) == {
        "success": True,
        "message": "workers: 2",
        "warnings": [],
    }
    await stop(process)
    assert errors(process) == []


async def test_requests_in_flight_at_workers_that_end_are_finished(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        change = asyncio.create_task(order_workers(process, 1))
        await process.logged("draining, requests in flight")
        assert [status["worker"] for status in await worker_statuses(admin_port)] == [0, 1]
        assert await order_workers(process, 2) == not_changed(
            "the number of workers is being changed: try again later"
        )
        release(process)
        assert {(await connection.response()).status for connection in connections} == {200}
    assert await change == changed(2, 1)
    assert await workers(admin_port) == [0]
    await stop(process)
    assert errors(process) == []


async def test_workers_that_cannot_start_are_dropped_with_the_reason(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    async with requests(port) as statuses:
        deploy(tmp_path, "broken")
        reason = r"cannot create the application: ValueError\('broken'\)"
        still = rf"workers: still 2: worker 2, pid \d+: {reason}"
        outcome = await order_workers(process, 4)
        [error] = errors(process)
        assert re.fullmatch(still, error["message"])
        assert outcome == not_changed(error["message"])
        assert error["event.name"] == "workers.not_changed"
        assert "ValueError: broken" in error["exception.stacktrace"]
        # One of two starts, and must go again. From then on its socket listens.
        (tmp_path / "unique").mkdir()
        deploy(tmp_path, "unique")
        outcome = await order_workers(process, 4)
        assert outcome == not_changed(errors(process)[-1]["message"])
        assert outcome["message"].startswith("workers: still 2: worker 3")
        await wait_until(lambda: len(children(process.pid)) == 3)
        count = len(statuses)
        await wait_until(lambda: len(statuses) > count + 50)
    assert set(statuses) == {200}
    assert await workers(admin_port) == [0, 1]
    assert await versions(port) == {"first"}
    deploy(tmp_path, "second")
    assert await order_workers(process, 3) == changed(2, 3)
    # The new one has the code of this moment.
    assert await versions(port) == {"first", "second"}
    await stop(process)
    assert len(errors(process)) == 2


async def test_workers_that_serve_are_not_dropped_for_one_that_cannot_start(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, _ = await start(start_service, tmp_path)
    deploy(tmp_path, "broken")
    os.kill(ready(process, "worker 0")[-1], signal.SIGKILL)
    await process.logged("retrying in")
    assert await order_workers(process, 1) == not_changed(NO_WORKER_STAYS)
    await succeed(port, 10)


async def test_worker_that_drains_is_none_that_stays(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, _ = await start(start_service, tmp_path)
    async with AsyncExitStack() as stack:
        await occupy_workers(process, port, stack)
        os.kill(ready(process, "worker 0")[0], signal.SIGTERM)
        await process.logged("draining, requests in flight")
        assert await order_workers(process, 1) == not_changed(NO_WORKER_STAYS)
        release(process)


async def test_workers_serve_on_if_the_one_that_stays_crashes_for_good(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOVER", "600")
    monkeypatch.setenv("INITIAL_DELAY", "0.01")
    process, port, admin_port = await start(start_service, tmp_path)
    change = asyncio.create_task(order_workers(process, 1))
    await process.logged("workers: 2 -> 1")
    deploy(tmp_path, "broken")
    os.kill(ready(process, "worker 0")[0], signal.SIGKILL)
    await wait_until(lambda: len(errors(process)) > MAX_ATTEMPTS + 2)
    await succeed(port, 10)
    deploy(tmp_path, "second")
    await process.reload()
    assert await change == not_changed("workers: still 2: a reload has begun")
    assert await workers(admin_port) == [0, 1]
    assert await versions(port) == {"second"}
    await stop(process)


def test_workers_drain_only_while_one_that_stays_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "HANDOVER", 0)
    drained: list[float] = []
    is_ready = False  # it has crashed
    children = SimpleNamespace(
        surplus=[SimpleNamespace(drain=drained.append)],
        would_serve=lambda count: is_ready and count == 1,
        set_workers=lambda count: None,
    )
    change = Resize(cast(Children, children), Scoreboard(2), Settings(drain_timeout=7), 1)
    assert not change.advance()
    assert drained == []
    is_ready = True
    assert not change.advance()
    assert drained == [7]


async def test_reload_applies_to_the_workers_of_the_moment(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    await order_workers(process, 3)
    deploy(tmp_path, "waiting")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    assert await order_workers(process, 1) == not_changed(
        "a reload is going on: try again when it is over"
    )
    release(process)
    await process.logged(RELOADED)
    assert await versions(port) == {"waiting"}
    assert await workers(admin_port) == [0, 1, 2]
    await order_workers(process, 1)
    deploy(tmp_path, "second")
    await process.reload()
    assert await versions(port) == {"second"}
    assert await workers(admin_port) == [0]
    await stop(process)
    assert errors(process) == []


async def test_reload_takes_the_place_of_a_change_that_is_under_way(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    deploy(tmp_path, "blocked")
    change = asyncio.create_task(order_workers(process, 3))
    await wait_until(lambda: len(children(process.pid)) == 4)
    deploy(tmp_path, "second")
    process.send_signal(signal.SIGHUP)
    assert await change == not_changed("workers: still 2: a reload has begun")
    await process.logged(RELOADED)
    assert await workers(admin_port) == [0, 1]
    # A smaller number is one already, whatever its workers have to finish.
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        change = asyncio.create_task(order_workers(process, 1))
        await process.logged("workers: 2 -> 1")
        deploy(tmp_path, "third")
        process.send_signal(signal.SIGHUP)
        assert await change == changed(2, 1)
        assert process.messages().count(RELOADED) == 1
        release(process)
        assert {(await connection.response()).status for connection in connections} == {200}
    await wait_until(lambda: process.messages().count(RELOADED) == 2)
    assert await versions(port) == {"third"}
    assert await workers(admin_port) == [0]
    await stop(process)
    assert errors(process) == []


async def test_stop_ends_a_change(start_service: ServiceStarter, tmp_path: Path) -> None:
    process, _, _ = await start(start_service, tmp_path)
    deploy(tmp_path, "blocked")
    change = asyncio.create_task(order_workers(process, 4))
    await wait_until(lambda: len(children(process.pid)) == 4)
    await stop(process)
    reason = "workers: still 2: the service is stopping"
    assert await change == not_changed(reason)
    assert reason in process.messages()
    assert errors(process) == []


async def test_replaced_worker_of_a_larger_number_is_started_again_and_a_dropped_one_is_not(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    await order_workers(process, 3)
    [third] = ready(process, "worker 2")
    os.kill(third, signal.SIGKILL)
    await wait_until(lambda: len(ready(process, "worker 2")) == 2)
    deploy(tmp_path, "broken")
    process.send_signal(signal.SIGHUP)
    await process.logged(f"{KEEPING_OLD}: worker 2")
    os.kill(ready(process, "worker 2")[-1], signal.SIGKILL)
    await process.logged("retrying in")
    assert await order_workers(process, 2) == changed(3, 2)
    failed = len(errors(process))
    async with requests(port) as statuses:
        await wait_until(lambda: len(statuses) > 100)
    assert set(statuses) == {200}
    assert await workers(admin_port) == [0, 1]
    assert len(errors(process)) == failed
    await stop(process)


async def test_number_is_refused_with_a_port_per_worker(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2, port=free_ports(2)[0], port_per_worker=True)
    await all_ready(process)
    outcome = await order_workers(process, 1)
    assert not outcome["success"]
    assert outcome["message"] == (
        "cannot change the number of workers while APP_PORT_PER_WORKER=true, because the"
        " load balancer knows the port of each: change APP_WORKERS and the load balancer,"
        " then restart"
    )
    await stop(process)


def test_capacity_is_twice_the_workers_or_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = SimpleNamespace(count=2)
    monkeypatch.setattr(resize, "usable_cpus", lambda: cpus.count)

    def of(workers: int, **settings: object) -> int:
        return capacity(Settings.model_validate({"workers": workers, "port": 8000, **settings}))

    assert [of(2), of(4), of(200)] == [4, 8, MAX_WORKERS]
    cpus.count = 16
    assert [of(2), of(16), of(20)] == [32, 32, 40]
    assert of(4, port_per_worker=True) == 4
    cpus.count = 128
    assert [of(4), of(32), of(40)] == [64, 64, 80]


def test_count_that_is_not_possible_is_refused_with_a_way_out() -> None:
    settings = Settings(workers=2)
    for count in 1, 4:
        check_count(count, settings, 4)
    for count, message in (
        (0, "there must be at least 1 worker"),
        (
            5,
            "there can be at most 4 workers until the next restart:"
            " set APP_WORKERS=5 and restart the service",
        ),
        (257, "there can be at most 256 workers"),
    ):
        with pytest.raises(RefusedError, match=f"^{message}$"):
            check_count(count, settings, 4)
