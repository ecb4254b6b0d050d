"""Checks of resources, each by itself and on real processes."""

import asyncio
import errno
import itertools
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runtime import Resource, Resources, Settings
from runtime.monitor.events import CHECK_FAILED, CHECK_RECOVERED, EVENT
from runtime.process import checks as module
from runtime.process.checks import ResourceChecks
from runtime.status import ResourceCheck
from runtime.testing import (
    POLL_INTERVAL,
    WAIT_TIMEOUT,
    Record,
    ServiceProcess,
    ServiceStarter,
    wait_until,
)

from ..support.checks import (
    CHECKED,
    FAILS,
    TIMEOUT,
    WORKS_AGAIN,
    let_check,
    readiness,
    until_ready,
)
from ..support.clock import FakeClock
from ..support.connections import RawConnection
from ..support.processes import begin_slow_request, release, worker_statuses
from ..support.workers import pid_of_other_worker, requests, until_worker_ready

Check = Callable[[object], Awaitable[None]]

REFUSED = f"ConnectionRefusedError: {os.strerror(errno.ECONNREFUSED)}"
HANGS = f"TimeoutError: no result within {TIMEOUT:g} s"
DOES_NOT_END = "TimeoutError: the last check does not end"
BEHAVIOURS = {"raise": REFUSED, "hang": HANGS, "ignore": DOES_NOT_END}
"""Of the check of a process, and the error that comes of it."""


@asynccontextmanager
async def open_nothing(settings: Settings) -> AsyncIterator[object]:
    yield object()


@asynccontextmanager
async def checking(
    check: Check, interval: float = 0.001, time_limit: float = 0.01
) -> AsyncIterator[ResourceChecks]:
    """Check a resource meanwhile."""
    resource = Resource("store", open_nothing, check=check, interval=interval, timeout=time_limit)
    unchecked = Resource("unchecked", open_nothing)
    resources = Resources()
    resources[resource] = resources[unchecked] = object()
    checks = ResourceChecks([unchecked, resource], resources, lambda: None)
    checks.start()
    try:
        yield checks
    finally:
        await checks.end()


def result(checks: ResourceChecks) -> ResourceCheck:
    [found] = checks.results
    assert found.resource == "store"
    return found


def reports(records: list[Record]) -> list[Record]:
    return [record for record in records if EVENT in record]


def outcomes(*errors: BaseException | None) -> Check:
    """Return a check that fails with these errors, one after the other, then with the last one."""
    found = itertools.chain(errors, itertools.repeat(errors[-1]))

    async def check(value: object) -> None:
        if error := next(found):
            raise error

    return check


async def test_check_gets_the_open_value_and_is_unknown_before_its_first_end() -> None:
    is_over, values = asyncio.Event(), []

    async def check(value: object) -> None:
        values.append(value)
        await is_over.wait()

    async with checking(check, time_limit=60) as checks:
        await wait_until(lambda: values)
        assert type(values[0]) is object
        assert not result(checks).passing
        assert (result(checks).error, result(checks).checked_ago) == ("", None)
        is_over.set()
        await wait_until(lambda: result(checks).passing)
        assert result(checks).checked_ago is not None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("no database"), "OSError"),
        (ConnectionError("store", "no answer"), "ConnectionError"),
        (ConnectionError(1 << 99, "no answer"), "ConnectionError"),
        (asyncio.CancelledError(), "CancelledError: by the check itself"),
        (ExceptionGroup("two", [OSError(), OSError()]), "ExceptionGroup"),
    ],
)
async def test_failure_and_recovery_are_logged_once(
    log_records: list[Record], error: BaseException, text: str
) -> None:
    async with checking(outcomes(error, error, error, None)) as checks:
        await wait_until(lambda: result(checks).passing)
        assert result(checks).error == ""
    failed, recovered = reports(log_records)
    assert (failed[EVENT], failed["level"]) == (CHECK_FAILED, "error")
    assert failed["message"] == f"{FAILS}{text}"
    assert failed["exception.type"] == type(error).__qualname__
    assert failed["resource"] == recovered["resource"] == "store"
    assert (recovered[EVENT], recovered["level"]) == (CHECK_RECOVERED, "info")
    assert recovered["message"].startswith(f"{WORKS_AGAIN} after 0.")


async def test_check_that_is_not_async_fails(log_records: list[Record]) -> None:
    def check(value: object) -> None: ...

    async with checking(check) as checks:  # type: ignore[arg-type]
        await wait_until(lambda: result(checks).error)
        assert result(checks).error == "TypeError"


async def test_resource_that_flaps_is_logged_once_a_minute(
    log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(monkeypatch, module)
    calls = itertools.count(1)
    count = 0

    async def check(value: object) -> None:
        nonlocal count
        count = next(calls)
        clock.now += 5
        if count % 2:
            raise OSError

    begin = clock.now
    async with checking(check, interval=5):  # by the clock no time is left until the next one
        await wait_until(lambda: count >= 48)
    minutes = (clock.now - begin) / 60
    names = [record[EVENT] for record in reports(log_records)]
    assert minutes - 1 <= names.count(CHECK_FAILED) <= minutes + 1
    assert set(names[::2]) == {CHECK_FAILED}
    assert set(names[1::2]) == {CHECK_RECOVERED}


async def test_failure_within_a_minute_is_logged_at_its_end(
    log_records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_INTERVAL", 0.1)
    async with checking(outcomes(OSError("down"), None, ValueError("bad"))):
        await wait_until(lambda: len(reports(log_records)) == 3)
    messages = [record["message"] for record in reports(log_records)]
    assert messages[::2] == [f"{FAILS}OSError", f"{FAILS}ValueError"]


async def test_checks_do_not_pile_up(log_records: list[Record]) -> None:
    running, calls, is_over = 0, 0, False

    async def check(value: object) -> None:
        nonlocal running, calls
        calls += 1
        running += 1
        assert running == 1
        while not is_over:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.005)
        running -= 1

    async with checking(check) as checks:
        await wait_until(
            lambda: result(checks).error == "TimeoutError: the last check does not end"
        )
        assert calls == 1
        is_over = True
        await wait_until(lambda: result(checks).passing)
        assert calls > 1
    assert len(reports(log_records)) == 2


async def test_late_error_of_a_cancelled_check_is_not_logged(log_records: list[Record]) -> None:
    async def check(value: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("late")

    async with checking(check) as checks:
        await wait_until(lambda: result(checks).error)
    logged = [record for record in log_records if record["level"] == "error"]
    assert logged == reports(log_records)


async def test_ended_checks_use_nothing_any_more() -> None:
    has_begun, is_cancelled = asyncio.Event(), asyncio.Event()

    async def check(value: object) -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            is_cancelled.set()

    async with checking(check, time_limit=60) as checks:
        await has_begun.wait()
        checks.cancel()
        await asyncio.sleep(0)  # now it begins to end
        assert not is_cancelled.is_set()
    assert is_cancelled.is_set()


async def test_checks_of_several_workers_get_out_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    ranges: list[tuple[float, float]] = []

    async def check(value: object) -> None:
        nonlocal calls
        calls += 1

    def choose(low: float, high: float) -> float:
        ranges.append((low, high))
        return 0.0 if len(ranges) < 3 else high

    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=choose))
    async with checking(check, interval=3600):
        # What is chosen counts: otherwise there would be one check.
        await wait_until(lambda: len(ranges) == 3)
    assert (calls, ranges) == (3, [(1 - module.JITTER, 1)] * 3)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(), "OSError"),
        (OSError("postgres://app:p@ss@db"), "OSError"),
        (ValueError('{"password": "hunter2"}'), "ValueError"),
        (TimeoutError("Authorization: Bearer abc"), "TimeoutError"),
        (OSError(errno.ECONNREFUSED, "db://app:secret@db"), REFUSED),
        (ssl.SSLError(1, "db://app:secret@db"), "SSLError"),
        (socket.gaierror(-2, "db://app:secret@db"), "gaierror"),
    ],
)
async def test_error_is_told_without_its_message(
    error: Exception, text: str, log_records: list[Record]
) -> None:
    async def check(value: object) -> None:
        raise error

    async with checking(check) as checks:
        await wait_until(lambda: result(checks).error)
        assert result(checks).error == text
    [record] = reports(log_records)
    assert record["message"] == f"{FAILS}{text}"
    assert record["exception.message"] == str(error)


# On real processes


@pytest.fixture(params=[1, 2])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def count_messages(process: ServiceProcess, text: str) -> int:
    return sum(message.startswith(text) for message in process.messages())


def errors(process: ServiceProcess) -> list[Record]:
    return [record for record in process.records() if record["level"] == "error"]


async def fails_in(admin_port: int, workers: int, error: str = "") -> dict[str, Any]:
    """Wait until the resource fails in so many workers, with an error; return ``/readyz``."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while True:
            body = await readiness(admin_port)
            [resource] = body["resources"]
            if (len(resource["failing_workers"]), resource["error"]) == (workers, error):
                return body
            await asyncio.sleep(POLL_INTERVAL)


async def test_readiness_follows_and_requests_are_served(
    start_service: ServiceStarter, tmp_path: Path, workers: int
) -> None:
    process = start_service(CHECKED, workers=workers, drain_timeout=600)
    port, admin_port = await process.ports()
    [resource] = (await until_ready(admin_port))["resources"]
    assert (resource["resource"], resource["error"], resource["failing_for"]) == ("store", "", 0)
    assert resource["failing_workers"] == []
    assert resource["checked_ago"] >= 0

    async with requests(port) as statuses:
        for behaviour, error in BEHAVIOURS.items():
            let_check(tmp_path, "pass")
            await fails_in(admin_port, 0)
            let_check(tmp_path, behaviour)
            body = await fails_in(admin_port, workers, error)
            assert not body["ready"]
            [reason] = body["reasons"]
            assert reason.startswith(f"resource store fails: {error} (for ")
            [resource] = body["resources"]
            assert resource["failing_workers"] == [*range(workers)]
            assert resource["failing_for"] >= 0
            before = len(statuses)
            await wait_until(lambda count=before: len(statuses) > count + 10)
    assert set(statuses) == {200}
    async with RawConnection(port) as connection:
        assert (await connection.get("/")).json()["running"] == 1

    # The outages were less than a minute apart: each worker has logged the first one, once.
    assert sorted(record["worker"] for record in errors(process)) == [*range(workers)]
    assert all(record[EVENT] == CHECK_FAILED for record in errors(process))
    await wait_until(lambda: count_messages(process, WORKS_AGAIN) == workers)

    # The last check ignores that it is cancelled, and does not hold up the end.
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert count_messages(process, "store closed, checks running: 1") == workers
    assert count_messages(process, "the check of resource store does not end") == workers
    assert count_messages(process, "stopped") == workers + (2 if workers > 1 else 0)


async def test_check_that_hangs_holds_up_neither_start_nor_reload_nor_drain(
    start_service: ServiceStarter, tmp_path: Path, workers: int
) -> None:
    let_check(tmp_path, "hang")
    process = start_service(CHECKED, workers=workers, drain_timeout=600)
    port, admin_port = await process.ports()
    body = await readiness(admin_port)
    assert not body["ready"]
    assert body["reasons"][0].startswith("resource store ")
    await fails_in(admin_port, workers, HANGS)
    if workers > 1:
        before = {worker["pid"] for worker in await worker_statuses(admin_port)}
        await process.reload()
        assert not before & {worker["pid"] for worker in await worker_statuses(admin_port)}
        warning = await process.logged("the service is not ready: resource store ")
        assert warning["level"] == "warning"
        assert not (await readiness(admin_port))["ready"]
        await fails_in(admin_port, workers, HANGS)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        drained = count_messages(process, "draining")
        process.send_signal(signal.SIGTERM)
        await wait_until(lambda: count_messages(process, "draining") > drained)
        release(process)
        assert (await connection.response()).status == 200
    assert await process.exit_code() == 0
    assert process.errors() == ""
    # Each check has ended before its resource was closed.
    starts = workers * (2 if workers > 1 else 1)
    assert count_messages(process, "store closed, checks running: 0") == starts
    assert not [message for message in process.messages() if "aborted" in message]


async def test_service_is_ready_while_the_resource_works_in_one_worker(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = start_service(CHECKED, workers=2)
    _, admin_port = await process.ports()
    await until_ready(admin_port)
    pid = await pid_of_other_worker(admin_port, 0)
    await until_worker_ready(admin_port, pid)
    let_check(tmp_path, "raise", pid)
    failed = await process.logged(FAILS)
    assert (failed["worker"], failed["pid"]) == (1, pid)
    body = await readiness(admin_port)
    assert body["ready"]
    [resource] = body["resources"]
    assert (resource["failing_workers"], resource["error"]) == ([1], REFUSED)

    # Nothing of a worker stays that is killed while its check fails.
    os.kill(pid, signal.SIGKILL)
    successor = await pid_of_other_worker(admin_port, pid)
    await until_worker_ready(admin_port, successor)
    await fails_in(admin_port, 0)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
