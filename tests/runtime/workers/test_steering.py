"""Who waits for what at the control socket of a supervisor; the supervisor is a stand-in."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from runtime import Service
from runtime.control import client
from runtime.control.server import ControlServer
from runtime.settings import Settings
from runtime.workers import Prefork
from runtime.workers.operations import Operation, Outcome, RefusedError
from runtime.workers.steering import SupervisorSteering

from tests.runtime.support.control import Host
from tests.runtime.support.fakes import ORDERS, FakeStatus
from tests.runtime.support.waiting import wait_for

service = Service("orders", "1.0", processes=Prefork(), settings="runtime.settings:Settings")


class FakeSupervisor:
    """Begins operations, and leaves their end to the test."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.operations: list[Operation] = []
        self.refusal = ""

    @property
    def operation(self) -> Operation | None:
        return self.operations[-1] if self.operations else None

    def reload(self, reason: str) -> Operation:
        return self._begin(reason)

    def resize(self, count: int) -> Operation:
        return self._begin(count)

    def stop(self, reason: str) -> None:
        self.asked.append(reason)

    def _begin(self, what: object) -> Operation:
        if self.refusal:
            raise RefusedError(self.refusal)
        self.operations.append(Operation())
        self.asked.append(what)
        return self.operations[-1]


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def host(
    supervisor: FakeSupervisor, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    monkeypatch.setenv("APP_CONTROL_SOCKET", "control.sock")
    server = ControlServer(Path("control.sock"))
    steering = SupervisorSteering(server, ORDERS, supervisor, status, is_under_systemd=True)
    with Host(steering) as host:
        yield host


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def ask(pool: ThreadPoolExecutor, **request: object) -> "Future[dict[str, Any]]":
    """Send a request, and let a thread wait for the last message."""
    sock = client._connect("orders", Settings.load_control())
    return pool.submit(client._ask, sock, request)


def begin_reloads(
    pool: ThreadPoolExecutor, supervisor: FakeSupervisor, count: int
) -> "list[Future[dict[str, Any]]]":
    """Ask for some reloads, one after the other, and let threads wait for what comes of them."""
    answers = []
    for number in range(1, count + 1):
        answers.append(ask(pool, command="reload"))
        wait_for(lambda number=number: len(supervisor.operations) == number)
    return answers


def test_number_of_workers_is_changed(
    host: Host,
    supervisor: FakeSupervisor,
    pool: ThreadPoolExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = pool.submit(service.main, ["workers", "6"])
    wait_for(lambda: supervisor.operations)
    assert not code.done()
    host.steering.report("worker 5, pid 7: ready")
    supervisor.operations[0].outcome = Outcome(True, "6 workers", ("until the next start",))
    assert code.result() == 0
    assert supervisor.asked == [6]
    lines = "worker 5, pid 7: ready\nWarning: until the next start\n"
    assert capsys.readouterr() == ("6 workers\n", lines)


def test_change_of_the_number_may_fail_or_be_refused(
    host: Host,
    supervisor: FakeSupervisor,
    pool: ThreadPoolExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    supervisor.refusal = "each worker has a port of its own"
    assert service.main(["workers", "6"]) == 1
    assert capsys.readouterr() == ("", "each worker has a port of its own\n")
    supervisor.refusal = ""
    code = pool.submit(service.main, ["workers", "2"])
    wait_for(lambda: supervisor.operations)
    supervisor.operations[0].outcome = Outcome(False, "worker 1 cannot start")
    assert code.result() == 1
    assert capsys.readouterr() == ("", "worker 1 cannot start\n")


@pytest.mark.parametrize("count", ["6", 1.5, True, None])
def test_number_of_workers_that_is_no_whole_number_is_refused(
    host: Host, supervisor: FakeSupervisor, pool: ThreadPoolExecutor, count: object
) -> None:
    answer = ask(pool, command="workers", count=count).result()
    assert answer == {"success": False, "message": "the number of workers must be a whole number"}
    assert supervisor.asked == []


def test_who_waits_for_what_was_replaced_gets_the_outcome_that_counts(
    host: Host, supervisor: FakeSupervisor, pool: ThreadPoolExecutor
) -> None:
    answers = begin_reloads(pool, supervisor, 3)
    first, second, third = supervisor.operations
    second.superseded_by = third
    first.superseded_by = second
    first.outcome = Outcome(False, "does not count")
    assert supervisor.asked == ["reload command"] * 3
    third.outcome = Outcome(True, "reloaded")
    expected = {"success": True, "message": "reloaded"}
    assert [answer.result() for answer in answers] == [expected] * 3


def test_thousands_of_reloads_while_one_client_waits(
    host: Host, supervisor: FakeSupervisor, pool: ThreadPoolExecutor
) -> None:
    answer = ask(pool, command="reload")
    wait_for(lambda: supervisor.operations)
    last = supervisor.operations[0]
    for _ in range(5000):
        last.superseded_by = Operation()
        last = last.superseded_by
    assert ask(pool, command="status").result()["success"]
    last.outcome = Outcome(True, "reloaded")
    assert answer.result() == {"success": True, "message": "reloaded"}


def test_failure_for_one_client_is_none_for_the_next(
    host: Host, supervisor: FakeSupervisor, pool: ThreadPoolExecutor
) -> None:
    answers = begin_reloads(pool, supervisor, 2)
    first, second = supervisor.operations
    second.outcome = Outcome(True, "reloaded")
    first.outcome = Outcome(True, "reloaded", None)  # type: ignore[arg-type]
    failed, succeeded = (answer.result() for answer in answers)
    assert failed["message"].startswith("the command failed: TypeError(")
    assert succeeded == {"success": True, "message": "reloaded"}


def test_client_that_has_left_is_forgotten(
    host: Host, supervisor: FakeSupervisor, pool: ThreadPoolExecutor
) -> None:
    assert isinstance(host.steering, SupervisorSteering)
    sock = client._connect("orders", Settings.load_control())
    sock.sendall(b'{"command": "reload"}\n')
    wait_for(lambda: supervisor.operations)
    sock.close()
    wait_for(lambda: not host.steering._operations)  # type: ignore[attr-defined]
    supervisor.operations[0].outcome = Outcome(True, "reloaded")


def test_all_that_wait_for_the_end_are_told(
    host: Host,
    supervisor: FakeSupervisor,
    pool: ThreadPoolExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = [ask(pool, command="stop") for _ in range(2)]
    wait_for(lambda: supervisor.asked == ["stop command"] * 2)
    descriptors = [waiting.sock.fileno() for waiting in host.steering._stopping]
    assert isinstance(host.steering, SupervisorSteering)
    for name, worker in ("requests.aborted", 1), ("requests.aborted", None), ("worker.died", 2):
        event = {"name": name, "worker": worker, "message": "aborted 2 requests"}
        host.steering.report_event(json.dumps(event).encode())
    host.steering.aborted("second signal: aborted 3 requests", 1)
    assert not any(answer.done() for answer in answers)
    for descriptor in descriptors:
        os.close(descriptor)  # as the end of the process does
    expected = {"success": False, "message": "stopping was aborted"}
    assert [answer.result() for answer in answers] == [expected] * 2
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("Warning: worker 1: aborted 2 requests") == 2
    assert lines.count("Warning: admin process: aborted 2 requests") == 2
    assert lines.count("Warning: second signal: aborted 3 requests") == 2
    assert len([line for line in lines if "systemctl stop" in line]) == 2
    assert len(lines) == 8
