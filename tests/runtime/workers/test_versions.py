"""Which code runs: on the admin port, in the metrics and in the log, through reloads."""

import os
import signal
from pathlib import Path
from typing import Any

from runtime.process.definition import REVISION
from runtime.testing import Record, ServiceProcess, ServiceStarter

from tests.runtime.support.brewery import copy_brewery
from tests.runtime.support.commands import status
from tests.runtime.support.connections import RawConnection
from tests.runtime.support.processes import worker_statuses
from tests.runtime.support.prometheus import samples, scrape
from tests.runtime.support.workers import (
    all_ready,
    pid_of_other_worker,
    stop,
    until_worker_ready,
    write_source,
)

OLD = "v1.0"
NEW = "v1.0-1-g0123456789ab-dirty"


def release(package: Path, version: str, revision: str) -> None:
    """Install a version of the package."""
    module = package / "__init__.py"
    lines = module.read_text().splitlines()
    write_source(module, "\n".join([*lines[:-1], f'__version__ = "{version}"', ""]))
    (package / REVISION).write_text(f"{revision}\n")


async def shown(admin_port: int) -> dict[str, Any]:
    """Return what ``/version`` says."""
    async with RawConnection(admin_port) as admin:
        body: dict[str, Any] = (await admin.get("/version")).json()
    return body


async def build_info(admin_port: int) -> set[tuple[str, ...]]:
    """Return the revisions and versions in the metrics."""
    return set(samples(await scrape(admin_port), "build_info"))


def ready_records(process: ServiceProcess) -> list[Record]:
    return [record for record in process.records() if record["message"].endswith(": ready")]


async def test_version_is_that_of_the_code_that_each_worker_has_loaded(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    package = copy_brewery(tmp_path)
    release(package, "1.0", OLD)
    process = start_service("brewery", workers=2)
    _, admin_port = await process.ports()
    await all_ready(process)
    first = process.records()[0]
    assert first["message"] == f"starting brewery 1.0, revision {OLD}"
    before = await shown(admin_port)
    assert (before["name"], before["version"], before["revision"]) == ("brewery", "1.0", OLD)
    assert await build_info(admin_port) == {(OLD, "1.0")}
    # What is on disk is not what runs.
    release(package, "1.1", NEW)
    (package / "runtime/VERSION").write_text("99.0.0")
    assert await shown(admin_port) == before
    await process.reload()
    after = await shown(admin_port)
    assert after == before | {
        "version": "1.1",
        "revision": NEW,
        "workers": [{"worker": slot, "version": "1.1", "revision": NEW} for slot in (0, 1)],
    }
    assert await build_info(admin_port) == {(NEW, "1.1")}
    told = await status(process)
    assert (told["name"], told["version"], told["revision"]) == ("brewery", "1.1", NEW)
    details = [worker["details"] for worker in await worker_statuses(admin_port)]
    assert details == [{"version": "1.1", "revision": NEW, "checks": []}] * 2
    fields = [(r["service.version"], r["vcs.ref.head.revision"]) for r in ready_records(process)]
    assert fields == [("1.0", OLD)] * 3 + [("1.1", NEW)] * 3
    # A worker that crashes before a reload is replaced by one with other code.
    release(package, "1.1", "")
    [_, pid] = [worker["pid"] for worker in await worker_statuses(admin_port)]
    os.kill(pid, signal.SIGKILL)
    await until_worker_ready(admin_port, await pid_of_other_worker(admin_port, pid))
    mixed = await shown(admin_port)
    assert (mixed["version"], mixed["revision"]) == ("1.1", None)
    assert [worker["revision"] for worker in mixed["workers"]] == [NEW, ""]
    assert await build_info(admin_port) == {(NEW, "1.1"), ("", "1.1")}
    await stop(process)
