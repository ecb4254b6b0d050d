"""status, reload and stop of a service with workers, as real processes."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from runtime.testing import ServiceProcess, ServiceStarter, wait_until

from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.commands import Command, ask, run, status, until_status
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import begin_slow_request, children, release
from tests.runtime.support.systemd import FakeSystemd
from tests.runtime.support.workers import (
    ADMIN,
    DRAINING,
    KEEPING_OLD,
    PROCESSES,
    RELOADABLE,
    RELOADED,
    RESTART_REQUIRED,
    all_ready,
    deploy,
    errors,
    has_exited,
    have_been_ready,
    ready,
    requests,
    start_reloadable,
    stop,
    version,
    versions,
)

RELOADING = "reload command: reloading"
STOPPING = "stop command: stopping"
IS_STOPPING = "the service is stopping"
RELOAD_STOPPED = f"reload failed: {IS_STOPPING}"
EXITED = "renewed: the service exited before `reload` was over"


async def begin_reload(process: ServiceProcess, times: int = 1) -> Command:
    """Start the command `reload`, and wait until the service reloads, the `times`-th time."""
    command = Command(process, "reload")
    await wait_until(lambda: process.messages().count(RELOADING) == times)
    return command


def states(status: dict[str, Any]) -> list[str]:
    """Return the state of each worker."""
    return [worker["state"] for worker in status["workers"]]


def handled(status: dict[str, Any]) -> int:
    """Return the number of responses of all workers."""
    return sum(worker["requests"] for worker in status["workers"])


# reload


async def test_reload_under_load_waits_until_it_is_over(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    port, _ = await process.ports()
    deploy(tmp_path, "second")
    async with requests(port) as statuses:
        await wait_until(lambda: len(statuses) > 50)
        result = await run(process, "reload")
        # Not before the old ones have gone.
        assert await versions(port) == {"second"}
    assert set(statuses) == {200}
    assert (result.code, result.out) == (0, "reloaded\n")
    assert have_been_ready(process, [2, 2, 2])
    lines = result.err.splitlines()
    assert [line for line in lines if line.endswith(": ready")] == [
        f"{name}, pid {ready(process, name)[-1]}: ready" for name in reversed(PROCESSES)
    ]
    assert len([line for line in lines if line.endswith(": stopped")]) == 3
    assert len(lines) == 6
    await stop(process)
    assert errors(process) == []


async def test_reload_onto_code_that_does_not_import_says_why(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    port, _ = await process.ports()
    deploy(tmp_path, "broken")
    result = await run(process, "reload")
    [error] = errors(process)
    assert error["message"].startswith(f"{KEEPING_OLD}: worker 1, pid ")
    assert "ValueError('broken')" in error["message"]
    assert (result.code, result.out, result.last_error) == (1, "", error["message"])
    assert result.err.count("ValueError('broken')") == 1
    (tmp_path / "renewed" / "app.py").write_text("import no_such_module\n")
    again = await ask(process, command="reload")
    assert "No module named 'no_such_module'" in again["message"]
    assert (again["success"], again["message"]) == (False, errors(process)[-1]["message"])
    assert (await status(process))["ready"]
    assert await versions(port) == {"first"}


async def test_reload_fails_if_only_a_missing_worker_cannot_start(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITIAL_DELAY", "600")  # it is missing until the reload
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "broken")
    os.kill(ready(process, "worker 1")[0], signal.SIGKILL)
    await process.logged("retrying in")
    deploy(tmp_path, "eldest")  # the replacement of worker 0 is started first
    result = await run(process, "reload")
    [error] = [record for record in errors(process) if record["event.name"] == "reload.failed"]
    pattern = rf"{KEEPING_OLD}.*: (worker 1, pid \d+): .*not the first.*"
    match = re.fullmatch(pattern, error["message"])
    assert match
    assert [record for record in errors(process) if match[1] in record["message"]] == [error]
    assert "ValueError: not the first" in error["exception.stacktrace"]
    assert (result.code, result.out, result.last_error) == (1, "", error["message"])
    assert result.err.count("not the first") == 1
    # The replacement of worker 0 goes, too, unless it was ready before.
    await wait_until(lambda: len(children(process.pid)) == 2)


async def test_reload_onto_code_that_starts_too_slowly_says_so(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path, start_timeout=2)
    deploy(tmp_path, "blocked")
    result = await run(process, "reload")
    [error] = errors(process)
    assert re.search(r": killed: did not become ready in time$", error["message"])
    assert (result.code, result.out, result.last_error) == (1, "", error["message"])


async def test_two_reloads_at_once_have_the_outcome_of_the_one_that_counts(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "connecting")
    first = await begin_reload(process)
    await process.logged("connecting")
    deploy(tmp_path, "broken")
    second = await begin_reload(process, 2)
    results = [await first.result(), await second.result()]
    [error] = errors(process)
    outcome = 1, "", error["message"]
    assert [(result.code, result.out, result.last_error) for result in results] == [outcome] * 2
    assert RELOADED not in process.messages()


async def test_reload_is_refused_during_a_stop(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        stopping = Command(process, "stop")
        await process.logged(STOPPING)
        result = await run(process, "reload")
        assert (result.code, result.out, result.err) == (1, "", f"{IS_STOPPING}\n")
        draining = await until_status(process, lambda status: "draining" in states(status))
        assert draining["reasons"] == ["draining"]
        assert sum(worker["requests_in_flight"] for worker in draining["workers"]) == 1
        assert stopping.is_running
        release(process)
        assert (await connection.response()).status == 200
    stopped = await stopping.result()
    assert (stopped.code, stopped.out) == (0, "stopped\n")
    assert await process.exit_code() == 0


async def test_a_stop_ends_a_reload(start_service: ServiceStarter, tmp_path: Path) -> None:
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "waiting")
    reload = await begin_reload(process)
    process.send_signal(signal.SIGTERM)
    result = await reload.result()
    assert (result.code, result.out, result.last_error) == (1, "", RELOAD_STOPPED)
    assert await process.exit_code() == 0


async def test_reload_ends_at_once_when_the_supervisor_is_killed(
    start_service: ServiceStarter, tmp_path: Path, orphans: list[int]
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    port, _ = await process.ports()
    orphans += await all_ready(process)
    deploy(tmp_path, "waiting")
    # Until its code is loaded, a process holds on to nothing that would keep a client waiting.
    reload = await begin_reload(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.kill()
        result = await reload.result()
        assert (result.code, result.out, result.last_error) == (1, "", EXITED)
        # With the supervisor, not with its workers.
        release(process)
        assert (await connection.response()).status == 200
    late = await run(process, "reload")
    assert (late.code, late.out) == (1, "")
    assert late.err.startswith("renewed: no running service found: nothing listens on ")
    await wait_until(lambda: all(map(has_exited, orphans)))


async def test_reload_gives_up_when_the_supervisor_is_suspended(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    process.environment["SILENCE_TIMEOUT"] = "1.5"
    deploy(tmp_path, "waiting")
    reload = await begin_reload(process)
    process.send_signal(signal.SIGSTOP)
    results = [await reload.result(), await run(process, "status")]
    process.send_signal(signal.SIGCONT)
    reason = "renewed: no sign of life for 1.5 s: the process is suspended or stuck"
    assert [(result.code, result.last_error) for result in results] == [(1, reason)] * 2
    release(process)
    await process.logged(RELOADED)


async def test_reload_waits_for_as_long_as_there_are_signs_of_life(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    process.environment["SILENCE_TIMEOUT"] = "5"
    deploy(tmp_path, "waiting")
    reload = await begin_reload(process)
    begin = (await status(process))["age"]
    await until_status(process, lambda status: status["age"] > begin + 5.5)
    assert reload.is_running
    release(process)
    assert (await reload.result()).code == 0


async def test_interrupted_reload_goes_on(start_service: ServiceStarter, tmp_path: Path) -> None:
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "waiting")
    reload = await begin_reload(process)
    reload.send_signal(signal.SIGINT)
    result = await reload.result()
    assert (result.code, result.out) == (130, "")
    assert result.last_error == "the reload goes on: `status` shows how far it is"
    going_on = await status(process)
    assert (going_on["operation"], going_on["progress"]) == ("reload", "0 of 3 processes replaced")
    title = (await run(process, "status")).out.splitlines()[0]
    assert title.endswith(": ready, reloading (0 of 3 processes replaced)")
    release(process)
    await process.logged(RELOADED)
    over = await status(process)
    assert (over["operation"], over["progress"]) == (None, None)


async def test_reload_warns_of_what_needs_a_restart(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    (tmp_path / ".env").write_text("APP_ADMIN_ADDRESS=127.0.0.2\n")
    result = await run(process, "reload")
    assert (result.code, result.out) == (0, "reloaded\n")
    warning = f"APP_ADMIN_ADDRESS has changed: {RESTART_REQUIRED}"
    assert result.last_error == f"Warning: {warning}"
    assert (await process.logged(warning))["level"] == "warning"
    (tmp_path / ".env").write_text("APP_ADMIN_PORT=admin\n")
    del process.environment["APP_ADMIN_PORT"]
    refused = await run(process, "reload")
    assert (refused.code, refused.out) == (78, "")
    assert refused.err.startswith("Bad settings:\n  APP_ADMIN_PORT: ")


# status


async def test_status_tells_how_each_worker_is(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_DELAY", "600")
    monkeypatch.setenv("INITIAL_DELAY", "600")
    deploy(tmp_path, "waiting")
    process = start_service(RELOADABLE, workers=2)
    supervisor = process.pid
    await process.logged(ADMIN)
    starting = await status(process)
    assert starting["reasons"] == ["starting"]
    assert states(starting) == ["starting", "missing"]
    table = await run(process, "status")
    assert table.code == 1
    assert table.out.startswith(f"renewed 1.0, pid {supervisor}, up ")
    assert table.out.splitlines()[0].endswith(": not ready: starting")
    release(process)
    port, _ = await process.ports()
    admin, first, second = await all_ready(process)
    assert await version(port) == "waiting"
    os.kill(admin, signal.SIGSTOP)  # it is not needed
    # A client may have its response before that is counted.
    before = await until_status(process, lambda status: handled(status) == 1)
    assert before["ready"]
    os.kill(admin, signal.SIGCONT)
    assert before["pid"] == supervisor
    assert [worker["pid"] for worker in before["workers"]] == [first, second]
    assert states(before) == ["ready", "ready"]
    # A worker that is gone, and whose code cannot start again.
    deploy(tmp_path, "broken")
    os.kill(second, signal.SIGKILL)
    await process.logged("retrying in")
    os.kill(first, signal.SIGSTOP)
    blocked = await until_status(process, lambda status: states(status) == ["blocked", "missing"])
    assert blocked["reasons"] == ["no worker responds"]
    assert [worker["pid"] for worker in blocked["workers"]] == [first, 0]
    assert blocked["workers"][1]["restarts"] == 2
    os.kill(first, signal.SIGCONT)
    await until_status(process, lambda status: states(status) == ["ready", "missing"])
    lines = (await run(process, "status")).out.splitlines()
    assert lines[3].split()[:3] == ["0", str(first), "ready"]
    assert lines[4].split() == ["1", "-", "missing", "-", "-", "-", "-", "-", "2"]


# stop


async def test_stop_warns_of_what_was_aborted_and_that_systemd_starts_it_again(
    start_service: ServiceStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeSystemd() as systemd:
        monkeypatch.setenv("NOTIFY_SOCKET", "notify")
        process = start_service(SAMPLE_APP, workers=2, drain_timeout=0.2)
        port, _ = await process.ports()
        async with RawConnection(port) as connection:
            await begin_slow_request(process, connection)
            result = await run(process, "stop")
        assert systemd.states()[-1] == "STOPPING=1"
    assert (result.code, result.out) == (0, "stopped\n")
    assert result.err.startswith("Warning: systemd may start the service again: `systemctl stop` ")
    [record] = [record for record in process.records() if "aborted" in record["message"]]
    assert f"Warning: worker {record['worker']}: {record['message']}" in result.err.splitlines()
    assert await process.exit_code() == 0


async def test_stop_fails_with_the_exit_code(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        stopping = Command(process, "stop")
        await process.logged(DRAINING)
        process.send_signal(signal.SIGTERM)
        result = await stopping.result()
    assert (result.code, result.out) == (1, "")
    assert result.last_error == "second signal, SIGTERM: stopping immediately"
    assert await process.exit_code() == 1


# The socket


async def test_no_child_holds_the_control_socket(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "waiting")
    reload = await begin_reload(process)
    await wait_until(lambda: len(children(process.pid)) == 4)  # one is a replacement
    path = process.environment["APP_CONTROL_SOCKET"]
    # The listener and the command.
    await wait_until(lambda: len(sockets(path) & descriptors(process.pid)) == 2)
    inodes = sockets(path) & descriptors(process.pid)
    # A child closes what it has inherited right after the fork.
    await wait_until(lambda: not inodes & set().union(*map(descriptors, children(process.pid))))
    release(process)
    assert (await reload.result()).code == 0


def sockets(path: str) -> set[str]:
    """Return the sockets of a path, as /proc calls them."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {f"socket:[{line[6]}]" for line in lines if line[7:] == [path]}


def descriptors(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            found.add(os.readlink(path))
    return found
