"""Helpers for services that run as real processes."""

import socket
from pathlib import Path
from typing import Any

from runtime.testing import ServiceProcess, wait_until

from .connections import RawConnection
from .sample_app import release_slow_requests

ARRIVED = {"/slow": "slow request arrived", "/stuck": "event loop blocked"}
"""What the sample application logs when a request has arrived at these paths."""


async def begin_slow_request(
    process: ServiceProcess, connection: RawConnection, path: str = "/slow"
) -> None:
    """Send a request that stays in flight until `release`, and wait for its arrival."""
    connection.send_get(path)
    await process.logged(ARRIVED[path.partition("?")[0]])


def release(process: ServiceProcess) -> None:
    """Let the slow requests of a process finish."""
    release_slow_requests(process.folder)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and not yet waited for."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def accepts(port: int) -> bool:
    """Return whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def is_refused(port: int) -> None:
    """Wait until no process listens on a port any more."""
    await wait_until(lambda: not accepts(port))


async def worker_statuses(admin_port: int) -> list[dict[str, Any]]:
    """Return the status of each worker, from the admin port."""
    async with RawConnection(admin_port) as admin:
        workers: list[dict[str, Any]] = (await admin.get("/workers")).json()["workers"]
    return workers
