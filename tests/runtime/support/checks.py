"""Helpers for `tests.runtime.apps.checked`, a service with a resource that a test lets fail."""

import asyncio
from pathlib import Path
from typing import Any

from runtime.testing import POLL_INTERVAL, WAIT_TIMEOUT

from .connections import RawConnection

CHECKED = "tests.runtime.apps.checked"
INTERVAL = 0.3
TIMEOUT = 0.2

# Messages of the log that several tests compare.
FAILS = "resource store fails: "
WORKS_AGAIN = "resource store works again"


def let_check(folder: Path, behaviour: str, pid: int | None = None) -> None:
    """Let the check ``pass``, ``raise``, ``hang``, or ``ignore`` its cancellation.

    Give the pid for the check of one process only.
    """
    name = "check" if pid is None else f"check-{pid}"
    new = folder / f"new-{name}"
    new.write_text(behaviour)
    new.replace(folder / name)


async def readiness(admin_port: int) -> dict[str, Any]:
    """Return the body of ``/readyz``."""
    async with RawConnection(admin_port) as admin:
        response = await admin.get("/readyz")
    body: dict[str, Any] = response.json()
    assert response.status == (200 if body["ready"] else 503)
    return body


async def until_ready(admin_port: int) -> dict[str, Any]:
    """Wait until ``/readyz`` says that the service is ready; return its body."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not (body := await readiness(admin_port))["ready"]:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
    return body
