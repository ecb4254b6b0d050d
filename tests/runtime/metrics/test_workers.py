"""Status and process resources of each worker."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import ProcessCollector
from runtime.metrics import workers
from runtime.status import ProcessDetails, ResourceCheck, WorkerStatus
from runtime.testing import Client

from ..support.fakes import FakeStatus
from ..support.prometheus import PROCESS_METRICS, samples, scrape

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


async def test_status_of_each_worker(admin: Client, status: FakeStatus) -> None:
    status.workers = [
        WorkerStatus(0, os.getpid(), True, 3, 0.5, 2, websockets=6, event_streams=8),
        WorkerStatus(1, os.getpid(), False, 4, 1.5, 0),
        WorkerStatus(
            2, 0, False, 5, 2.5, 7, websockets=9, event_streams=9
        ),  # has no process at present
    ]
    families = await scrape(admin.port)
    assert samples(families, "workers_ready") == {(): 1}
    assert samples(families, "worker_restarts_total") == {("0",): 2, ("1",): 0, ("2",): 7}
    assert samples(families, "http_server_active_requests") == {("0",): 3, ("1",): 4}
    assert samples(families, "event_loop_lag_seconds") == {("0",): 0.5, ("1",): 1.5}
    assert samples(families, "websockets_open") == {("0",): 6, ("1",): 0}
    assert samples(families, "event_streams_open") == {("0",): 8, ("1",): 0}


async def test_build_info_has_each_version_that_a_worker_runs(
    admin: Client, status: FakeStatus
) -> None:
    assert samples(await scrape(admin.port), "build_info") == {}
    old, new = ProcessDetails("1.2.0", ""), ProcessDetails("1.2.0", "v1.2.0-4")
    status.workers = [
        WorkerStatus(slot, os.getpid(), True, 0, 0.0, 0, details=details)
        for slot, details in enumerate([old, old, new, ProcessDetails()])
    ]
    families = await scrape(admin.port)
    assert samples(families, "build_info") == {("", "1.2.0"): 1, ("v1.2.0-4", "1.2.0"): 1}


async def test_no_ready_worker_is_shown_as_0(admin: Client, status: FakeStatus) -> None:
    status.workers = [WorkerStatus(0, 0, False, 0, 0.0, 0)]
    assert samples(await scrape(admin.port), "workers_ready") == {(): 0}


async def test_checks_of_resources(admin: Client, status: FakeStatus) -> None:
    assert samples(await scrape(admin.port), "resource_check_success") == {}
    not_checked_yet = ResourceCheck("cache", passing=False)
    for worker, passing in enumerate([True, False]):
        checks = ResourceCheck("orders", passing, checked_ago=0.8), not_checked_yet
        details = ProcessDetails(checks=checks)
        status.workers.append(WorkerStatus(worker, 0, True, 0, 0.0, 0, details=details))
    found = samples(await scrape(admin.port), "resource_check_success")
    assert found == {("orders", "0"): 1, ("orders", "1"): 0}


@pytest.fixture
def exited() -> int:
    """The pid of a process that has just exited."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a process that has exited and has not been reaped."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@needs_proc
async def test_resources_of_each_process(
    admin: Client, status: FakeStatus, exited: int, zombie: int
) -> None:
    pids = [os.getpid(), exited, zombie, 0, os.getppid()]
    status.workers = [WorkerStatus(slot, pid, True, 0, 0.0, 0) for slot, pid in enumerate(pids)]
    families = await scrape(admin.port)
    for name in PROCESS_METRICS:
        assert set(samples(families, name)) == {("0",), ("4",)}
    own = {name: samples(families, name)["0",] for name in PROCESS_METRICS}
    assert 0 < own["process_resident_memory_bytes"] < own["process_virtual_memory_bytes"]
    assert own["process_cpu_seconds_total"] == pytest.approx(time.process_time(), abs=2)
    assert 0 < own["process_open_fds"] <= own["process_max_fds"]
    assert 0 < time.time() - own["process_start_time_seconds"] < 24 * 3600


@needs_proc
def test_resources_are_read_where_proc_has_only_processes(tmp_path: Path) -> None:
    (tmp_path / "7").symlink_to(f"/proc/{os.getpid()}")
    found, expected = (
        {family.name: family.samples[0].value for family in collector.collect()}
        for collector in (
            workers.ProcessMetrics(pid=lambda: 7, proc=str(tmp_path), registry=None),
            ProcessCollector(registry=None),
        )
    )
    assert found.keys() == expected.keys()
    start_time = "process_start_time_seconds"
    assert found[start_time] == pytest.approx(expected[start_time], abs=2)


@needs_proc
async def test_start_time_stays_when_the_clock_is_set(
    admin: Client, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    status.workers = [WorkerStatus(0, os.getpid(), True, 0, 0.0, 0)]
    before = samples(await scrape(admin.port), "process_start_time_seconds")
    later = {"time": lambda: time.time() + 3600}
    monkeypatch.setattr(workers, "time", SimpleNamespace(**vars(time) | later))
    assert samples(await scrape(admin.port), "process_start_time_seconds") == before
