"""Logs of a real process: their schema, rotation, a full disk, a reader that stalls, no secrets."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..tools import AS_ROOT, needs
from .harness import Answer, Service, Starter, get, read_to_end, request, until
from .schema import check_record


async def ask_many(service: Service, count: int, path: str = "/") -> list[Answer]:
    """Ask on ten connections at a time."""
    gate = asyncio.Semaphore(10)

    async def ask() -> Answer:
        async with gate:
            return await asyncio.wait_for(get(service.port, path), 30)

    return await asyncio.gather(*(ask() for _ in range(count)))


def test_every_record_has_the_schema(run: Starter) -> None:
    service = run.faulty(APP_LOG_LEVEL="debug")
    for path in ("/", "/nope?x=1", "/fail", "/greetings/%ff", "/sleep/0", "/plain/0", "/log/3"):
        service.ask(path)
    service.ask("/echo")
    service.signal()
    assert service.wait() == 0
    text = service.log_path.read_text()
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        check_record(record, service.process.pid)
    statuses = [r["http.response.status_code"] for r in records if r["logger"] == "access"]
    assert {200, 400, 404, 500} <= set(statuses)
    assert [r["exception.type"] for r in records if "exception.type" in r] == ["RuntimeError"]


def test_request_id_is_in_answer_error_body_and_every_record(run: Starter) -> None:
    service = run.faulty()
    for path in ("/fail", "/log/3", "/nope"):
        answer = service.ask(path, X_Request_ID=f"id-of{path.replace('/', '-')}")
        identifier = answer.headers["x-request-id"]
        assert identifier == f"id-of{path.replace('/', '-')}"
        if answer.status >= 400:
            assert answer.json["request_id"] == identifier
    made = service.ask("/", X_Request_ID="not sane\x7f").headers
    service.signal()
    service.wait()
    counts = Counter(record["request_id"] for record in service.records())
    assert counts["id-of-fail"] == 2
    assert counts["id-of-log-3"] == 4
    assert counts["id-of-nope"] == 1
    assert "not sane\x7f" not in counts
    assert "x-request-id" not in made or counts[made["x-request-id"]] == 1


async def test_request_ids_of_concurrent_requests_do_not_mix(run: Starter) -> None:
    service = run.faulty()

    async def connection(name: str) -> None:
        # Pipelined: the next request is there before the last one is answered.
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.writelines(request("/log/2", X_Request_ID=f"{name}-{n}") for n in range(20))
        for number in range(20):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"logged":2}'))
            assert f"X-Request-Id: {name}-{number}\r\n".encode() in head
        writer.close()

    await asyncio.gather(*(connection(f"connection-{n}") for n in range(10)))
    service.signal()
    await asyncio.to_thread(service.wait)
    counts = Counter(r["request_id"] for r in service.records() if r["request_id"])
    assert len(counts) == 10 * 20
    assert set(counts.values()) == {3}


def test_a_malformed_message_has_no_id_of_the_request_before(run: Starter) -> None:
    service = run.faulty()
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(request("/", X_Request_ID="before") + b"nonsense\r\n\r\n")
        read_to_end(connection)
    assert service.wait_for_message("GET / 200")["request_id"] == "before"
    assert service.wait_for_message("Malformed")["request_id"] is None


def test_secrets_never_appear(run: Starter) -> None:
    service = run.faulty(APP_LOG_LEVEL="debug")
    for path in ("/", "/fail", "/nope", "/plain/x", "/greetings/%ff", "/echo"):
        service.ask(f"{path}?token=s3cr3t", Authorization="Bearer s3cr3t", Cookie="session=s3cr3t")
        service.ask(path, Authorization="Bearer s3cr3t\x01")
    service.signal()
    service.wait()
    assert len(service.records()) > 12
    assert "s3cr3t" not in service.log_path.read_text() + service.errors()


@pytest.mark.parametrize("how", ["logrotate", "rename"])
def test_rotation_loses_doubles_and_tears_nothing(run: Starter, project: Path, how: str) -> None:
    folder = run.folder / "logs"
    folder.mkdir(mode=0o755)
    log = folder / "service.log"
    service = run.spawn(str(Path(__file__).with_name("faults.py")), APP_LOG_FILE=log)
    service.log_path = log
    service.wait_until_ready()
    rotate = logrotate(run.folder, folder) if how == "logrotate" else rename(log)

    for number in range(5):
        rotate_under_load(service, partial(rotate, number))
    wait_for_lines(folder, 100_000)
    service.signal()
    assert service.wait() == 0
    records = [r for r in read_rotated(folder) if r["logger"] == "faults"]
    lines = Counter((r["request_id"], r["message"]) for r in records)
    assert len(lines) == 100_000
    assert set(lines.values()) == {1}


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


def rename(log: Path) -> Callable[[int], object]:
    """Rotate by hand."""
    return lambda number: log.rename(f"{log}.{number}")


def logrotate(folder: Path, logs: Path) -> Callable[[int], object]:
    """Rotate with logrotate and the options of the generated configuration."""
    tool = needs("logrotate")
    configuration = folder / "logrotate.conf"
    source = Path(__file__).parents[2].glob("*slug}}/deploy/logrotate/*slug}}")
    text = next(source).read_text()
    block = text[text.index("{\n    daily") :].replace("    compress\n", "    nocompress\n")
    configuration.write_text(f"{logs}/*.log {block}")
    configuration.chmod(0o644)
    command = [tool, "--force", "--state", str(folder / "state"), str(configuration)]
    return lambda _: subprocess.run(command, check=True)


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
    service = run.spawn(str(Path(__file__).with_name("faults.py")), APP_LOG_FILE=log)
    service.log_path = log
    service.wait_until_ready()
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert shutil.disk_usage(small_disk).free == 0
    answers = await ask_many(service, 2000)
    assert [answer.status for answer in answers] == [200] * 2000
    # More than memory holds meanwhile, so that some must be dropped.
    assert (await ask_many(service, 1, "/flood/50000"))[0].status == 200
    assert service.messages().count("GET / 200") < 2000
    subprocess.run([*AS_ROOT, "mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    await asyncio.to_thread(
        until, lambda: any("dropped" in m for m in service.messages()), "recovery", 5
    )
    check_nothing_is_missing(service)


def check_nothing_is_missing(service: Service) -> None:
    """Check that after the fault each line is there once and whole, or counted as dropped."""
    [dropped] = [r for r in service.records() if "log records dropped" in r["message"]]
    check_record(dropped, service.process.pid)
    assert dropped["level"] == "warning"
    service.ask("/greetings/afterwards")
    service.wait_for_message("GET /greetings/afterwards 200")
    service.signal()
    assert service.wait() == 0
    messages = Counter(service.messages())
    lines = [message for message in messages if message.startswith("line ")]
    assert messages["GET / 200"] == 2000
    assert {messages[line] for line in lines} == {1}
    # The access line of /flood/50000 itself may be among the dropped.
    lost = 50_000 + 1 - len(lines) - messages["GET /flood/50000 200"]
    assert lost == int(dropped["message"].split()[-1]) > 0


async def test_a_stalled_reader_stops_nobody(run: Starter) -> None:
    read, write = os.pipe()
    service = run.spawn(str(Path(__file__).with_name("faults.py")), stdout=write, APP_PORT=0)
    os.close(write)
    reader = open(read, "rb")  # noqa: SIM115
    service.log_path.write_bytes(reader.readline())
    service.wait_until_ready()
    # From here on nobody reads.
    answers = await ask_many(service, 2000)
    assert [answer.status for answer in answers] == [200] * 2000
    assert (await ask_many(service, 1, "/flood/50000"))[0].status == 200
    # Now somebody reads again.
    collector = threading.Thread(target=collect, args=(reader, service.log_path), daemon=True)
    collector.start()
    await asyncio.to_thread(
        until, lambda: any("dropped" in m for m in service.messages()), "recovery", 5
    )
    await asyncio.to_thread(check_nothing_is_missing, service)
    collector.join()


def collect(reader: Any, path: Path) -> None:
    """Copy what a process writes into a file."""
    with reader, path.open("ab", buffering=0) as log:
        while chunk := reader.read1(65536):
            log.write(chunk)
