"""Logs of a service: their schema, rotation, a full disk, a reader that stalls, killed workers."""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import termios
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..tools import AS_ROOT, needs
from .harness import (
    ADMIN,
    FAULTS,
    READY,
    Answer,
    Service,
    Starter,
    children,
    get,
    request,
    until,
)
from .schema import check_record

TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
LINES_OF_TEXT = (
    rf"{TIMESTAMP} INFO +faults\[\d+\]: line \d+( padding='x+')? request_id='\w+'",
    rf"{TIMESTAMP} INFO +access\[\d+\]: GET /[\w/]+ 200 request_id='\w+' duration_ms=[\d.]+",
    rf"{TIMESTAMP} (INFO|ERROR) +tornado_service\.[\w.]+\[\d+\]: (?!.*{TIMESTAMP}).+",
)


async def ask_many(service: Service, count: int, path: str = "/") -> list[Answer]:
    """Ask on ten connections at a time."""
    gate = asyncio.Semaphore(10)

    async def ask() -> Answer:
        async with gate:
            return await asyncio.wait_for(get(service.port, path), 30)

    return await asyncio.gather(*(ask() for _ in range(count)))


def numbers(service: Service) -> dict[int, int | None]:
    """Return which worker each process is, by pid; None for those that are no worker."""
    found = filter(None, (re.fullmatch(READY, message) for message in service.messages()))
    workers = {int(match[2]): int(match[1]) if match[1] else None for match in found}
    return {service.process.pid: None, **workers}


def test_every_record_has_the_schema_and_says_who_wrote_it(run: Starter) -> None:
    service = run.faulty(APP_WORKERS=2, APP_LOG_LEVEL="debug")
    killed = service.workers()[0]

    def ask_both() -> None:
        for path in ("/", "/nope?x=1", "/fail", "/greetings/%ff", "/sleep/0", "/plain/0", "/log/3"):
            for _ in range(10):
                service.ask(path)
        service.ask("/livez", admin=True)

    ask_both()
    until(lambda: len(answered(service.records())) == 70, "records of what was asked")
    os.kill(killed, signal.SIGKILL)
    until(lambda: service.processes()[0] != killed, "a successor")
    service.signal(signal.SIGHUP)
    service.wait_for_message("^reloaded$")
    ask_both()
    service.signal()
    assert service.wait() == 0
    text = service.log_path.read_text()
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    workers = numbers(service)
    assert sorted(map(str, workers.values())) == ["0", "0", "0", "1", "1", "None", "None", "None"]
    for record in records:
        check_record(record, record["pid"], workers[record["pid"]])
    for kind in ("access", "faults", "tornado_service.runtime.workers.worker"):
        assert {r["worker"] for r in records if r["logger"] == kind} >= {0, 1}
    assert {r["pid"] for r in records if r["logger"].endswith("supervisor")} == {
        service.process.pid
    }
    probes = [r for r in records if r.get("url.path") == "/livez"]
    assert {(r["worker"], r["level"]) for r in probes} == {(None, "debug")}
    statuses = [r["http.response.status_code"] for r in answered(records)]
    assert len(statuses) == 2 * 70
    assert {200, 400, 404, 500} <= set(statuses)
    exceptions = [r["exception.type"] for r in records if "exception.type" in r]
    assert exceptions == ["RuntimeError"] * 2 * 10


def answered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the access records of the public port."""
    return [r for r in records if r["logger"] == "access" and r["worker"] is not None]


async def test_request_ids_of_concurrent_requests_do_not_mix(run: Starter) -> None:
    service = run.faulty(APP_WORKERS=2)
    service.workers()  # what one accepts for another that is not ready has one request only

    async def connection(name: str) -> None:
        # Pipelined: the next request is there before the last one is answered.
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.writelines(request("/log/2", X_Request_ID=f"{name}-{n}") for n in range(20))
        for number in range(20):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"logged":2}'))
            assert f"X-Request-ID: {name}-{number}\r\n".encode() in head
        writer.close()

    await asyncio.gather(*(connection(f"connection-{n}") for n in range(10)))
    service.signal()
    await asyncio.to_thread(service.wait)
    counts = Counter(r["request_id"] for r in service.records() if r["request_id"])
    assert len(counts) == 10 * 20
    assert set(counts.values()) == {3}


def test_rotation_loses_no_line(run: Starter) -> None:
    folder = run.folder / "logs"
    folder.mkdir(mode=0o755)
    log = folder / "service.log"
    service = run.spawn(str(FAULTS), APP_WORKERS=2, APP_LOG_FILE=log)
    service.log_path = log
    service.wait_until_ready()
    rotate = logrotate(run.folder, folder)
    before = service.workers()
    for _ in range(3):
        rotate_under_load(service, rotate)
    wait_for_lines(folder, 60_000)

    def rotate_and_reload() -> None:
        # The supervisor has something to say as well, and the workers change.
        rotate()
        service.signal(signal.SIGHUP)

    rotate_under_load(service, rotate_and_reload)
    until(lambda: both_answer(service, before), "new workers")
    rotate_under_load(service, rotate)
    wait_for_lines(folder, 100_000)
    service.signal()
    assert service.wait() == 0
    records = read_rotated(folder)
    numbered = [r for r in records if r["logger"] == "faults"]
    lines = Counter((r["request_id"], r["message"]) for r in numbered)
    assert len(lines) == 100_000
    assert set(lines.values()) == {1}
    writers = {(r["worker"], r["pid"]) for r in numbered}
    assert {worker for worker, _ in writers} == {0, 1}
    assert len(writers) > 2
    assert sum(r["message"] == "SIGHUP: reloading" for r in records) == 1


def rotate_under_load(service: Service, rotate: Callable[[], object]) -> None:
    """Rotate while 20,000 lines are logged: should the disk stall, so many have room to wait."""
    log = service.log_path

    def written() -> int:
        return sum(file.stat().st_size for file in log.parent.iterdir())

    before = written()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(service.ask, "/log/5000") for _ in range(4)]
        until(lambda: log.exists() and written() > before + 100_000, "lines in the file")
        rotate()
    assert [answer.result().status for answer in answers] == [200] * 4


def wait_for_lines(folder: Path, count: int) -> None:
    """Wait until the files hold so many numbered lines: at the end, few would have the time."""

    def lines() -> int:
        return sum(file.read_bytes().count(b'"logger":"faults"') for file in folder.iterdir())

    until(lambda: lines() >= count, f"{count} lines")


def read_rotated(folder: Path) -> list[dict[str, Any]]:
    """Read six files to the last byte and return their records."""
    files = list(folder.iterdir())
    assert len(files) == 6
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def logrotate(folder: Path, logs: Path) -> Callable[[], object]:
    """Rotate with logrotate and the options of the generated configuration."""
    tool = needs("logrotate")
    configuration = folder / "logrotate.conf"
    source = Path(__file__).parents[2].glob("*slug}}/deploy/logrotate/*slug}}")
    text = next(source).read_text()
    block = text[text.index("{\n    daily") :].replace("    compress\n", "    nocompress\n")
    configuration.write_text(f"{logs}/*.log {block}")
    configuration.chmod(0o644)
    command = [tool, "--force", "--state", str(folder / "state"), str(configuration)]
    return partial(subprocess.run, command, check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = [*AS_ROOT, needs("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run([*AS_ROOT, "umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_stops_nobody(run: Starter, small_disk: Path) -> None:
    log = small_disk / "service.log"
    service = run.spawn(str(FAULTS), APP_WORKERS=2, APP_LOG_FILE=log)
    service.log_path = log
    service.wait_until_ready()
    service.workers()
    admin = service.processes()[ADMIN]
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert shutil.disk_usage(small_disk).free == 0
    answers = await ask_many(service, 2000)
    assert [answer.status for answer in answers] == [200] * 2000
    # More than memory holds meanwhile, so that some must be dropped.
    assert (await ask_many(service, 1, "/flood/50000"))[0].status == 200
    # The supervisor acts, even if it cannot say so.
    os.kill(admin, signal.SIGKILL)
    await asyncio.to_thread(
        until, lambda: service.ask("/readyz", admin=True).status == 200, "admin"
    )
    assert service.messages().count("GET / 200") < 2000
    subprocess.run([*AS_ROOT, "mount", "-o", "remount,size=128m", str(small_disk)], check=True)

    def recovered() -> bool:
        messages = service.messages()
        return any("dropped" in message for message in messages) and any(
            f"pid {admin}: killed by SIGKILL" in message for message in messages
        )

    await asyncio.to_thread(until, recovered, "recovery")
    service.ask("/greetings/afterwards")
    service.wait_for_message("GET /greetings/afterwards 200")
    service.signal()
    assert service.wait() == 0
    check_nothing_is_missing(service)


def check_nothing_is_missing(service: Service) -> None:
    """Check that after the fault each line is there once and whole, or counted as dropped."""
    workers = numbers(service)
    records = service.records()
    for record in records:
        check_record(record, record["pid"], workers[record["pid"]])
    dropped = [r["message"] for r in records if "log records dropped" in r["message"]]
    messages = Counter(service.messages())
    lines = [message for message in messages if message.startswith("line ")]
    assert messages["GET / 200"] == 2000
    assert {messages[line] for line in lines} == {1}
    # The access line of /flood/50000 itself may be among the dropped.
    lost = 50_000 + 1 - len(lines) - messages["GET /flood/50000 200"]
    assert lost == sum(int(message.split()[-1]) for message in dropped) > 0


def test_a_full_disk_does_not_stop_the_supervisor(run: Starter, small_disk: Path) -> None:
    log = small_disk / "service.log"
    service = run.spawn(str(FAULTS), APP_WORKERS=2, APP_LOG_FILE=log)
    service.log_path = log
    service.wait_until_ready()
    service.workers()
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    victims = []
    # Nobody else has anything to say. So many lines have no place in the last page of the file.
    for _ in range(15):
        # Somebody who answers: one that only starts would be replaced with growing delays.
        victim = service.ask("/who/0").json["pid"]
        os.kill(victim, signal.SIGKILL)
        victims.append(victim)
        until(lambda: all_are_there(service, victims), "a successor")
    messages = " ".join(service.messages())
    assert f"pid {victims[-1]}: killed by SIGKILL" not in messages
    subprocess.run([*AS_ROOT, "mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    service.wait_for_message(f"pid {victims[-1]}: .*killed by SIGKILL")
    # Some had not been seen to be ready.
    pattern = r"worker \d, pid (\d+): (?:failed to start: )?killed by SIGKILL.*"
    found = [re.fullmatch(pattern, message) for message in service.messages()]
    assert [int(match[1]) for match in found if match] == victims
    service.signal()
    assert service.wait() == 0


def all_are_there(service: Service, victims: list[int]) -> bool:
    there = children(service.process.pid)
    return len(there) == 3 and not set(there) & set(victims)


@dataclass
class Reader:
    """Reads what a service writes to a pipe, in a thread, and stalls when it is told to."""

    service: Service
    pipe: int
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        self.go_on.set()

    def _collect(self) -> None:
        with open(self.pipe, "rb") as pipe, self.service.log_path.open("ab", buffering=0) as log:
            while self.go_on.wait() and (chunk := pipe.read1(65536)):
                log.write(chunk)

    def stall(self) -> None:
        """Read no more, and return when the pipe is full."""
        self.go_on.clear()
        # It has room for sixteen pieces, and lines of half a piece and more go one by one.
        until(lambda: self.waiting() > 16 * 2048, "a full pipe")

    def waiting(self) -> int:
        """Return how many bytes wait in the pipe."""
        count: int = struct.unpack("i", fcntl.ioctl(self.pipe, termios.FIONREAD, bytes(4)))[0]
        return count

    def read_to_end(self) -> None:
        self.go_on.set()
        self._thread.join()


@contextlib.contextmanager
def piped(run: Starter, **settings: object) -> Iterator[tuple[Service, Reader]]:
    """Start two workers that log to a pipe."""
    read, write = os.pipe()
    service = run.spawn(str(FAULTS), stdout=write, APP_WORKERS=2, **settings)
    os.close(write)
    reader = Reader(service, read)
    try:
        yield service, reader
    finally:
        run.end()
        reader.read_to_end()


async def test_a_stalled_reader_stops_nobody(run: Starter) -> None:
    with piped(run) as (service, reader):
        service.wait_until_ready()
        victims = service.workers()
        reader.go_on.clear()
        answers = await ask_many(service, 1000, "/log/3")
        reader.stall()
        # Also if none of those is left who wait to write: the supervisor must not wait instead.
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: both_answer(service, victims), "successors")
        answers += await ask_many(service, 1000)
        # Longer than what a pipe takes as a whole, and longer than what it holds.
        answers += await ask_many(service, 40, "/long/20/5000")
        answers += await ask_many(service, 40, "/long/3/70000")
        assert [answer.status for answer in answers] == [200] * 2080
        assert service.messages().count("GET / 200") == 0
        reader.go_on.set()
        for pid in victims:
            service.wait_for_message(f"pid {pid}: .*killed by SIGKILL")
        service.ask("/greetings/afterwards")
        service.wait_for_message("GET /greetings/afterwards 200")
        service.signal()
        assert service.wait() == 0
        reader.read_to_end()
    text = service.log_path.read_text()
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]  # none mixed, none torn
    workers = numbers(service)
    for record in records:
        check_record(record, record["pid"], workers[record["pid"]])
    assert not [r for r in records if "dropped" in r["message"]]
    lines = [r for r in records if r["logger"] == "faults"]
    assert set(Counter((r["request_id"], r["message"]) for r in lines).values()) == {1}
    sizes = Counter(len(r.get("padding", "")) for r in lines)
    assert (sizes[5000], sizes[70000]) == (40 * 20, 40 * 3)
    # What those that were killed had in memory is lost, and nothing else.
    assert 0 < sizes[0] < 3000
    assert sum(r["message"] == "GET / 200" for r in records) == 1000
    for size in (5000, 70000):
        assert len({r["pid"] for r in lines if len(r.get("padding", "")) == size}) == 2


def both_answer(service: Service, before: list[int]) -> bool:
    """Tell whether two workers answer, and none of those before."""
    pids = {service.ask("/who/0").json["pid"] for _ in range(20)}
    return len(pids) == 2 and not pids & set(before)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_killed_workers_leave_whole_lines(run: Starter, log_format: str) -> None:
    stopping = threading.Event()
    paths = itertools.cycle(["/log/1000", "/flood/1000", "/long/500/2000", "/long/500/3700"])

    def ask() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError, IndexError):  # no answer, for it was killed
                service.ask(next(paths))

    with piped(run, APP_LOG_FORMAT=log_format) as (service, reader):
        killed = []
        service.port, service.admin_port = wait_for_ports(service)
        admin = wait_for_admin(service)
        with asked_by_four(ask, stopping):
            for _ in range(8):
                until(lambda: len(workers_of(service, admin) - set(killed)) == 2, "two workers")
                until(lambda: service.ask("/readyz", admin=True).status == 200, "ready")
                reader.stall()
                victim = min(workers_of(service, admin) - set(killed))
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
                reader.go_on.set()
        service.signal()
        assert service.wait() == 0
        reader.read_to_end()
    text = service.log_path.read_text()
    assert text.endswith("\n")
    lines = text.splitlines()
    assert max(map(len, lines)) < 4096
    assert len(lines) > 8 * 16  # each time a full pipe
    for line in lines:
        if log_format == "json":
            json.loads(line)
        else:
            assert any(re.fullmatch(pattern, line) for pattern in LINES_OF_TEXT), line
    for pid in killed:
        assert sum(f"pid {pid}: killed by SIGKILL" in line for line in lines) == 1


@contextlib.contextmanager
def asked_by_four(ask: Callable[[], None], stopping: threading.Event) -> Iterator[None]:
    """Ask from four threads until the end."""
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def wait_for_ports(service: Service) -> tuple[int, int]:
    """Wait until a service is ready, whatever the format of its log. Returns its ports."""

    def find() -> re.Match[str] | None:
        text = service.log_path.read_text() if service.log_path.exists() else ""
        return re.search(r"listening on http://[\d.]+:(\d+), admin on http://[\d.]+:(\d+)", text)

    match = until(find, "listening")
    return int(match[1]), int(match[2])


def wait_for_admin(service: Service) -> int:
    pattern = r"admin process, pid (\d+): ready"
    found = until(lambda: re.search(pattern, service.log_path.read_text()), "the admin process")
    return int(found[1])


def workers_of(service: Service, admin: int) -> set[int]:
    return set(children(service.process.pid)) - {admin}
