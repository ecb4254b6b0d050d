"""Start, restarts and stop of a service with workers, as real processes."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from runtime.testing import ServiceStarter, wait_until

from tests.ports import free_port, free_ports
from tests.runtime.support import SAMPLE_APP
from tests.runtime.support.commands import run
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import begin_slow_request, is_refused, release
from tests.runtime.support.systemd import FakeSystemd
from tests.runtime.support.workers import (
    ACCEPTING,
    ADMIN,
    DRAINING,
    FAULTY,
    KEEPING_OLD,
    LISTENING,
    PROCESSES,
    RELOADABLE,
    RELOADED,
    RELOADING,
    STOPPED,
    SUPERVISOR_EXITED,
    all_ready,
    deploy,
    draining,
    errors,
    has_exited,
    have_been_ready,
    not_ready_reasons,
    occupy_workers,
    pid_of_other_worker,
    ready,
    restarts,
    start_reloadable,
    stop,
    succeed,
    time_of,
    until_worker_ready,
    version,
    versions,
)

SOCKET_ACTIVATION = "tests.runtime.apps.socket_activation"


# Start


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_service_starts_serves_and_stops(start_service: ServiceStarter, signum: int) -> None:
    process = start_service(SAMPLE_APP, workers=2, log_level="debug")
    port, admin_port = await process.ports()
    admin, first, second = await all_ready(process)
    assert await not_ready_reasons(admin_port) == []
    await succeed(port, 5)
    process.send_signal(signum)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    records, messages = process.records(), process.messages()
    assert {record["level"] for record in records} == {"debug", "info"}
    assert messages[-1] == STOPPED
    assert messages.count(STOPPED) == 4
    assert messages.count("resource left") == 2
    assert len([message for message in messages if message.startswith(LISTENING)]) == 1
    # Every record tells which process has written it.
    supervisor = (await process.logged(LISTENING))["pid"]
    workers = {supervisor: None, admin: None, first: 0, second: 1}
    assert {record["pid"]: record["worker"] for record in records} == workers
    # One worker starts before the others: if it fails, they would fail in the same way.
    first_ready = (await process.logged("worker 0"))["timestamp"]
    assert all(record["timestamp"] >= first_ready for record in records if record["worker"] == 1)


async def test_signals_without_a_meaning_are_ignored(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    await all_ready(process)
    for signum in signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE:
        process.send_signal(signum)
    for name in "SIGUSR1", "SIGUSR2", "SIGALRM":
        await process.logged(f"{name}: ignored")
    await stop(process)


async def test_signals_to_all_processes_are_for_the_supervisor_alone(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    before = await all_ready(process)
    for signum in signal.SIGINT, signal.SIGHUP:
        for pid in before:
            os.kill(pid, signum)
    await process.reload()
    assert not set(before) & set(await all_ready(process, 2))
    await stop(process)
    assert errors(process) == []


async def test_signal_during_start_stops_the_service(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "waiting")
    process = start_service(RELOADABLE, workers=2)
    await process.logged(ADMIN)
    await stop(process)
    assert errors(process) == []
    assert not [message for message in process.messages() if message.startswith(LISTENING)]


async def test_service_gives_up_if_no_worker_can_start(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "broken")
    monkeypatch.setenv("INITIAL_DELAY", "0.01")
    process = start_service(RELOADABLE, workers=2)
    assert await process.exit_code() == 1
    cause = r"cannot create the application: ValueError\('broken'\)"
    reason = rf"worker 0, pid \d+: failed to start: {cause}"
    assert re.fullmatch(rf"no worker can start: {reason}\n", process.errors())
    records = errors(process)
    assert len(records) == 6
    assert all(re.fullmatch(reason, record["message"]) for record in records)
    # The same stack is logged only once.
    stacks = [record.get("exception.stacktrace", "") for record in records]
    assert "ValueError: broken" in stacks[0]
    assert stacks[1:] == [""] * 5
    messages = process.messages()
    assert len([message for message in messages if message.startswith("retrying in 0.")]) == 5
    assert "no worker can start: stopping" in messages


async def test_failed_start_is_retried(
    start_service: ServiceStarter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(tmp_path, "demanding")
    monkeypatch.setenv("INITIAL_DELAY", "0.3")
    admin_port = free_port()
    process = start_service(RELOADABLE, workers=2, admin_port=admin_port)
    record = await process.logged("worker 0")
    assert ": failed to start: cannot create the application" in record["message"]
    assert record["exception.type"] == "FileNotFoundError"
    await process.logged(ADMIN)
    assert await not_ready_reasons(admin_port) == ["starting"]
    release(process)
    port, _ = await process.ports()
    await all_ready(process)
    assert await not_ready_reasons(admin_port) == []
    assert await version(port) == "demanding"
    await stop(process)


async def test_worker_that_is_not_ready_in_time_is_killed(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "blocked")
    process = start_service(RELOADABLE, workers=2, start_timeout=0.5)
    record = await process.logged("worker 0")
    assert ": failed to start: killed: did not become ready in time" in record["message"]
    assert record["level"] == "error"
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_workers_share_inherited_sockets(start_service: ServiceStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        process = start_service(SOCKET_ACTIVATION, workers=2, port=taken)
        port, admin_port = await process.ports()
        assert port == int(process.errors()) != taken
    await all_ready(process)
    assert await not_ready_reasons(admin_port) == []
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        release(process)
        statuses = [(await connection.response()).status for connection in connections]
        assert set(statuses) == {200}
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0


# Restarts


async def test_killed_process_is_replaced_while_the_others_stay(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    counts, killed = dict.fromkeys(PROCESSES, 1), []
    for name in [*PROCESSES, *["worker 1"] * 4]:  # more processes than the scoreboard has rows
        killed.append((name, ready(process, name)[-1]))
        os.kill(killed[-1][1], signal.SIGKILL)
        counts[name] += 1
        await wait_until(partial(have_been_ready, process, [*counts.values()]))
        await succeed(port, 5)
        assert await not_ready_reasons(admin_port) == []
    await stop(process)
    for record, (name, pid) in zip(errors(process), killed, strict=True):
        reason = r"killed by SIGKILL, requests in flight at its last heartbeat: \d"
        assert re.fullmatch(rf"{name}, pid {pid}: {reason}", record["message"])
        assert record["worker"] is None


async def test_crashed_worker_is_replaced_while_another_one_does_not_become_ready(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    process = await start_reloadable(start_service, tmp_path)
    deploy(tmp_path, "connecting")
    os.kill(ready(process, "worker 1")[0], signal.SIGKILL)
    await process.logged("connecting")
    deploy(tmp_path, "second")
    os.kill(ready(process, "worker 0")[0], signal.SIGKILL)
    await wait_until(lambda: len(ready(process, "worker 0")) == 2)
    assert len(ready(process, "worker 1")) == 1


async def test_crashed_workers_are_replaced_while_a_predecessor_drains(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    first_port, _ = free_ports(2)
    process = await start_reloadable(
        start_service, tmp_path, port=first_port, port_per_worker=True, drain_timeout=600
    )
    async with RawConnection(first_port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGHUP)
        await wait_until(lambda: len(ready(process, "worker 0")) == 2)
        await wait_until(lambda: len(draining(process)) == 2)
        process.send_signal(signal.SIGSTOP)  # so that it sees both deaths at once
        pids = [ready(process, name)[-1] for name in ("worker 0", "worker 1")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: all(map(has_exited, pids)))
        process.send_signal(signal.SIGCONT)
        for name in "worker 0", "worker 1":
            await wait_until(lambda name=name: len(ready(process, name)) == 3)
        release(process)
        assert (await connection.response()).status == 200


async def test_worker_that_dies_before_the_supervisor_saw_it_ready_has_crashed(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    _, admin_port = await process.ports()
    _, _, first = await all_ready(process)
    deploy(tmp_path, "waiting")
    os.kill(first, signal.SIGKILL)
    await process.logged(f"worker 1, pid {first}: killed by SIGKILL")
    pid = await pid_of_other_worker(admin_port, first)
    process.send_signal(signal.SIGSTOP)
    try:
        release(process)
        await until_worker_ready(admin_port, pid)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: has_exited(pid))
    finally:
        process.send_signal(signal.SIGCONT)
    await process.logged(
        f"worker 1, pid {pid}: killed by SIGKILL, requests in flight at its last heartbeat"
    )
    await stop(process)


async def test_worker_that_exits_by_itself_has_crashed(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "exiting")
    process = start_service(RELOADABLE, workers=2)
    _, admin_port = await process.ports()
    pids = await all_ready(process)
    release(process)
    for name, pid in zip(PROCESSES[1:], pids[1:], strict=True):
        await process.logged(
            f"{name}, pid {pid}: exit code 0, requests in flight at its last heartbeat"
        )
    (tmp_path / "released").unlink()
    assert {record["worker"] for record in errors(process)} == {None}
    assert min(await restarts(admin_port)) >= 1
    await stop(process)


async def test_blocked_worker_is_replaced_and_its_stack_logged(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2, hang_timeout=1)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck?secret=1")
        arrived = await process.logged("event loop blocked")
        blocked = arrived["worker"]
        record = await process.logged(f"worker {blocked}, pid {pids[1 + blocked]}: killed")
        assert await connection.read_to_end() == b""
    assert record["level"] == "error"
    cause = r"its event loop was blocked for (\d\.\d) s by GET /stuck"
    reason = rf"killed: {cause}, requests in flight at its last heartbeat: [01]"
    match = re.fullmatch(rf"worker {blocked}, pid {pids[1 + blocked]}: {reason}", record["message"])
    assert match
    assert float(match[1]) >= 1
    assert re.search(r'sample_app\.py", line \d+ in get\n', record["code.stacktrace"])
    assert record["http.request.method"] == "GET"
    assert record["http.route"] == "/stuck"
    assert record["request_id"] == arrived["request_id"]
    assert "secret" not in json.dumps(record)
    await wait_until(lambda: len(ready(process, f"worker {blocked}")) == 2)
    await succeed(port, 5)
    await stop(process)
    assert errors(process) == [record]
    assert len(ready(process, f"worker {1 - blocked}")) == 1


async def test_neighbour_accepts_for_blocked_worker(start_service: ServiceStarter) -> None:
    # The start timeout is over long before the end; it does not apply to a worker that was ready.
    process = start_service(SAMPLE_APP, workers=2, hang_timeout=0, start_timeout=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck")
        blocked = (await process.logged("event loop blocked"))["worker"]
        record = await process.logged(ACCEPTING)
        assert record["message"] == f"{ACCEPTING} {blocked}"
        assert record["worker"] == 1 - blocked
        await succeed(port, 20)
        assert await not_ready_reasons(admin_port) == []
        release(process)
        await connection.response()
    await stop(process)
    assert errors(process) == []


async def test_neighbour_accepts_for_crashed_worker_until_it_can_be_replaced(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("INITIAL_DELAY", "0.01")
    monkeypatch.setenv("MAX_DELAY", "0.01")
    process = start_service(RELOADABLE, workers=2)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    assert not [message for message in process.messages() if message.startswith(ACCEPTING)]
    deploy(tmp_path, "broken")
    os.kill(second, signal.SIGKILL)
    record = await process.logged(f"{ACCEPTING} 1")
    assert record["worker"] == 0
    # Without a worker that is ready the service would have given up.
    await wait_until(lambda: len(errors(process)) > 8)
    assert await versions(port) == {"first"}
    assert await not_ready_reasons(admin_port) == []
    deploy(tmp_path, "second")
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await stop(process)


async def test_crash_loop_is_delayed_until_a_reload(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("CRASH_LOOP_COUNT", "0")
    monkeypatch.setenv("INITIAL_DELAY", "600")
    monkeypatch.setenv("MAX_DELAY", "600")
    process = start_service(RELOADABLE, workers=2)
    port, _ = await process.ports()
    _, _, second = await all_ready(process)
    os.kill(second, signal.SIGKILL)
    await process.logged(f"{ACCEPTING} 1")
    await succeed(port, 50)
    assert len(ready(process, "worker 1")) == 1
    deploy(tmp_path, "broken")
    process.send_signal(signal.SIGHUP)
    # The missing worker is started again, beside the replacement of the other one.
    record = await process.logged(KEEPING_OLD)
    assert record["message"].startswith((f"{KEEPING_OLD}: worker 0", f"{KEEPING_OLD}: worker 1"))
    # It must have failed before the next reload, or that would not end its delay.
    await wait_until(lambda: re.search("worker 1, .*failed to start", str(process.messages())))
    deploy(tmp_path, "second")
    await process.reload()
    await all_ready(process, 2)
    assert await versions(port) == {"second"}
    await stop(process)


async def test_no_worker_is_killed_after_system_suspend(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2, hang_timeout=1)
    pids = await all_ready(process)
    supervisor = (await process.logged(LISTENING))["pid"]
    for pid in [supervisor, *pids]:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1.5)  # longer than the hang timeout
    os.kill(supervisor, signal.SIGCONT)
    await asyncio.sleep(0.3)  # the supervisor looks before the workers can do anything
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    await stop(process)
    assert errors(process) == []


async def test_workers_serve_on_after_many_stray_signals(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, _ = await process.ports()
    pids = await all_ready(process)
    for _ in range(300):
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
        await asyncio.sleep(0.001)
    await succeed(port, 10)
    await stop(process)
    assert errors(process) == []


async def test_crashes_are_counted_and_requested_exits_are_not(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    _, admin_port = await process.ports()
    counts = dict.fromkeys(PROCESSES, 1)
    await all_ready(process)
    assert await restarts(admin_port) == [0, 0]
    for name in "worker 1", ADMIN, "worker 1", "worker 0":
        os.kill(ready(process, name)[-1], signal.SIGKILL)
        counts[name] += 1
        await wait_until(partial(have_been_ready, process, [*counts.values()]))
    assert await restarts(admin_port) == [1, 2]
    await process.reload()
    os.kill(ready(process, "worker 0")[-1], signal.SIGTERM)
    await wait_until(lambda: len(ready(process, "worker 0")) == counts["worker 0"] + 2)
    assert await restarts(admin_port) == [1, 2]
    await stop(process)


async def test_failed_starts_are_counted_and_failed_reloads_are_not(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("INITIAL_DELAY", "0.01")
    process = start_service(RELOADABLE, workers=2)
    _, admin_port = await process.ports()
    _, first, _ = await all_ready(process)
    deploy(tmp_path, "broken")
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: len(errors(process)) == 4)
    deploy(tmp_path, "second")
    await wait_until(lambda: len(ready(process, "worker 0")) == 2)
    counts = [len(errors(process)), 0]
    assert await restarts(admin_port) == counts
    deploy(tmp_path, "broken")
    process.send_signal(signal.SIGHUP)
    await process.logged(KEEPING_OLD)
    assert await restarts(admin_port) == counts
    await stop(process)


async def test_supervisor_that_fails_logs_why_and_all_processes_exit(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("FAULT", "supervisor")
    process = start_service(FAULTY, workers=2)
    await all_ready(process)
    process.send_signal(signal.SIGHUP)
    assert await process.exit_code() == 1
    record = await process.logged("the supervisor failed")
    assert record["level"] == "critical"
    assert record["exception.message"] == "a mistake"
    await wait_until(lambda: process.messages().count(SUPERVISOR_EXITED) == 3)
    pids = [pid for name in PROCESSES for pid in ready(process, name)]
    assert len(pids) == 6  # three because of the reload
    await wait_until(lambda: all(map(has_exited, pids)))


async def test_failed_comparison_after_a_reload_is_an_error_in_the_log(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("FAULT", "runtime")
    process = start_service(FAULTY, workers=2)
    await all_ready(process)
    await process.reload()
    record = await process.logged("cannot compare settings and runtime")
    assert record["exception.message"] == "a mistake"
    await stop(process)


async def test_failed_fork_is_retried_while_the_other_processes_stay(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("FAULT", "fork")
    monkeypatch.setenv("INITIAL_DELAY", "0.1")
    process = start_service(FAULTY, workers=2)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    (tmp_path / "no-fork").touch()
    os.kill(second, signal.SIGKILL)
    record = await process.logged("cannot fork: Resource temporarily unavailable")
    assert record["level"] == "error"
    # It was killed, and could not be started since then.
    assert (await restarts(admin_port))[1] > 1
    process.send_signal(signal.SIGHUP)
    await process.logged(f"{KEEPING_OLD}: cannot fork: Resource temporarily unavailable")
    assert await version(port) == "first"
    (tmp_path / "no-fork").unlink()
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await stop(process)


async def test_supervisor_reaps_adopted_orphans(start_service: ServiceStarter) -> None:
    process = start_service("tests.runtime.apps.adopting", workers=2)
    await all_ready(process)
    orphan = int(process.errors())
    await wait_until(lambda: not process_exists(orphan))  # a zombie would exist
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert errors(process) == []


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Stop


async def test_requests_in_flight_at_all_workers_finish(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2)
    port, admin_port = await process.ports()
    pids = await all_ready(process)
    async with AsyncExitStack() as stack:
        connections = await occupy_workers(process, port, stack)
        for pid in pids:
            # A terminal sends these to the whole process group; they are for the supervisor.
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        await succeed(port, 5)
        assert draining(process) == []
        process.send_signal(signal.SIGTERM)
        await wait_until(lambda: len(draining(process)) == 2)
        await is_refused(port)
        assert await not_ready_reasons(admin_port) == ["draining"]
        process.send_signal(signal.SIGHUP)
        await process.logged("SIGHUP: ignored, the service is stopping")
        release(process)
        for connection in connections:
            response = await connection.response()
            assert (response.status, response.json()) == (200, {"slow": True})
            assert response.headers["Connection"] == "close"
    assert await process.exit_code() == 0
    assert errors(process) == []
    assert not [message for message in process.messages() if "aborted" in message]
    # The admin port is served until the workers have exited.
    exits = [time_of(record) for record in process.records() if record["message"] == STOPPED]
    drains = [record for record in process.records() if record["message"].startswith(DRAINING)]
    [admin] = [time_of(record) for record in drains if record["pid"] == pids[0]]
    assert sorted(exits)[1] <= admin


async def test_requests_beyond_the_drain_timeout_are_aborted_and_counted(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2, drain_timeout=0.2)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        assert await connection.read_to_end() == b""
    assert await process.exit_code() == 0
    record = await process.logged(
        "0.2 s after SIGTERM: aborted 1 requests, 0 WebSockets and 0 tasks: "
    )
    assert record["worker"] in (0, 1)
    assert errors(process) == []


async def test_second_signal_stops_immediately(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2, drain_timeout=600)
    port, _ = await process.ports()
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        process.send_signal(signal.SIGTERM)
        await process.logged(f"{DRAINING}: 1")
        process.send_signal(signal.SIGINT)
        assert await connection.read_to_end() == b""
    assert await process.exit_code() == 1
    assert process.errors() == ""
    record = await process.logged("second signal, SIGINT: stopping immediately")
    assert record["level"] == "warning"
    await process.logged("SIGUSR2: aborted 1 requests, 0 WebSockets and 0 tasks: ")
    assert errors(process) == []


async def test_all_workers_serve_during_the_drain_delay(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2, drain_delay=600)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    deploy(tmp_path, "blocked")
    process.send_signal(signal.SIGHUP)
    await process.logged(RELOADING)
    process.send_signal(signal.SIGTERM)
    await process.logged("SIGTERM: stopping")
    assert await not_ready_reasons(admin_port) == ["draining"]
    deploy(tmp_path, "third")
    os.kill(second, signal.SIGKILL)
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await succeed(port, 10)
    assert draining(process) == []
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1
    # A stop ends a reload.
    assert len(ready(process, "worker 0")) == 1


async def test_drain_delay_ends_for_all_workers_together(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP, workers=2, drain_delay=2)
    await all_ready(process)
    await stop(process)
    begin = time_of(await process.logged("SIGTERM: "))
    delays = [(time_of(record) - begin).total_seconds() for record in draining(process)]
    assert len(delays) == 2
    # One delay, not one after another. How long a busy machine then drains does not matter.
    assert min(delays) >= 1.99
    assert max(delays) < 4


async def test_worker_is_killed_after_drain_timeout(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("EXIT_GRACE", "0.1")
    process = start_service(RELOADABLE, workers=2, drain_timeout=0.4)
    _, _, second = await all_ready(process)
    os.kill(second, signal.SIGSTOP)
    stopped = await run(process, "stop")
    # The others have half a second to exit, which a busy machine may exceed.
    [message] = [r["message"] for r in errors(process) if f"pid {second}:" in r["message"]]
    reason = "killed: did not exit in time; no stack: it was not running"
    assert (
        message == f"worker 1, pid {second}: {reason}, requests in flight at its last heartbeat: 0"
    )
    assert (stopped.code, stopped.out) == (1, "")
    assert "killed: did not exit in time" in stopped.last_error
    assert await process.exit_code() == 1


async def test_supervisor_kills_one_process_at_a_time(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("EXIT_GRACE", "0.1")
    monkeypatch.setenv("TICK", "1")  # enough for a killed process to exit before the next kill
    process = start_service(RELOADABLE, workers=2, drain_timeout=0.4)
    _, *workers = await all_ready(process)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    await process.exit_code()
    # Of these two alone: a busy machine may exceed the half a second that the others have.
    stopped = tuple(f"worker {slot}, pid {pid}: killed:" for slot, pid in enumerate(workers))
    ends = [time_of(r) for r in errors(process) if r["message"].startswith(stopped)]
    assert len(ends) == 2
    # It has waited for the stack of the second one after the end of the first one.
    assert (ends[1] - ends[0]).total_seconds() > 0.25


async def test_drain_timeout_applies_to_worker_signalled_directly(
    start_service: ServiceStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(tmp_path, "first")
    monkeypatch.setenv("EXIT_GRACE", "0.1")
    process = start_service(RELOADABLE, workers=2, drain_timeout=0.4)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection)
        slot = (await process.logged("slow request arrived"))["worker"]
        os.kill(pids[1 + slot], signal.SIGTERM)
        await process.logged(f"{DRAINING}: 1")
        os.kill(pids[1 + slot], signal.SIGSTOP)
        assert await connection.read_to_end() == b""
    await wait_until(lambda: len(ready(process, f"worker {slot}")) == 2)
    [record] = errors(process)
    reason = "killed: did not exit in time"
    assert record["message"].startswith(f"worker {slot}, pid {pids[1 + slot]}: {reason}")


async def test_hang_timeout_applies_to_worker_that_is_blocked_when_it_is_to_drain(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, workers=2, hang_timeout=1, drain_timeout=600)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as connection:
        await begin_slow_request(process, connection, "/stuck")
        blocked = (await process.logged("event loop blocked"))["worker"]
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 1
        assert await connection.read_to_end() == b""
    [record] = errors(process)
    reason = "killed: its event loop was blocked for"
    assert record["message"].startswith(f"worker {blocked}, pid {pids[1 + blocked]}: {reason}")
    assert "in get\n" in record["code.stacktrace"]


# systemd


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with FakeSystemd() as systemd:
        yield systemd


async def test_systemd_is_notified_of_start_reloads_watchdog_and_stop(
    start_service: ServiceStarter, tmp_path: Path, systemd: FakeSystemd
) -> None:
    deploy(tmp_path, "first")
    process = start_service(RELOADABLE, workers=2)
    # Read all the time: a notification that finds the socket full is not sent again.
    await wait_until(lambda: systemd.states().count("READY=1") == 1)
    await all_ready(process)
    process.send_signal(signal.SIGHUP)
    await wait_until(lambda: systemd.states().count("READY=1") == 2)
    deploy(tmp_path, "broken")
    process.send_signal(signal.SIGHUP)
    await wait_until(lambda: systemd.states().count("READY=1") == 3)
    pings = systemd.states().count("WATCHDOG=1")
    await wait_until(lambda: systemd.states().count("WATCHDOG=1") >= pings + 2)
    await stop(process)
    listening = (await process.logged(LISTENING))["message"]
    messages = [
        re.sub(r"=\d{4,}", "=...", message)
        for message in systemd.messages()
        if message != "WATCHDOG=1"
    ]
    reloading = "RELOADING=1\nMONOTONIC_USEC=...\nSTATUS=reloading"
    assert messages == [
        f"READY=1\nSTATUS={listening}",
        reloading,
        f"READY=1\nSTATUS={RELOADED}",
        reloading,
        "READY=1\nSTATUS=reload failed",
        "STOPPING=1\nSTATUS=stopping",
    ]
