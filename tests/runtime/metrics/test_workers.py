import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import ProcessCollector

from runtime.metrics import workers as workermetrics
from runtime.status import WorkerStatus

from .support import Client, FakeStatus
from .test_metrics import PROCESS, samples, scrape


async def test_it_tells_how_each_worker_is(admin: Client, status: FakeStatus) -> None:
    status.workers = [
        WorkerStatus(0, os.getpid(), True, 3, 0.5, 2),
        WorkerStatus(1, os.getpid(), False, 4, 1.5, 0),
        WorkerStatus(2, 0, False, 5, 2.5, 7),
    ]
    families = await scrape(admin.port)
    assert samples(families, "workers_ready") == {(): 1}
    assert samples(families, "worker_restarts_total") == {("0",): 2, ("1",): 0, ("2",): 7}
    # There is no third just now.
    assert samples(families, "http_server_active_requests") == {("0",): 3, ("1",): 4}
    assert samples(families, "event_loop_lag_seconds") == {("0",): 0.5, ("1",): 1.5}


async def test_nobody_may_be_ready(admin: Client, status: FakeStatus) -> None:
    status.workers = [WorkerStatus(0, 0, False, 0, 0.0, 0)]
    assert samples(await scrape(admin.port), "workers_ready") == {(): 0}


@pytest.fixture
def gone() -> int:
    """The pid of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_it_tells_what_the_process_of_each_worker_takes(
    admin: Client, status: FakeStatus, gone: int
) -> None:
    pids = [os.getpid(), gone, 0, os.getppid()]
    status.workers = [WorkerStatus(slot, pid, True, 0, 0.0, 0) for slot, pid in enumerate(pids)]
    families = await scrape(admin.port)
    for name in PROCESS:
        assert set(samples(families, name)) == {("0",), ("3",)}
    mine = {name: samples(families, name)["0",] for name in PROCESS}
    assert 0 < mine["process_resident_memory_bytes"] < mine["process_virtual_memory_bytes"]
    assert mine["process_cpu_seconds_total"] == pytest.approx(time.process_time(), abs=2)
    assert 0 < mine["process_open_fds"] <= mine["process_max_fds"]
    assert 0 < time.time() - mine["process_start_time_seconds"] < 24 * 3600


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_a_process_takes_is_known_where_only_processes_are_to_be_seen(tmp_path: Path) -> None:
    (tmp_path / "7").symlink_to(f"/proc/{os.getpid()}")
    start_service = "process_start_time_seconds"
    seen, whole = (
        {one.name: one.samples[0].value for one in collector.collect()}
        for collector in (
            workermetrics.ServiceProcess(pid=lambda: 7, proc=str(tmp_path), registry=None),
            ProcessCollector(registry=None),
        )
    )
    assert seen.keys() == whole.keys()
    assert seen[start_service] == pytest.approx(whole[start_service], abs=2)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_the_start_of_a_process_stays_when_the_clock_is_set(
    admin: Client, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    status.workers = [WorkerStatus(0, os.getpid(), True, 0, 0.0, 0)]
    start_service = samples(await scrape(admin.port), "process_start_time_seconds")
    later = {"time": lambda: time.time() + 3600}
    monkeypatch.setattr(workermetrics, "time", SimpleNamespace(**vars(time) | later))
    assert samples(await scrape(admin.port), "process_start_time_seconds") == start_service


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a process that has ended and that nobody has waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_who_has_died_takes_nothing(admin: Client, status: FakeStatus, zombie: int) -> None:
    status.workers = [WorkerStatus(0, zombie, False, 0, 0.0, 0)]
    families = await scrape(admin.port)
    assert [name for name in PROCESS if samples(families, name)] == []
