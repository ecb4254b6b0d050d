"""A service with two workers as a test sees it: its processes, its log and its code."""

import asyncio
import itertools
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from runtime.control.protocol import WORKERS, Message
from runtime.testing import WAIT_TIMEOUT, Record, ServiceProcess, ServiceStarter, wait_until

from .commands import ask
from .connections import RawConnection
from .processes import ARRIVED, worker_statuses

APPS = Path(__file__).parents[1] / "apps"
RELOADABLE = "tests.runtime.apps.reloadable"
"""The service whose code is what `deploy` has put into its folder."""
FAULTY = "tests.runtime.apps.faulty"
"""The same, with a fault in the supervisor."""

ADMIN = "admin process"
PROCESSES = [ADMIN, "worker 0", "worker 1"]

# Messages of the log that several tests compare.
ACCEPTING = "accepting connections for worker"
DRAINING = "draining, requests in flight"
KEEPING_OLD = "reload failed, keeping the old workers"
LISTENING = "listening on"
RELOADED = "reloaded"
RELOADING = "SIGHUP: reloading"
RESTART_REQUIRED = "restart required"
STOPPED = "stopped"
SUPERVISOR_EXITED = "supervisor exited, shutting down"

_mtimes = itertools.count(1)


def deploy(folder: Path, revision: str) -> None:
    """Put a version of the service `renewed` into a folder; see `apps/revisions`."""
    package = folder / "renewed"
    shutil.copytree(APPS / "renewed", package, dirs_exist_ok=True)
    if revision != "first":
        source = (APPS / "revisions" / f"{revision}.py").read_text()
        write_source(package / "revision.py", source)


def write_source(module: Path, source: str) -> None:
    """Replace a module whose byte code may be there already."""
    new = module.with_suffix(".new")
    new.write_text(source)
    # Python compares the modification time, in seconds, to see that byte code is old.
    seconds = next(_mtimes)
    os.utime(new, (seconds, seconds))
    new.replace(module)


def ready(process: ServiceProcess, name: str) -> list[int]:
    """Return the pids of the processes of one name, of `PROCESSES`, that have become ready."""
    pattern = re.compile(rf"{name}, pid (\d+): ready")
    matches = map(pattern.fullmatch, process.messages())
    return [int(match[1]) for match in matches if match]


def have_been_ready(process: ServiceProcess, counts: list[int]) -> bool:
    """Return whether each of `PROCESSES` has become ready so often."""
    return [len(ready(process, name)) for name in PROCESSES] == counts


async def all_ready(process: ServiceProcess, times: int = 1) -> list[int]:
    """Wait until each of `PROCESSES` has become ready `times` times; return the last pids."""
    await wait_until(partial(have_been_ready, process, [times] * len(PROCESSES)))
    return [ready(process, name)[-1] for name in PROCESSES]


async def start_reloadable(
    start_service: ServiceStarter, folder: Path, **settings: object
) -> ServiceProcess:
    """Start the first version of a service, and wait until all its processes are ready."""
    deploy(folder, "first")
    process = start_service(RELOADABLE, workers=2, **settings)
    await process.ports()
    await all_ready(process)
    return process


def errors(process: ServiceProcess) -> list[Record]:
    """Return the records of level error."""
    return [record for record in process.records() if record["level"] == "error"]


def draining(process: ServiceProcess) -> list[Record]:
    """Return the records of the workers that have begun to drain."""
    return [
        record
        for record in process.records()
        if record["message"].startswith(DRAINING) and record["worker"] is not None
    ]


def time_of(record: Record) -> datetime:
    return datetime.fromisoformat(record["timestamp"])


async def stop(process: ServiceProcess) -> None:
    """Stop a service, and check that nothing is wrong with that."""
    process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 0
    assert process.errors() == ""
    assert process.messages()[-1] == STOPPED


async def version(port: int) -> str:
    """Return the version that a service of `deploy` responds with."""
    async with RawConnection(port) as connection:
        response: dict[str, str] = (await connection.get("/")).json()
    return response["version"]


async def versions(port: int) -> set[str]:
    """Return the versions that many requests get, each on a connection of its own."""
    return {await version(port) for _ in range(20)}


async def not_ready_reasons(admin_port: int) -> list[str]:
    """Return why the service is not ready, from ``/readyz``."""
    async with RawConnection(admin_port) as admin:
        response = await admin.get("/readyz")
    body = response.json()
    assert response.status == (200 if body["ready"] else 503)
    reasons: list[str] = body.get("reasons", [])
    assert bool(reasons) is not body["ready"]
    return reasons


async def until_draining(admin_port: int) -> None:
    """Wait until ``/readyz`` says that the service drains."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while await not_ready_reasons(admin_port) != ["draining"]:
            pass


async def order_workers(process: ServiceProcess, count: int) -> Message:
    """Change the number of workers; return what has come of it."""
    return await ask(process, command=WORKERS, count=count)


async def pid_of_other_worker(admin_port: int, predecessor: int) -> int:
    """Wait for the process that follows `predecessor` as worker 1, and return its pid."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while (pid := (await worker_statuses(admin_port))[1]["pid"]) in (0, predecessor):
            pass
    return int(pid)


async def until_worker_ready(admin_port: int, pid: int) -> None:
    """Wait until the worker of a pid is ready."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while pid not in [w["pid"] for w in await worker_statuses(admin_port) if w["ready"]]:
            pass


async def restarts(admin_port: int) -> list[int]:
    """Return how often each worker has crashed or failed to start, from ``/workers``."""
    return [worker["restarts"] for worker in await worker_statuses(admin_port)]


async def succeed(port: int, count: int) -> None:
    """Send requests, each on a connection of its own, and check that they succeed."""
    for _ in range(count):
        async with RawConnection(port) as connection:
            assert (await connection.get("/")).status == 200


@asynccontextmanager
async def requests(port: int, path: str = "/", pause: float = 0) -> AsyncIterator[list[int]]:
    """Send one request after the other meanwhile; collect the statuses of the responses.

    `pause` is the time in seconds between two of them.
    """
    statuses: list[int] = []
    is_over = asyncio.Event()

    async def send() -> None:
        while not is_over.is_set():
            async with RawConnection(port) as connection:
                statuses.append((await connection.get(path)).status)
            await asyncio.sleep(pause)

    task = asyncio.create_task(send())
    try:
        yield statuses
    finally:
        is_over.set()
        await task


async def occupy_workers(
    process: ServiceProcess, port: int, stack: AsyncExitStack
) -> list[RawConnection]:
    """Have at least one slow request in flight in each of two workers."""

    def occupied() -> list[int]:
        arrived = [r for r in process.records() if r["message"] == ARRIVED["/slow"]]
        return [record["worker"] for record in arrived]

    connections: list[RawConnection] = []
    async with asyncio.timeout(WAIT_TIMEOUT):
        while set(occupied()) != {0, 1}:
            connections.append(await stack.enter_async_context(RawConnection(port)))
            connections[-1].send_get("/slow")
            await wait_until(lambda: len(occupied()) == len(connections))
    return connections


def has_exited(pid: int) -> bool:
    """Return whether a process has exited, even if it was not reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
