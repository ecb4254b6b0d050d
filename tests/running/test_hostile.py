"""Malformed and hostile messages: refused at once, logged in one line, and the service lives on."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from .harness import (
    PATIENCE,
    Answer,
    Service,
    Starter,
    children,
    parse,
    read_to_end,
    starter,
    until,
)
from .hostile import (
    CLOSED,
    GOOD,
    LAST_REQUESTS,
    MESSAGES,
    SECRET,
    SECRETS,
    TLS_HELLO,
    Message,
    chunked,
    raw_post,
)
from .schema import check_record

AT_ONCE = 1.0
ATTEMPTS = 3
"""Seconds until a message must be refused; attempts, for now and then the machine is busy."""

TIMEOUT = 1.0
GRACE = 4.0
"""Seconds that a slow client is given in these tests; seconds until it must be gone after that."""

GROWTH = 10 * 1024 * 1024
MARKERS = count()

Record = dict[str, Any]


@dataclass
class Outcome:
    """What became of a message."""

    answers: list[Answer]
    rest: bytes
    """What followed the answers, such as WebSocket frames."""
    seconds: float
    records: list[Record]


@pytest.fixture(scope="module")
def service(
    python: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One process that gets every message."""
    with starter(python, tmp_path_factory.mktemp("hostile"), project / "src") as made:
        yield made.start()


@pytest.fixture(scope="module")
def impatient(
    python: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One process with short time-outs."""
    with starter(python, tmp_path_factory.mktemp("slow"), project / "src") as made:
        yield made.start(APP_IDLE_TIMEOUT=TIMEOUT, APP_BODY_TIMEOUT=TIMEOUT)


def take_answers(data: bytes) -> tuple[list[Answer], bytes]:
    """Split what a server sent into complete answers and the rest; interim answers are dropped."""
    answers = []
    while b"\r\n\r\n" in data:
        answer = parse(data)
        size = int(answer.headers.get("content-length", 0))
        if len(answer.body) < size:
            break
        data, answer.body = answer.body[size:], answer.body[:size]
        if answer.status != 100:
            answers.append(answer)
        if answer.status == 101:
            break
    return answers, data


def send(service: Service, message: Message) -> tuple[list[Answer], bytes, float]:
    """Send a message; return the answers, what followed them, and the seconds that it took."""
    data = b""
    # An open WebSocket has to be closed; everything else has to be answered or closed.
    wanted = len(message.first) + 1
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
        started = time.monotonic()
        # The service may have closed the connection before the end of the message.
        with contextlib.suppress(ConnectionError):
            connection.sendall(message.data)
            if message.half_close:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while len(take_answers(data)[0]) < wanted and (chunk := receive(connection)):
                data += chunk
        seconds = time.monotonic() - started
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        # A second answer to the same message, if there is one.
        data += read_to_end(connection)
    return *take_answers(data), seconds


def receive(connection: socket.socket) -> bytes:
    """Wait for data, but no longer than it takes to tell that none will come."""
    connection.settimeout(AT_ONCE)
    try:
        return connection.recv(65536)
    except TimeoutError:
        return b""
    finally:
        connection.settimeout(PATIENCE)


def records_since(service: Service, start: int) -> list[Record]:
    """Read the complete log lines from an offset on."""
    with service.log_path.open("rb") as log:
        log.seek(start)
        lines = log.read().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def records_until_quiet(service: Service, start: int) -> list[Record]:
    """Ask for something good on new connections; return what else was logged up to then."""
    # Twice: a turn of the loop may pass between an answer and the last record of its connection.
    markers = [f"marker-{next(MARKERS)}" for _ in range(2)]
    for marker in markers:
        assert service.ask("/", X_Request_ID=marker).status == 200

    def logged() -> bool:
        return any(r["request_id"] == markers[-1] for r in records_since(service, start))

    until(logged, f"log record of {markers[-1]}")
    return [r for r in records_since(service, start) if r["request_id"] not in markers]


def attack(service: Service, message: Message) -> Outcome:
    """Send a message, again if it took too long, and collect what became of it."""
    for _ in range(ATTEMPTS):
        start = service.log_path.stat().st_size
        answers, rest, seconds = send(service, message)
        outcome = Outcome(answers, rest, seconds, records_until_quiet(service, start))
        if outcome.seconds < AT_ONCE:
            break
    return outcome


def check_refused(message: Message, answers: list[Answer], rest: bytes) -> None:
    """What comes first is answered, the rest is refused, and nothing is answered twice."""
    statuses = [answer.status for answer in answers]
    first, refused = statuses[: len(message.first)], statuses[len(message.first) :]
    assert tuple(first) == message.first
    assert len(refused) <= 1, f"answered more than once: {statuses}"
    assert (refused or [CLOSED])[0] in message.expect
    # After the handshake nothing but a WebSocket close frame, and nothing after any other answer.
    assert rest == b"" or (message.first == (101,) and rest[0] == 0x88), rest[:100]
    for answer in answers[len(message.first) :]:
        check_problem(answer)


def check_problem(answer: Answer) -> None:
    """Every answer that refuses is a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json.keys() >= {"type", "title", "status", "request_id"}
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    # RFC 9110 wants to be told with 405 and 426 what would have been right.
    assert "allow" in answer.headers or answer.status != 405
    assert "upgrade" in answer.headers or answer.status != 426


def check_records(service: Service, records: list[Record]) -> None:
    """Every record has what the schema promises, and none is an error."""
    for record in records:
        check_record(record, service.process.pid)
        assert record["level"] in {"debug", "info", "warning"}, record
        assert "exception.stacktrace" not in record
        assert "Traceback" not in json.dumps(record)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_message_is_refused(service: Service, message: Message) -> None:
    outcome = attack(service, message)
    assert outcome.seconds < AT_ONCE
    check_refused(message, outcome.answers, outcome.rest)
    check_records(service, outcome.records)
    assert len(outcome.records) <= 1 + len(message.first), outcome.records
    assert service.errors() == ""
    assert service.process.poll() is None


def test_names_of_messages_are_unique() -> None:
    names = [message.name for message in MESSAGES]
    assert len(names) == len(set(names)) >= 75


@pytest.mark.parametrize("name", LAST_REQUESTS)
def test_nothing_is_handled_behind_the_last_request(service: Service, name: str) -> None:
    # Whether the answer gets through is not the point: a handler that runs has its effects.
    outcome = attack(service, Message(name, LAST_REQUESTS[name]))
    assert len(outcome.answers) == 1
    check_records(service, outcome.records)
    assert len(outcome.records) == 1, [record["message"] for record in outcome.records]


def test_memory_does_not_grow(service: Service) -> None:
    # It takes the allocator two rounds to have what it needs.
    for message in MESSAGES * 2:
        send(service, message)
    before = service.rss()
    for message in MESSAGES * 10:
        send(service, message)
    assert service.ask("/").status == 200
    assert service.rss() - before < GROWTH


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send byte after byte, then nothing, until the other side closes."""
    connection.settimeout(TIMEOUT / 10)
    deadline = time.monotonic() + TIMEOUT + 2 * GRACE
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline:
            connection.sendall(data[:1])
            data = data[1:]
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [
        pytest.param(b"", b"", id="says-nothing"),
        pytest.param(b"", GOOD[:-1] * 10, id="headers-trickle"),
        pytest.param(GOOD[:-2], b"A: b\r\n" * 100, id="one-more-header"),
        pytest.param(b"\r\n", b"\r" * 100, id="only-line-ends"),
        pytest.param(TLS_HELLO, b"", id="waits-for-tls"),
        pytest.param(GOOD, b"", id="keeps-alive"),
        pytest.param(GOOD, b"G", id="second-request-stalls"),
        pytest.param(raw_post("Content-Length: 1000"), b" " * 900, id="body-trickles"),
        pytest.param(raw_post("Content-Length: 1000"), b"", id="body-never-comes"),
        pytest.param(
            raw_post("Content-Length: 9", "Expect: 100-continue"), b"", id="expects-and-stalls"
        ),
        pytest.param(chunked(b"384\r\n"), b" " * 900, id="chunk-trickles"),
        pytest.param(chunked(b""), b"1\r\n \r\n" * 100, id="tiny-chunks"),
        pytest.param(chunked(b"1\r\n"), b"", id="chunk-never-comes"),
    ],
)
def test_slow_client_is_closed(impatient: Service, at_once: bytes, slowly: bytes) -> None:
    start = impatient.log_path.stat().st_size
    with socket.create_connection(("127.0.0.1", impatient.port), PATIENCE) as connection:
        connection.sendall(at_once)
        started = time.monotonic()
        trickle(connection, slowly)
        assert time.monotonic() - started < TIMEOUT + GRACE
    records = records_until_quiet(impatient, start)
    check_records(impatient, records)
    assert len(records) <= 1, records
    assert impatient.errors() == ""


def test_secrets_are_not_logged(run: Starter) -> None:
    # At this level the log says more than it ever does in production.
    service = run.faulty(APP_LOG_LEVEL="debug")
    offenders = []
    for name, data in SECRETS.items():
        start = service.log_path.stat().st_size
        send(service, Message(name, data))
        if SECRET in json.dumps(records_until_quiet(service, start)):
            offenders.append(name)
    assert offenders == []
    assert SECRET not in service.errors()


@pytest.mark.seconds
@pytest.mark.parametrize("workers", [1, 2])
def test_more_connections_than_descriptors(run: Starter, workers: int) -> None:
    limited = ("bash", "-c", 'ulimit -n 128; exec "$@"', "-")
    service = run.spawn(wrapper=limited, APP_WORKERS=workers).wait_until_ready()
    if workers > 1:
        service.workers(workers)
    processes = [service.process.pid, *children(service.process.pid)]
    began, used = time.monotonic(), processor_time(processes)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
            for _ in range(300 * workers)
        ]
        until(lambda: complaints(service), "a record")
        # Who got none is told at once, and waits for nothing.
        until(lambda: sum(map(is_over, clients)) >= 100 * workers, "refused connections")
        time.sleep(2)  # in which somebody who is at a loss would spin
        seconds = time.monotonic() - began
        assert processor_time(processes) - used < seconds / 2
        assert len(complaints(service)) <= workers * (seconds + 1)
        assert [r for r in service.records() if r["level"] == "error"] == complaints(service)
    until(lambda: answers(service), "an answer", 5)
    assert service.errors() == ""


def complaints(service: Service) -> list[Record]:
    return [r for r in service.records() if r["message"].startswith("out of file descriptors")]


def is_over(client: socket.socket) -> bool:
    """Tell whether the other side has closed a connection."""
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def answers(service: Service) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return service.ask("/").status == 200
    return False


def processor_time(pids: list[int]) -> float:
    """Seconds of processor time that some processes have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")
