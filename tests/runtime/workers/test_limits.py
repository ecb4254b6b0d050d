"""Limits of a worker: who is renewed, and when. First by fake rows, then as real processes."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from runtime.settings import Settings
from runtime.status import ADMIN_SLOT
from runtime.testing import WAIT_TIMEOUT, Record, ServiceProcess, ServiceStarter, wait_until
from runtime.workers import limits as limits_module
from runtime.workers import restarts
from runtime.workers.child import ChildProcess
from runtime.workers.limits import Limits, limit_warnings

from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.clock import FakeClock
from tests.runtime.support.processes import children, release, worker_statuses
from tests.runtime.support.workers import (
    RELOADABLE,
    RELOADED,
    all_ready,
    deploy,
    errors,
    order_workers,
    ready,
    requests,
    stop,
    succeed,
    versions,
)

MIB = 1 << 20
RENEWING = ": renewing it"
NOT_RENEWING = ": not renewing it"


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


class FakeRow:
    def __init__(self, memory: int, requests: int) -> None:
        self.memory = memory
        self.requests = requests
        self.last_heartbeat = 0.0


class Harness:
    """Limits, and processes that a test makes up."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.processes: list[ChildProcess] = []

    def add(
        self, slot: int, ready_since: float = 1.0, *, memory: int = MIB, requests: int = 0
    ) -> Any:
        """Add a process that has just become ready."""
        row = FakeRow(memory, requests)
        process = ChildProcess(4000 + slot, slot, cast(Any, row), cast(Any, None))
        process.ready_since = ready_since
        row.last_heartbeat = ready_since + 0.1
        self.processes.append(process)
        self.limits.observe(process)
        return process

    def find(self, **values: object) -> tuple[int, str] | None:
        found = self.limits.find(self.processes, settings(**values))
        return found and (found[0].slot, found[1])


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr(limits_module, "random", SimpleNamespace(uniform=lambda low, high: 1.0))
    monkeypatch.setattr(restarts, "random", SimpleNamespace(uniform=lambda low, high: 1.0))
    return Harness()


def test_memory_beyond_the_limit_is_a_reason(harness: Harness) -> None:
    worker = harness.add(1)
    worker.row.memory = 512 * MIB
    assert harness.find(max_memory="512MiB") is None
    worker.row.memory = 530 * MIB
    assert harness.find(max_memory="512MiB") == (
        1,
        "530.0 MiB of memory, more than APP_MAX_MEMORY (512.0 MiB)",
    )
    assert harness.find(max_memory="531MiB") is None
    assert harness.find() is None


def test_responses_beyond_the_limit_are_a_reason(harness: Harness) -> None:
    harness.add(0, requests=100)
    assert harness.find(max_requests=100) is None
    harness.add(1, requests=101)
    assert harness.find(max_requests=100) == (
        1,
        "101 responses, more than its limit of 100 (APP_MAX_REQUESTS=100, ±10 %)",
    )
    assert harness.find(max_requests=0) is None


def test_limit_of_responses_differs_between_processes() -> None:
    harness = Harness()
    for slot in range(200):
        harness.add(slot)
    limits = []
    for worker in harness.processes:
        worker.row.requests = 100_000_000  # type: ignore[misc]
        found = harness.limits.find([worker], settings(max_requests=10_000))
        assert found
        limits.append(int(re.findall(r"limit of (\d+) ", found[1])[0]))
        assert harness.limits.find([worker], settings(max_requests=10_000)) == found
    assert 9000 <= min(limits) < 9500 < 10_500 < max(limits) <= 11_000


def test_worker_that_has_served_for_longest_comes_first(harness: Harness) -> None:
    harness.add(0, 3.0, requests=9)
    harness.add(1, 2.0, requests=9)
    harness.add(2, 4.0, requests=9)
    found = harness.find(max_requests=5)
    assert found
    assert found[0] == 1


def test_admin_process_and_processes_that_start_or_exit_are_left_alone(harness: Harness) -> None:
    harness.add(ADMIN_SLOT, requests=9)
    harness.add(0, 0.0, requests=9)
    harness.add(1, requests=9).exiting = True
    assert harness.find(max_requests=5) is None


def test_worker_that_starts_beyond_the_limit_is_left_alone_and_that_is_said_once(
    harness: Harness, log_records: list[Record]
) -> None:
    harness.add(0, memory=60 * MIB)
    harness.add(1, memory=50 * MIB)
    grown = harness.add(2, memory=10 * MIB)
    for _ in range(3):
        assert harness.find(max_memory="40MiB") is None
    [record] = log_records
    assert record["level"] == "warning"
    assert record["event.name"] == "worker.not_renewed"
    assert record["message"] == (
        "worker 0, pid 4000: not renewing it: it started with 60.0 MiB of memory, more than"
        " APP_MAX_MEMORY (40.0 MiB), and so would its successor"
    )
    grown.row.memory = 41 * MIB
    found = harness.find(max_memory="40MiB")
    assert found
    assert found[0] == 2
    # The number of responses counts all the same, and a reload tells it again.
    harness.processes[0].row.requests = 9  # type: ignore[misc]
    found = harness.find(max_memory="40MiB", max_requests=5)
    assert found
    assert found[0] == 0
    grown.row.memory = 1
    harness.limits.reset()
    harness.find(max_memory="40MiB")
    assert len(log_records) == 2


def test_memory_of_a_start_is_that_of_a_heartbeat_after_it(harness: Harness) -> None:
    worker = harness.add(0, 0.0, memory=1 * MIB)
    worker.ready_since = 5.0
    harness.limits.observe(worker)  # the last heartbeat was before
    worker.row.memory = 50 * MIB
    assert harness.find(max_memory="40MiB") is None
    worker.row.last_heartbeat = 5.1
    harness.limits.observe(worker)
    worker.row.memory = 60 * MIB
    harness.limits.observe(worker)
    assert harness.find(max_memory="40MiB") is None
    found = harness.find(max_memory="55MiB")
    assert found
    assert found[0] == 0


def test_successor_that_cannot_start_delays_the_next_attempt(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(monkeypatch, restarts)
    harness.add(0, requests=9)
    delays = [harness.limits.failed(0) for _ in range(3)]
    assert delays == [0.5, 1.0, 2.0]
    assert harness.find(max_requests=5) is None
    clock.now += 1.9
    assert harness.find(max_requests=5) is None
    clock.now += 0.2
    assert harness.find(max_requests=5) is not None
    harness.limits.succeeded(0)
    assert harness.limits.failed(0) == 0.5
    harness.limits.reset()
    assert harness.find(max_requests=5) is not None


def test_renewals_in_quick_succession_are_delayed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(monkeypatch, restarts)
    worker = harness.add(0, clock.now, requests=9)
    for _ in range(restarts.CRASH_LOOP_COUNT):
        assert harness.find(max_requests=5) is not None
        harness.limits.started(worker, clock.now + 1)
    assert harness.find(max_requests=5) is not None
    harness.limits.started(worker, clock.now + 1)
    assert harness.find(max_requests=5) is None
    clock.now += restarts.MAX_DELAY + 1
    assert harness.find(max_requests=5) is not None
    harness.limits.started(worker, clock.now)
    assert harness.find(max_requests=5) is not None


def test_limit_of_memory_that_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(limit_warnings(settings(max_memory="1GiB"))) == []
    monkeypatch.setattr(limits_module, "resident_memory", lambda: 0)
    assert list(limit_warnings(settings())) == []
    [warning] = limit_warnings(settings(max_memory="1GiB"))
    assert warning.startswith("APP_MAX_MEMORY has no effect")


# Real processes


def renewals(process: ServiceProcess) -> list[Record]:
    return [record for record in process.records() if RENEWING in record["message"]]


@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.exhaustive)])
async def test_leaking_workers_are_renewed_under_load_and_no_request_fails(
    start_service: ServiceStarter, tmp_path: Path, times: int
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    await succeed(port, 20)
    memory = max(worker["memory"] for worker in await worker_statuses(admin_port))
    limit = memory // MIB + 24
    (tmp_path / ".env").write_text(f"APP_MAX_MEMORY={limit}MiB\n")
    await process.reload()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(requests(port, "/leak", 0.005)) for _ in range(3)
        ]
        for number in range(times):
            async with asyncio.timeout(WAIT_TIMEOUT):
                # Seldom, because reading the log costs more than the requests.
                while len(renewals(process)) <= number:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
    statuses = [status for client in clients for status in client]
    assert set(statuses) == {200}
    await wait_until(lambda: process.messages().count("stopped") >= 3 + times)
    records = renewals(process)
    # Each of them once, one after the other: its successor is ready before the next one's turn.
    pids = [record["message"].partition(":")[0] for record in records]
    assert len(set(pids)) == len(pids)
    reason = rf"\d+\.\d MiB of memory, more than APP_MAX_MEMORY \({limit}\.0 MiB\)"
    for record in records:
        assert re.fullmatch(rf"worker [01], pid \d+{RENEWING}: {reason}", record["message"])
        assert (record["level"], record["event.name"]) == ("info", "worker.renewing")
    assert [worker["restarts"] for worker in await worker_statuses(admin_port)] == [0, 0]
    await stop(process)
    assert errors(process) == []
    assert not [record for record in process.records() if record["level"] == "warning"]


async def limited(
    start_service: ServiceStarter, tmp_path: Path
) -> tuple[ServiceProcess, int, list[int]]:
    """Start two workers that may send ten responses, and let one of them send more."""
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2, max_requests=10)
    port, _ = await process.ports()
    _, *pids = await all_ready(process)
    return process, port, pids


async def test_all_workers_at_their_limit_are_renewed_one_after_the_other(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process, port, pids = await limited(start_service, tmp_path)
    deploy(tmp_path, "waiting")
    await succeed(port, 200)
    await wait_until(lambda: renewals(process))
    await succeed(port, 10)
    assert len(renewals(process)) == 1
    release(process)
    await wait_until(lambda: process.messages().count("stopped") == 2)
    assert await versions(port) == {"waiting"}
    renewed = [int(re.findall(r"pid (\d+)", r["message"])[0]) for r in renewals(process)]
    assert sorted(renewed[:2]) == sorted(pids)
    await stop(process)
    assert errors(process) == []


async def test_worker_stays_if_its_successor_cannot_start(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITIAL_DELAY", "0.3")
    process, port, pids = await limited(start_service, tmp_path)
    deploy(tmp_path, "broken")
    await succeed(port, 100)
    await wait_until(lambda: len(errors(process)) >= 3)
    record = errors(process)[0]
    reason = r"worker [01], pid \d+: cannot create the application: ValueError\('broken'\)"
    message = rf"worker [01], pid ({pids[0]}|{pids[1]}): not renewed, it stays: {reason}"
    assert re.fullmatch(message, record["message"])
    assert record["event.name"] == "worker.not_renewed"
    assert "ValueError: broken" in record["exception.stacktrace"]
    await process.logged("retrying in 0.")
    assert await versions(port) == {"first"}
    deploy(tmp_path, "second")
    await wait_until(lambda: process.messages().count("stopped") == 2)
    assert await versions(port) == {"second"}
    assert [len(ready(process, f"worker {slot}")) for slot in (0, 1)] == [2, 2]
    await stop(process)


async def test_limit_that_every_worker_exceeds_renews_none(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2, max_memory="1MiB")
    port, _ = await process.ports()
    await all_ready(process)
    for times in 1, 2:
        await wait_until(
            lambda: sum(NOT_RENEWING in m for m in process.messages()) == times  # noqa: B023
        )
        await succeed(port, 50)
        await process.reload()
    assert renewals(process) == []
    await stop(process)
    assert errors(process) == []


async def until_version(port: int, version: str) -> None:
    """Wait until all workers have a version of the code."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while await versions(port) != {version}:
            pass


@pytest.fixture
async def renewing(
    start_service: ServiceStarter, tmp_path: Path
) -> AsyncIterator[tuple[ServiceProcess, int]]:
    """A service that is renewing a worker; its successor waits until it is released."""
    process, port, _ = await limited(start_service, tmp_path)
    deploy(tmp_path, "waiting")
    await succeed(port, 100)
    await wait_until(lambda: renewals(process))
    return process, port


async def test_reload_takes_the_place_of_a_renewal(
    renewing: tuple[ServiceProcess, int], tmp_path: Path
) -> None:
    process, port = renewing
    deploy(tmp_path, "second")
    (tmp_path / ".env").write_text("")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADED)
    assert await versions(port) == {"second"}
    await stop(process)
    assert errors(process) == []


async def test_stop_during_a_renewal(renewing: tuple[ServiceProcess, int]) -> None:
    process, _ = renewing
    await stop(process)
    assert errors(process) == []


async def test_another_number_of_workers_takes_the_place_of_a_renewal(
    renewing: tuple[ServiceProcess, int], tmp_path: Path
) -> None:
    process, port = renewing
    change = asyncio.create_task(order_workers(process, 1))
    await process.logged("workers: 2 -> 1")
    release(process)
    assert (await change)["success"]
    # The one that stays has its turn.
    await until_version(port, "waiting")
    assert (await order_workers(process, 2))["success"]
    await stop(process)
    assert errors(process) == []


async def test_worker_that_crashes_while_it_is_renewed_is_replaced_once(
    renewing: tuple[ServiceProcess, int],
) -> None:
    process, port = renewing
    pid = int(re.findall(r"pid (\d+)", renewals(process)[0]["message"])[0])
    os.kill(pid, signal.SIGKILL)
    await process.logged(f"{renewals(process)[0]['message'].partition(':')[0]}: killed by SIGKILL")
    release(process)
    # Then the other one has its turn. Nobody stays but an admin process and two workers.
    before = {ready(process, f"worker {slot}")[0] for slot in (0, 1)}
    await wait_until(lambda: len(found := children(process.pid)) == 3 and before.isdisjoint(found))
    await succeed(port, 5)
    await stop(process)
    assert len(errors(process)) == 1


async def test_single_process_has_no_limits_and_says_so(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, max_memory="1GiB", max_requests=1)
    await process.ports()
    warnings = [r["message"] for r in process.records() if r["level"] == "warning"]
    assert [warning.partition(" has no effect: ")[0] for warning in warnings] == [
        "APP_MAX_MEMORY",
        "APP_MAX_REQUESTS",
    ]
    await stop(process)
