"""More and fewer workers while the service runs, as real processes."""

import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from runtime.settings import Settings
from runtime.testing import ServiceProcess, ServiceStarter, wait_until
from runtime.workers import resize
from runtime.workers.operations import RefusedError
from runtime.workers.resize import MAX_WORKERS, capacity, check_count

from tests.ports import free_ports
from tests.runtime.support.processes import release, worker_statuses
from tests.runtime.support.workers import (
    ACCEPTING,
    KEEPING_OLD,
    RELOADED,
    RELOADING,
    RESIZABLE,
    all_ready,
    begin_to_order_workers,
    deploy,
    errors,
    not_ready_reasons,
    occupy_workers,
    order_workers,
    outcomes,
    ready,
    requests,
    stop,
    versions,
)

ANOTHER = "('after a restart there are 2 workers again; to keep {0}, set APP_WORKERS={0}',)"


async def start(start_service: ServiceStarter, folder: Path) -> tuple[ServiceProcess, int, int]:
    """Start a service with two workers; return its ports as well."""
    deploy(folder, "first")
    process = start_service(RESIZABLE, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    return process, port, admin_port


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
            outcome = await order_workers(process, count)
            change = f"workers: {before} -> {count}"
            assert (
                outcome
                == f"outcome: True, {change} {'()' if count == 2 else ANOTHER.format(count)}"
            )
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
    assert await order_workers(process, 2) == "outcome: True, workers: 2 ()"
    await stop(process)
    assert errors(process) == []


async def test_requests_in_flight_at_workers_that_end_are_finished(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        begin_to_order_workers(process, 1)
        await process.logged("draining, requests in flight")
        assert [status["worker"] for status in await worker_statuses(admin_port)] == [0, 1]
        assert await order_workers(process, 2) == (
            "refused: the number of workers is being changed: try again later"
        )
        release(process)
        assert {(await connection.response()).status for connection in connections} == {200}
    await wait_until(lambda: len(outcomes(process)) == 2)
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
        assert re.fullmatch(rf"outcome: False, {still} \(\)", await order_workers(process, 4))
        [error] = errors(process)
        assert re.fullmatch(still, error["message"])
        assert error["event.name"] == "workers.not_changed"
        assert "ValueError: broken" in error["exception.stacktrace"]
        # One of two starts, and must go again. From then on its socket listens.
        (tmp_path / "unique").mkdir()
        deploy(tmp_path, "unique")
        outcome = await order_workers(process, 4)
        assert outcome.startswith("outcome: False, workers: still 2: worker 3")
        await wait_until(lambda: process.messages().count("stopped") == 1)
        count = len(statuses)
        await wait_until(lambda: len(statuses) > count + 50)
    assert set(statuses) == {200}
    assert await workers(admin_port) == [0, 1]
    assert await versions(port) == {"first"}
    deploy(tmp_path, "second")
    assert await order_workers(process, 3) == f"outcome: True, workers: 2 -> 3 {ANOTHER.format(3)}"
    # The new one has the code of this moment.
    assert await versions(port) == {"first", "second"}
    await stop(process)
    assert len(errors(process)) == 2


async def test_reload_applies_to_the_workers_of_the_moment(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, admin_port = await start(start_service, tmp_path)
    await order_workers(process, 3)
    deploy(tmp_path, "waiting")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    assert await order_workers(process, 1) == (
        "refused: a reload is going on: try again when it is over"
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
    begin_to_order_workers(process, 3)
    await wait_until(lambda: _has_starting_worker(process))
    deploy(tmp_path, "second")
    process.send_signal(signal.SIGHUP)
    await process.logged("outcome: False, workers: still 2: a reload has begun ()")
    await process.logged(RELOADED)
    assert await workers(admin_port) == [0, 1]
    # A smaller number is one already, whatever its workers have to finish.
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        begin_to_order_workers(process, 1)
        await process.logged("workers: 2 -> 1")
        deploy(tmp_path, "third")
        process.send_signal(signal.SIGHUP)
        await process.logged(f"outcome: True, workers: 2 -> 1 {ANOTHER.format(1)}")
        assert process.messages().count(RELOADED) == 1
        release(process)
        assert {(await connection.response()).status for connection in connections} == {200}
    await wait_until(lambda: process.messages().count(RELOADED) == 2)
    assert await versions(port) == {"third"}
    assert await workers(admin_port) == [0]
    await stop(process)
    assert errors(process) == []


def _has_starting_worker(process: ServiceProcess) -> bool:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return len(children) == 4


async def test_stop_ends_a_change(start_service: ServiceStarter, tmp_path: Path) -> None:
    process, _, _ = await start(start_service, tmp_path)
    deploy(tmp_path, "blocked")
    begin_to_order_workers(process, 4)
    await wait_until(lambda: _has_starting_worker(process))
    await stop(process)
    assert "workers: still 2: the service is stopping" in process.messages()
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
    assert await order_workers(process, 2) == "outcome: True, workers: 3 -> 2 ()"
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
    process = start_service(RESIZABLE, workers=2, port=free_ports(2)[0], port_per_worker=True)
    await all_ready(process)
    outcome = await order_workers(process, 1)
    assert outcome == (
        "refused: cannot change the number of workers while APP_PORT_PER_WORKER=true, because the"
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
