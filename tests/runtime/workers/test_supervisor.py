import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from .conftest import ServiceStarter
from .support import WAIT_TIMEOUT, SERVICE, ServiceProcess, Record, RawConnection, wait_until
from .test_server import (
    STAND_IN,
    begin_slow_request,
    handing_over,
    is_refused,
    let_go,
    vitals,
)
from .test_systemd import Manager

ADMIN_SLOT = "admin process"
EVERYBODY = [ADMIN_SLOT, "worker 0", "worker 1"]


def ready(process: ServiceProcess, name: str) -> list[int]:
    """Return the pids of the processes that have become ready under a name."""
    pattern = re.compile(rf"{name}, pid (\d+): ready")
    matches = map(pattern.fullmatch, process.messages())
    return [int(match[1]) for match in matches if match]


def have_been_ready(process: ServiceProcess, counts: list[int]) -> bool:
    """Tell whether each of `EVERYBODY` has become ready so many times."""
    return [len(ready(process, name)) for name in EVERYBODY] == counts


async def all_ready(process: ServiceProcess, times: int = 1) -> list[int]:
    """Wait until everybody has become ready so many times; return the pids of the last time."""
    await wait_until(lambda: have_been_ready(process, [times] * 3))
    return [ready(process, name)[-1] for name in EVERYBODY]


def failures(process: ServiceProcess) -> list[Record]:
    return [record for record in process.records() if record["level"] == "error"]


async def stop(process: ServiceProcess) -> None:
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert process.messages()[-1] == "stopped"


def write_code(folder: Path, version: str, before: str = "pass") -> None:
    """Write the code of the day, which does something before the application is made."""
    (folder / "today.py").write_text(
        f"""
import os, time
from tests.stand_in import Application, Handler, Slow

class Version(Handler):
    def get(self):
        self.reply(dict(version="{version}"))

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.005)

def make_app(settings):
    {before}
    return Application(settings, [("/", Version), ("/slow", Slow)])
"""
    )


def service(folder: Path, before: str = "") -> str:
    """Write a module that serves the code of the day, after it has done something."""
    (folder / "service.py").write_text(
        f"""
import os, sys
from {SERVICE} import process, restarts
from {SERVICE}.__main__ import serve
from {SERVICE}.settings import load

{before}

def make_app(settings):
    import today
    return today.make_app(settings)

sys.exit(serve(load(), make_app))
"""
    )
    return "service"


async def version(port: int) -> str:
    async with RawConnection(port) as wire:
        answer: dict[str, str] = (await wire.get("/")).json()
    return answer["version"]


async def reasons(admin_port: int) -> list[str]:
    """Ask why the service is not ready."""
    async with RawConnection(admin_port) as admin:
        answer = await admin.get("/readyz")
    body = answer.json()
    assert answer.status == (200 if body["ready"] else 503)
    given: list[str] = body.get("reasons", [])
    assert bool(given) is not body["ready"]
    return given


async def until_draining(admin_port: int) -> None:
    async with asyncio.timeout(WAIT_TIMEOUT):
        while await reasons(admin_port) != ["draining"]:
            pass


async def are_answered(port: int, count: int) -> None:
    """Ask so many times, each time on a new connection."""
    for _ in range(count):
        async with RawConnection(port) as wire:
            assert (await wire.get("/")).status == 200


@asynccontextmanager
async def clients(port: int) -> AsyncIterator[list[int]]:
    """Ask again and again meanwhile; collect the statuses of the answers."""
    statuses: list[int] = []

    async def ask() -> None:
        while True:
            async with RawConnection(port) as wire:
                statuses.append((await wire.get("/")).status)

    task = asyncio.create_task(ask())
    try:
        yield statuses
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def occupy_all(process: ServiceProcess, port: int, stack: AsyncExitStack) -> list[RawConnection]:
    """Have a slow request in flight at every worker."""

    def occupied() -> list[int]:
        return [
            one["worker"] for one in process.records() if one["message"] == "slow request arrived"
        ]

    wires: list[RawConnection] = []
    async with asyncio.timeout(WAIT_TIMEOUT):
        while set(occupied()) != {0, 1}:
            wires.append(await stack.enter_async_context(RawConnection(port)))
            wires[-1].ask("/slow")
            await wait_until(lambda: len(occupied()) == len(wires))
    return wires


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


# Start


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_answers_and_stops(start_service: ServiceStarter, signum: int) -> None:
    process = start_service(STAND_IN, workers=2, log_level="debug")
    port, admin_port = await process.ports()
    admin, first, second = await all_ready(process)
    assert await reasons(admin_port) == []
    await are_answered(port, 5)
    process.signal(signum)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    records, messages = process.records(), process.messages()
    assert {one["level"] for one in records} == {"debug", "info"}
    assert messages[-1] == "stopped"
    assert messages.count("stopped") == 4
    assert messages.count("resource left") == 2
    assert len([one for one in messages if one.startswith("listening on")]) == 1
    # Every record says who wrote it.
    supervisor = (await process.logged("listening on"))["pid"]
    workers = {supervisor: None, admin: None, first: 0, second: 1}
    assert {one["pid"]: one["worker"] for one in records} == workers
    # One worker starts before the others, for it might be in vain.
    served = (await process.logged("worker 0"))["timestamp"]
    assert all(one["timestamp"] >= served for one in records if one["worker"] == 1)


async def test_a_signal_while_it_starts_stops_it(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first", "wait_for('go')")
    process = start_service(service(tmp_path), workers=2)
    await process.logged("admin process")
    await stop(process)
    assert failures(process) == []
    assert not [one for one in process.messages() if one.startswith("listening on")]


async def test_if_no_worker_can_start_it_gives_up(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first", "raise ValueError('no such thing')")
    process = start_service(service(tmp_path, "restarts.FIRST_DELAY = 0.01"), workers=2)
    assert await process.exit_code() == 1
    why = r"worker 0, pid \d+: cannot make the application: ValueError\('no such thing'\)"
    assert re.fullmatch(rf"no worker can start: {why}\n", process.errors())
    records = failures(process)
    assert len(records) == 6
    assert all(re.fullmatch(f"cannot start {why}", one["message"]) for one in records)
    # The same stack is not told again and again.
    stacks = [one.get("exception.stacktrace", "") for one in records]
    assert "ValueError: no such thing" in stacks[0]
    assert stacks[1:] == [""] * 5
    messages = process.messages()
    assert len([one for one in messages if one.startswith("next attempt in 0.")]) == 5
    assert "no worker can start: stopping" in messages


async def test_a_worker_that_cannot_start_at_first_is_tried_again(
    start_service: ServiceStarter, tmp_path: Path, free_port: int
) -> None:
    write_code(tmp_path, "first", "open('go')")
    patch = "restarts.FIRST_DELAY = 0.3"
    process = start_service(service(tmp_path, patch), workers=2, admin_port=free_port)
    record = await process.logged("cannot start worker 0")
    assert record["exception.type"] == "FileNotFoundError"
    await process.logged("admin process")
    assert await reasons(free_port) == ["starting"]
    let_go(process)
    port, _ = await process.ports()
    await all_ready(process)
    assert await reasons(free_port) == []
    assert await version(port) == "first"
    await stop(process)


async def test_who_is_not_ready_in_time_is_killed(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first", "wait_for('go')")
    process = start_service(service(tmp_path), workers=2, start_timeout=0.5)
    record = await process.logged("cannot start worker 0")
    assert ": killed, not ready in time" in record["message"]
    assert record["level"] == "error"
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


async def test_sockets_that_are_handed_over_are_shared(start_service: ServiceStarter, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        process = start_service(handing_over(tmp_path), workers=2, port=taken)
        port, admin_port = await process.ports()
        assert port == int(process.errors()) != taken
    await all_ready(process)
    assert await reasons(admin_port) == []
    async with AsyncExitStack() as stack:
        wires = await occupy_all(process, port, stack)
        let_go(process)
        assert [(await wire.answer()).status for wire in wires] == [200] * len(wires)
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 0


# Deaths


async def test_who_is_killed_is_replaced_and_the_others_stay(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    counts, killed = dict.fromkeys(EVERYBODY, 1), []
    for name in [*EVERYBODY, *["worker 1"] * 4]:  # more than the scoreboard has rows
        killed.append((name, ready(process, name)[-1]))
        os.kill(killed[-1][1], signal.SIGKILL)
        counts[name] += 1
        await wait_until(partial(have_been_ready, process, [*counts.values()]))
        await are_answered(port, 5)
        assert await reasons(admin_port) == []
    await stop(process)
    for record, (name, pid) in zip(failures(process), killed, strict=True):
        how = r"killed by SIGKILL, requests in flight: \d"
        assert re.fullmatch(rf"{name}, pid {pid}: {how}", record["message"])
        assert record["worker"] is None


LEAVES = """
    import threading
    leave = lambda: (wait_for("leave"), os._exit(0))
    threading.Thread(target=leave, daemon=True).start()
"""


async def test_who_ends_unasked_has_died(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first", LEAVES.strip())
    process = start_service(service(tmp_path), workers=2)
    _, admin_port = await process.ports()
    pids = await all_ready(process)
    (tmp_path / "leave").touch()
    for name, pid in zip(EVERYBODY[1:], pids[1:], strict=True):
        await process.logged(f"{name}, pid {pid}: exit code 0, requests in flight")
    (tmp_path / "leave").unlink()
    assert {record["worker"] for record in failures(process)} == {None}
    assert min(await restarts(admin_port)) >= 1
    await stop(process)


async def test_a_blocked_worker_is_replaced_and_its_stack_is_told(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, hang_timeout=1)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire, "/stuck")
        blocked = (await process.logged("event loop blocked"))["worker"]
        record = await process.logged(f"worker {blocked}, pid {pids[1 + blocked]}: killed")
        assert await wire.rest() == b""
    assert record["level"] == "error"
    how = r"killed, its event loop was blocked for (\d\.\d) s, requests in flight: [01]"
    match = re.fullmatch(rf"worker {blocked}, pid {pids[1 + blocked]}: {how}", record["message"])
    assert match
    assert float(match[1]) >= 1
    assert re.search(r'stand_in\.py", line \d+ in get\n', record["code.stacktrace"])
    await wait_until(lambda: len(ready(process, f"worker {blocked}")) == 2)
    await are_answered(port, 5)
    await stop(process)
    assert failures(process) == [record]
    assert len(ready(process, f"worker {1 - blocked}")) == 1


async def test_a_neighbour_accepts_for_a_blocked_worker(start_service: ServiceStarter) -> None:
    # Who is ready in time has all the time.
    process = start_service(STAND_IN, workers=2, hang_timeout=0, start_timeout=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire, "/stuck")
        blocked = (await process.logged("event loop blocked"))["worker"]
        record = await process.logged("accepting for worker")
        assert record["message"] == f"accepting for worker {blocked}"
        assert record["worker"] == 1 - blocked
        await are_answered(port, 20)
        assert await reasons(admin_port) == []
        let_go(process)
        await wire.answer()
    await stop(process)
    assert failures(process) == []


async def test_a_neighbour_accepts_for_a_dead_worker_until_it_can_be_replaced(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    patch = "restarts.FIRST_DELAY = restarts.LONGEST_DELAY = 0.01"
    process = start_service(service(tmp_path, patch), workers=2)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    assert not [one for one in process.messages() if one.startswith("accepting")]
    write_code(tmp_path, "broken", "raise ValueError('broken')")
    os.kill(second, signal.SIGKILL)
    record = await process.logged("accepting for worker 1")
    assert record["worker"] == 0
    await wait_until(lambda: len(failures(process)) > 8)  # with nobody serving it would have given up
    assert {await version(port) for _ in range(20)} == {"first"}
    assert await reasons(admin_port) == []
    write_code(tmp_path, "mended again")
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await stop(process)


async def test_who_dies_again_and_again_must_wait_or_be_reloaded(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    patch = "restarts.QUICK_DEATHS, restarts.FIRST_DELAY, restarts.LONGEST_DELAY = 0, 600, 600"
    process = start_service(service(tmp_path, patch), workers=2)
    port, _ = await process.ports()
    _, _, second = await all_ready(process)
    os.kill(second, signal.SIGKILL)
    await process.logged("accepting for worker 1")
    await are_answered(port, 50)
    assert len(ready(process, "worker 1")) == 1
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    await all_ready(process, 2)
    await stop(process)


async def test_nobody_is_blamed_when_all_stood_still(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, hang_timeout=1)
    pids = await all_ready(process)
    supervisor = (await process.logged("listening on"))["pid"]
    for pid in [supervisor, *pids]:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1.5)  # longer than anybody may be silent
    os.kill(supervisor, signal.SIGCONT)
    await asyncio.sleep(0.3)  # so that it looks before they do anything
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    await stop(process)
    assert failures(process) == []


async def restarts(admin_port: int) -> list[int]:
    """Ask how often each worker has died or not been able to start."""
    return [worker["restarts"] for worker in await vitals(admin_port)]


async def test_deaths_are_counted_and_departures_are_not(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2)
    _, admin_port = await process.ports()
    counts = dict.fromkeys(EVERYBODY, 1)
    await all_ready(process)
    assert await restarts(admin_port) == [0, 0]
    for name in "worker 1", ADMIN_SLOT, "worker 1", "worker 0":
        os.kill(ready(process, name)[-1], signal.SIGKILL)
        counts[name] += 1
        await wait_until(partial(have_been_ready, process, [*counts.values()]))
    assert await restarts(admin_port) == [1, 2]
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    os.kill(ready(process, "worker 0")[-1], signal.SIGTERM)
    await wait_until(lambda: len(ready(process, "worker 0")) == counts["worker 0"] + 2)
    assert await restarts(admin_port) == [1, 2]
    await stop(process)


async def test_attempts_to_start_are_counted(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path, "restarts.FIRST_DELAY = 0.01"), workers=2)
    _, admin_port = await process.ports()
    _, first, _ = await all_ready(process)
    write_code(tmp_path, "broken", "raise ValueError('broken')")
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: len(failures(process)) == 4)
    write_code(tmp_path, "mended again")
    await wait_until(lambda: len(ready(process, "worker 0")) == 2)
    counts = [len(failures(process)), 0]
    assert await restarts(admin_port) == counts
    # A reload that is given up has cost nobody anything.
    write_code(tmp_path, "broken", "raise ValueError('broken')")
    process.signal(signal.SIGHUP)
    await process.logged("reload given up")
    assert await restarts(admin_port) == counts
    await stop(process)


FAILING = f"""
from {SERVICE}.supervisor import Supervisor

def fail(self):
    raise ValueError("a mistake")

Supervisor._read_settings = fail
"""


async def test_a_supervisor_that_fails_tells_why_and_takes_everybody_with_it(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path, FAILING), workers=2)
    await all_ready(process)
    process.signal(signal.SIGHUP)
    assert await process.exit_code() == 1
    record = await process.logged("the supervisor failed")
    assert record["level"] == "critical"
    assert record["exception.message"] == "a mistake"
    await wait_until(lambda: process.messages().count("the supervisor is gone") == 3)
    await wait_until(lambda: process.messages().count("stopped") == 6)  # three by the reload


NO_FORK = """
fork = os.fork

def fork_if_possible():
    if os.path.exists("no fork"):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()

os.fork = fork_if_possible
restarts.FIRST_DELAY = 0.1
"""


async def test_without_processes_to_be_had_it_goes_on_with_those_it_has(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path, NO_FORK), workers=2)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    (tmp_path / "no fork").touch()
    os.kill(second, signal.SIGKILL)
    record = await process.logged("cannot start a process: Resource temporarily unavailable")
    assert record["level"] == "error"
    # Once it was killed, and could not start since then.
    assert (await restarts(admin_port))[1] > 1
    process.signal(signal.SIGHUP)
    await process.logged("reload given up, the old workers go on: no process to be had: Resource")
    assert await version(port) == "first"
    (tmp_path / "no fork").unlink()
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await stop(process)


# Reload


async def test_a_reload_renews_everybody_and_fails_no_request(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path), workers=2)
    port, admin_port = await process.ports()
    before = await all_ready(process)
    assert await version(port) == "first"
    async with AsyncExitStack() as stack:
        wires = await occupy_all(process, port, stack)
        write_code(tmp_path, "the second")
        async with clients(port) as statuses:
            process.signal(signal.SIGHUP)
            await wait_until(lambda: draining(process))
            # Never is there more than one process too many.
            await wait_until(lambda: len(statuses) > 200)
            assert [len(ready(process, name)) for name in EVERYBODY] == [1, 1, 2]
            let_go(process)
            assert [(await wire.answer()).status for wire in wires] == [200] * len(wires)
            await process.logged("reloaded")
            done = len(statuses)
            await wait_until(lambda: len(statuses) > done)
    assert set(statuses) == {200}
    after = await all_ready(process, 2)
    assert set(before).isdisjoint(after)
    assert {await version(port) for _ in range(20)} == {"the second"}
    assert await reasons(admin_port) == []
    await stop(process)
    assert failures(process) == []
    messages = process.messages()
    assert messages.count("SIGHUP: reloading") == messages.count("reloaded") == 1
    assert len([one for one in messages if one.startswith("listening on")]) == 1


async def test_what_cannot_start_leaves_the_old_workers_with_one_error(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path), workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    write_code(tmp_path, "broken", "raise ValueError('broken')")
    process.signal(signal.SIGHUP)
    code = await process.logged("reload given up")
    why = r"worker 1, pid \d+: cannot make the application: ValueError\('broken'\)"
    assert re.fullmatch(f"reload given up, the old workers go on: {why}", code["message"])
    assert code["exception.type"] == "ValueError"
    assert "ValueError: broken" in code["exception.stacktrace"]
    (tmp_path / ".env").write_text("APP_THREADS=0\nAPP_IDLE_TIMEOUT=never\n")
    process.signal(signal.SIGHUP)
    await wait_until(lambda: len(failures(process)) == 2)
    settings = failures(process)[1]
    assert re.search(r": Bad settings: .*APP_THREADS: ", settings["message"])
    assert " APP_IDLE_TIMEOUT: " in settings["message"]
    assert "exception.type" not in settings
    assert await reasons(admin_port) == []
    assert {await version(port) for _ in range(10)} == {"first"}
    (tmp_path / ".env").unlink()
    (tmp_path / "once").mkdir()
    write_code(tmp_path, "good only once", "os.rmdir('once')")
    process.signal(signal.SIGHUP)
    await wait_until(lambda: len(failures(process)) == 3)
    half = failures(process)[2]
    why = "reload given up, the old workers go on, half-way: only [1] are renewed: worker 0"
    assert half["message"].startswith(why)
    write_code(tmp_path, "mended again")
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    assert {await version(port) for _ in range(10)} == {"mended again"}
    await wait_until(partial(have_been_ready, process, [2, 2, 3]))
    await stop(process)
    assert failures(process) == [code, settings, half]


BAD_SETTINGS = f"""
from {SERVICE} import settings, supervisor

def load_bad_settings():
    raise settings.BadSettings("broken just now")

supervisor.load = load_bad_settings
"""


async def test_a_second_reload_begins_anew_and_a_stop_ends_it(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    # Settings that break while it reloads, behind the workers that have good ones, are no matter.
    process = start_service(service(tmp_path, BAD_SETTINGS), workers=2)
    port, _ = await process.ports()
    await all_ready(process)
    write_code(tmp_path, "the second", "wait_for('never')")
    process.signal(signal.SIGHUP)
    await process.logged("SIGHUP: reloading")
    write_code(tmp_path, "the third one")
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    await all_ready(process, 2)
    assert {await version(port) for _ in range(10)} == {"the third one"}
    write_code(tmp_path, "the second", "wait_for('never')")
    process.signal(signal.SIGHUP)
    await wait_until(lambda: process.messages().count("SIGHUP: reloading") == 3)
    await stop(process)
    assert failures(process) == []
    assert process.messages().count("reloaded") == 1


async def test_a_worker_that_dies_during_a_reload_gets_the_new_code(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path), workers=2)
    port, _ = await process.ports()
    _, first, _ = await all_ready(process)
    write_code(tmp_path, "the second", "wait_for('go')")
    process.signal(signal.SIGHUP)
    await process.logged("SIGHUP: reloading")
    os.kill(first, signal.SIGKILL)
    await process.logged(f"worker 0, pid {first}: killed by SIGKILL")
    let_go(process)
    await process.logged("reloaded")
    assert {await version(port) for _ in range(10)} == {"the second"}
    await stop(process)
    assert len(failures(process)) == 1


async def test_a_reload_reads_the_settings_again(start_service: ServiceStarter, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APP_WORKERS=2\nAPP_LOG_LEVEL=info\n")
    process = start_service(STAND_IN, workers="")
    port, admin_port = await process.ports()
    await all_ready(process)
    (tmp_path / ".env").write_text("APP_WORKERS=2\nAPP_LOG_LEVEL=debug\n")
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    await all_ready(process, 2)
    await reasons(admin_port)
    await process.logged("GET /readyz")  # which is of level debug
    assert not [one for one in process.messages() if "restart" in one]
    text = "APP_WORKERS=3\nAPP_LOG_LEVEL=warning\nAPP_DRAIN_DELAY=600\n"
    (tmp_path / ".env").write_text(text)
    process.signal(signal.SIGHUP)
    record = await process.logged("APP_WORKERS has changed, which takes a restart")
    assert record["level"] == "warning"
    # The supervisor obeys them as well.
    process.signal(signal.SIGTERM)
    await until_draining(admin_port)
    await are_answered(port, 5)
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 1
    messages = process.messages()
    assert len([one for one in messages if "restart" in one]) == 1
    assert not {"SIGTERM: stopping", "stopped"} & set(messages[messages.index(record["message"]) :])
    assert ready(process, "worker 2") == []


# Stop


async def test_requests_in_flight_at_all_workers_are_answered(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2)
    port, admin_port = await process.ports()
    pids = await all_ready(process)
    async with AsyncExitStack() as stack:
        wires = await occupy_all(process, port, stack)
        for pid in pids:
            # What a terminal sends to all of them is for the supervisor.
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        await are_answered(port, 5)
        assert draining(process) == []
        process.signal(signal.SIGTERM)
        await wait_until(lambda: len(draining(process)) == 2)
        await is_refused(port)
        assert await reasons(admin_port) == ["draining"]
        process.signal(signal.SIGHUP)
        await process.logged("SIGHUP: ignored, the service is stopping")
        let_go(process)
        for wire in wires:
            answer = await wire.answer()
            assert (answer.status, answer.json()) == (200, {"slow": True})
            assert answer.headers["Connection"] == "close"
    assert await process.exit_code() == 0
    assert failures(process) == []
    assert not [message for message in process.messages() if "cut" in message]
    # The admin port answers until the workers have gone.
    ends = [moment(one) for one in process.records() if one["message"] == "stopped"]
    drains = [one for one in process.records() if one["message"].startswith("draining")]
    [admin] = [moment(one) for one in drains if one["pid"] == pids[0]]
    assert sorted(ends)[1] <= admin


def draining(process: ServiceProcess) -> list[Record]:
    """Return the records of the workers that have begun to drain."""
    return [
        one
        for one in process.records()
        if one["message"].startswith("draining") and one["worker"] is not None
    ]


async def test_what_outlasts_the_drain_timeout_is_cut_and_counted(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, drain_timeout=0.2)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        assert await wire.rest() == b""
    assert await process.exit_code() == 0
    record = await process.logged("0.2 s after SIGTERM: requests cut: 1, WebSockets cut: 0")
    assert record["worker"] in (0, 1)
    assert failures(process) == []


async def test_a_second_signal_stops_at_once(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, drain_timeout=600)
    port, _ = await process.ports()
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGTERM)
        await process.logged("draining, requests in flight: 1")
        process.signal(signal.SIGINT)
        assert await wire.rest() == b""
    assert await process.exit_code() == 1
    assert process.errors() == ""
    record = await process.logged("second signal, SIGINT: stopping at once")
    assert record["level"] == "warning"
    await process.logged("SIGUSR2: requests cut: 1, WebSockets cut: 0")
    assert failures(process) == []


async def test_during_the_drain_delay_all_workers_serve_and_the_service_is_not_ready(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path), workers=2, drain_delay=600)
    port, admin_port = await process.ports()
    _, _, second = await all_ready(process)
    write_code(tmp_path, "the second", "wait_for('never')")
    process.signal(signal.SIGHUP)
    await process.logged("SIGHUP: reloading")
    process.signal(signal.SIGTERM)
    await process.logged("SIGTERM: stopping")
    assert await reasons(admin_port) == ["draining"]
    write_code(tmp_path, "the third one")
    os.kill(second, signal.SIGKILL)
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await are_answered(port, 10)
    assert draining(process) == []
    process.signal(signal.SIGTERM)
    assert await process.exit_code() == 1
    # A stop ends a reload.
    assert len(ready(process, "worker 0")) == 1


def moment(record: Record) -> datetime:
    return datetime.fromisoformat(record["timestamp"])


async def test_the_drain_delay_ends_for_all_at_once(start_service: ServiceStarter) -> None:
    process = start_service(STAND_IN, workers=2, drain_delay=1)
    await all_ready(process)
    await stop(process)
    begin, end = moment(await process.logged("SIGTERM: ")), moment(process.records()[-1])
    delays = [(moment(one) - begin).total_seconds() for one in draining(process)]
    assert len(delays) == 2
    assert min(delays) >= 0.99
    assert (end - begin).total_seconds() < 2


async def test_who_does_not_go_in_time_is_killed(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path, "process.GRACE = 0.1"), workers=2, drain_timeout=0.4)
    _, _, second = await all_ready(process)
    os.kill(second, signal.SIGSTOP)
    await stop(process)
    [record] = failures(process)
    why = "killed, not gone in time; it did not even run"
    assert record["message"] == f"worker 1, pid {second}: {why}, requests in flight: 0"


async def test_who_goes_unasked_must_be_gone_in_time_as_well(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path, "process.GRACE = 0.1"), workers=2, drain_timeout=0.4)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        slot = (await process.logged("slow request arrived"))["worker"]
        os.kill(pids[1 + slot], signal.SIGTERM)
        await process.logged("draining, requests in flight: 1")
        os.kill(pids[1 + slot], signal.SIGSTOP)
        assert await wire.rest() == b""
    await wait_until(lambda: len(ready(process, f"worker {slot}")) == 2)
    await stop(process)
    [record] = failures(process)
    assert record["message"].startswith(f"worker {slot}, pid {pids[1 + slot]}: killed, not gone")


# systemd


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with Manager() as manager:
        yield manager


async def test_systemd_is_told_of_start_reloads_life_and_stop(
    start_service: ServiceStarter, tmp_path: Path, manager: Manager
) -> None:
    write_code(tmp_path, "first")
    process = start_service(service(tmp_path), workers=2)
    # Systemd must listen, for what it does not hear is not said again.
    await wait_until(lambda: manager.states().count("READY=1") == 1)
    await all_ready(process)
    process.signal(signal.SIGHUP)
    await wait_until(lambda: manager.states().count("READY=1") == 2)
    write_code(tmp_path, "broken", "raise ValueError('broken')")
    process.signal(signal.SIGHUP)
    await wait_until(lambda: manager.states().count("READY=1") == 3)
    beats = manager.states().count("WATCHDOG=1")
    await wait_until(lambda: manager.states().count("WATCHDOG=1") >= beats + 2)
    await stop(process)
    greeting = (await process.logged("listening on"))["message"]
    told = [re.sub(r"=\d{4,}", "=...", one) for one in manager.heard() if one != "WATCHDOG=1"]
    reloading = "RELOADING=1\nMONOTONIC_USEC=...\nSTATUS=reloading"
    assert told == [
        f"READY=1\nSTATUS={greeting}",
        reloading,
        "READY=1\nSTATUS=reloaded",
        reloading,
        "READY=1\nSTATUS=reload given up",
        "STOPPING=1\nSTATUS=stopping",
    ]
