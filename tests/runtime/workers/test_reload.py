"""SIGHUP: a rolling restart with the owner's new code, as real processes."""

import json
import os
import re
import shutil
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runtime.checksums import RUNTIME
from runtime.settings import Settings
from runtime.testing import ServiceProcess, ServiceStarter, wait_until
from runtime.workers.resize import capacity
from runtime.workers.scoreboard import SPARE_ROWS

from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import release
from tests.runtime.support.workers import (
    ADMIN,
    APPS,
    FAULTY,
    KEEPING_OLD,
    LISTENING,
    PROCESSES,
    RELOADABLE,
    RELOADED,
    RELOADING,
    RESTART_REQUIRED,
    STOPPED,
    all_ready,
    deploy,
    draining,
    errors,
    have_been_ready,
    not_ready_reasons,
    occupy_workers,
    ready,
    requests,
    stop,
    succeed,
    until_draining,
    version,
    versions,
)


async def reload_fails(process: ServiceProcess, times: int = 1) -> dict[str, Any]:
    """Reload, and return the error that comes of it, the `times`-th one."""
    process.send_signal(signal.SIGHUP)
    await wait_until(lambda: len(errors(process)) == times)
    return errors(process)[-1]


async def test_every_process_is_replaced_and_no_request_fails(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, admin_port = await process.ports()
    before = await all_ready(process)
    assert await version(port) == "first"
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        deploy(tmp_path, "second")
        async with requests(port) as statuses:
            process.send_signal(signal.SIGHUP)
            await wait_until(lambda: draining(process))
            # There is never more than one extra process.
            await wait_until(lambda: len(statuses) > 200)
            assert [len(ready(process, name)) for name in PROCESSES] == [1, 1, 2]
            release(process)
            slow = [(await connection.response()).status for connection in connections]
            await process.logged(RELOADED)
            count = len(statuses)
            await wait_until(lambda: len(statuses) > count)
    assert set(statuses) == set(slow) == {200}
    after = await all_ready(process, 2)
    assert set(before).isdisjoint(after)
    assert await versions(port) == {"second"}
    assert await not_ready_reasons(admin_port) == []
    await stop(process)
    assert errors(process) == []
    messages = process.messages()
    assert messages.count(RELOADING) == messages.count(RELOADED) == 1
    assert len([message for message in messages if message.startswith(LISTENING)]) == 1


async def test_code_that_cannot_start_leaves_the_old_workers_with_one_error(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    deploy(tmp_path, "broken")
    code = await reload_fails(process)
    reason = r"worker 1, pid \d+: cannot create the application: ValueError\('broken'\)"
    assert re.fullmatch(f"{KEEPING_OLD}: {reason}", code["message"])
    assert code["exception.type"] == "ValueError"
    assert "ValueError: broken" in code["exception.stacktrace"]
    (tmp_path / ".env").write_text("APP_THREADS=0\nAPP_IDLE_TIMEOUT=never\n")
    settings = await reload_fails(process, 2)
    assert re.search(r": Bad settings: .*APP_THREADS: ", settings["message"])
    assert " APP_IDLE_TIMEOUT: " in settings["message"]
    assert "exception.type" not in settings
    assert await not_ready_reasons(admin_port) == []
    assert await versions(port) == {"first"}
    (tmp_path / ".env").unlink()
    (tmp_path / "unique").mkdir()
    deploy(tmp_path, "unique")
    partly = await reload_fails(process, 3)
    assert partly["message"].startswith(f"{KEEPING_OLD} (already replaced: 1): worker 0")
    deploy(tmp_path, "second")
    await process.reload()
    assert await versions(port) == {"second"}
    await wait_until(partial(have_been_ready, process, [2, 2, 3]))
    await stop(process)
    assert errors(process) == [code, settings, partly]


async def test_replacement_that_is_not_ready_in_time_leaves_the_old_workers(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, _ = await process.ports()
    await all_ready(process)
    (tmp_path / ".env").write_text("APP_START_TIMEOUT=0.5\n")
    process.send_signal(signal.SIGHUP)  # so that the supervisor reads it
    await process.logged(RELOADED)
    deploy(tmp_path, "blocked")
    record = await reload_fails(process)
    reason = r"worker 1, pid \d+: killed: did not become ready in time"
    assert re.match(f"{KEEPING_OLD}: {reason}", record["message"])
    assert await versions(port) == {"first"}
    await stop(process)


async def test_second_reload_starts_again(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    # Settings that become invalid during a reload, after the workers have read them, do no harm.
    monkeypatch.setenv("FAULT", "settings")
    process = start_service(FAULTY, workers=2)
    port, _ = await process.ports()
    await all_ready(process)
    deploy(tmp_path, "blocked")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    deploy(tmp_path, "third")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADED)
    await all_ready(process, 2)
    assert await versions(port) == {"third"}
    deploy(tmp_path, "blocked")
    process.send_signal(signal.SIGHUP)
    await wait_until(lambda: process.messages().count(RELOADING) == 3)
    await stop(process)  # ends a reload
    assert errors(process) == []
    assert process.messages().count(RELOADED) == 1


async def test_processes_that_crash_during_a_reload_get_the_new_code(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, admin_port = await process.ports()
    admin, first, _ = await all_ready(process)
    deploy(tmp_path, "waiting")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    os.kill(first, signal.SIGKILL)
    await process.logged(f"worker 0, pid {first}: killed by SIGKILL")
    os.kill(admin, signal.SIGKILL)
    await wait_until(lambda: len(ready(process, ADMIN)) == 2)
    assert await not_ready_reasons(admin_port) == []
    assert RELOADED not in process.messages()
    release(process)
    await process.logged(RELOADED)
    assert await versions(port) == {"waiting"}
    await stop(process)
    assert len(errors(process)) == 2


async def test_replacement_that_an_operator_terminates_is_started_again(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, _ = await process.ports()
    await all_ready(process)
    deploy(tmp_path, "connecting")
    process.send_signal(signal.SIGHUP)
    replacement = await process.logged("connecting")
    os.kill(replacement["pid"], signal.SIGTERM)
    release(process)
    await process.logged(RELOADED)
    assert replacement["pid"] not in ready(process, f"worker {replacement['worker']}")
    assert await versions(port) == {"connecting"}
    await stop(process)
    assert errors(process) == []


async def test_reload_while_another_one_drains_a_worker_starts_again(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    port, _ = await process.ports()
    await all_ready(process)
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        deploy(tmp_path, "second")
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: draining(process))
        deploy(tmp_path, "third")
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: process.messages().count(RELOADING) == 2)
        release(process)
        slow = [(await connection.response()).status for connection in connections]
        assert set(slow) == {200}
    await process.logged(RELOADED)
    assert await versions(port) == {"third"}
    assert have_been_ready(process, [2, 2, 3])
    await stop(process)
    assert errors(process) == []


async def test_replacement_becomes_the_worker_of_a_slot_that_is_empty(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    for name, value in ("CRASH_LOOP_COUNT", "0"), ("INITIAL_DELAY", "600"), ("MAX_DELAY", "600"):
        monkeypatch.setenv(name, value)
    process = start_service(RELOADABLE, workers=2)
    port, _ = await process.ports()
    _, _, second = await all_ready(process)
    deploy(tmp_path, "waiting")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    os.kill(second, signal.SIGKILL)
    await process.logged(f"worker 1, pid {second}: killed by SIGKILL")
    release(process)
    await process.logged(RELOADED)
    assert await versions(port) == {"waiting"}
    assert have_been_ready(process, [2, 2, 2])
    await stop(process)


async def test_settings_are_read_again(start_service: ServiceStarter, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APP_WORKERS=2\nAPP_LOG_LEVEL=info\n")
    process = start_service(SAMPLE_APP, workers="")
    port, admin_port = await process.ports()
    await all_ready(process)
    (tmp_path / ".env").write_text("APP_WORKERS=2\nAPP_LOG_LEVEL=debug\n")
    await process.reload()
    await all_ready(process, 2)
    await not_ready_reasons(admin_port)
    await process.logged("GET /readyz")  # is of level debug
    assert not [message for message in process.messages() if RESTART_REQUIRED in message]
    text = "APP_WORKERS=3\nAPP_LOG_LEVEL=warning\nAPP_DRAIN_DELAY=600\n"
    (tmp_path / ".env").write_text(text)
    process.send_signal(signal.SIGHUP)
    record = await process.logged(f"APP_WORKERS has changed: {RESTART_REQUIRED}")
    assert record["level"] == "warning"
    # They apply to the supervisor as well.
    process.send_signal(signal.SIGTERM)
    await until_draining(admin_port)
    await succeed(port, 5)
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1
    messages = process.messages()
    assert len([message for message in messages if RESTART_REQUIRED in message]) == 1
    later = messages[messages.index(record["message"]) :]
    assert not {"SIGTERM: stopping", STOPPED} & set(later)
    assert ready(process, "worker 2") == []


async def test_settings_that_take_a_restart_stay_until_then(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    await process.ports()
    await all_ready(process)
    changes = f"APP_LOG_FILE={tmp_path / 'other.log'}\nAPP_DEBUG=true\nAPP_DRAIN_TIMOUT=3\n"
    (tmp_path / ".env").write_text(changes)
    for times in (1, 2):
        await process.reload()
        for expected in (
            f"APP_LOG_FILE has changed: {RESTART_REQUIRED}",
            f"APP_DEBUG has changed: {RESTART_REQUIRED}",
            "APP_DRAIN_TIMOUT is not a setting, did you mean APP_DRAIN_TIMEOUT?",
        ):
            await wait_until(lambda: process.messages().count(expected) == times)  # noqa: B023
    # The new workers still write to the log that the service was started with.
    assert len([r for r in process.records() if r["message"].startswith("draining")]) == 6
    assert not (tmp_path / "other.log").exists()


# A service with a runtime of its own


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package `myservice` of `apps/nested`, with a copy of the runtime."""
    package = tmp_path / "myservice"
    shutil.copytree(APPS / "nested", package, ignore=shutil.ignore_patterns("__pycache__"))
    ignored = shutil.ignore_patterns("__pycache__", "metrics", "tracing")
    shutil.copytree(RUNTIME, package / "runtime", ignore=ignored)
    return package


async def number(port: int) -> int:
    """Return the number that the service responds with, and check the rest of the response."""
    async with RawConnection(port) as connection:
        response: dict[str, Any] = (await connection.get("/")).json()
    value: int = response.pop("number")
    assert response == {"service": "my-service", "is_one_runtime": True}
    return value


def calls(folder: Path, call: str) -> list[dict[str, Any]]:
    """Return what the extension of the service has recorded about one of its methods."""
    records = map(json.loads, (folder / "calls").read_text().splitlines())
    return [record for record in records if record["call"] == call]


async def test_reload_renews_the_code_of_the_service_and_nothing_else(
    start_service: ServiceStarter, tmp_path: Path, package: Path
) -> None:
    process = start_service("myservice", workers=2)
    port, _ = await process.ports()
    admin, *workers = await all_ready(process)
    assert await number(port) == 1

    # The supervisor has imported nothing of the service but what `__init__.py` imports.
    [before] = calls(tmp_path, "before_fork")
    assert before["imported"] == ["myservice", "myservice.names"]
    assert before["rows"] == 1 + capacity(Settings(workers=2)) + SPARE_ROWS
    after = calls(tmp_path, "after_fork")
    assert {record["pid"]: record["slot"] for record in after} == {
        admin: -1,
        workers[0]: 0,
        workers[1]: 1,
    }
    # They are called before the application is imported, which runs on the same runtime.
    assert all("myservice.app" not in record["imported"] for record in after)
    lifespans = calls(tmp_path, "lifespan")
    assert sorted(record["pid"] for record in lifespans) == sorted(workers)
    assert all("myservice.app" in record["imported"] for record in lifespans)
    assert all(record["renewed"] == before["imported"] for record in lifespans)

    # Not even a runtime that is broken on disk is looked at.
    for path in (package / "runtime").rglob("*.py"):
        if path.name != "testing.py":
            path.write_text("broken = ")
    counted = package / "greetings" / "counted.py"
    counted.write_text(counted.read_text().replace("N = 1", "N = 22"))
    await process.reload()
    assert {await number(port) for _ in range(20)} == {22}
    await process.logged("the runtime has changed on disk")
    await stop(process)
    assert errors(process) == []
    assert len(calls(tmp_path, "before_fork")) == 1
    assert len(calls(tmp_path, "after_fork")) == 6


async def test_reload_reports_a_runtime_that_has_changed_on_disk(
    start_service: ServiceStarter, package: Path
) -> None:
    def warnings() -> list[str]:
        return [r["message"] for r in process.records() if r["level"] == "warning"]

    process = start_service("myservice", workers=2)
    await all_ready(process)
    (package / "greetings" / "added.py").touch()
    await process.reload()
    assert warnings() == []
    (package / "runtime" / "VERSION").write_text("0.0.0\n")
    await process.reload()
    expected = f"the runtime has changed on disk (VERSION): {RESTART_REQUIRED}"
    await wait_until(lambda: warnings() == [expected])
    for name in "added.py", "errors.py", "http/added.py":
        (package / "runtime" / name).touch()
    (package / "runtime" / "errors.py").unlink()
    await process.reload()
    names = "VERSION, added.py, errors.py, ..."
    expected = f"the runtime has changed on disk ({names}): {RESTART_REQUIRED}"
    await wait_until(lambda: warnings()[1:] == [expected])
    await stop(process)
