"""The commands on their way to a service, and what they print."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from runtime import Service, Settings
from runtime.control import client
from runtime.control.protocol import private_folder
from runtime.control.server import open_control
from runtime.control.steering import NOT_RELOADED, NOT_RESIZED, Steering
from runtime.status import ProcessDetails, ResourceCheck, WorkerStatus
from runtime.version import ServiceInfo
from runtime.workers import Prefork

from tests.runtime.support.control import Host
from tests.runtime.support.fakes import ORDERS, FakeStatus

service = Service("orders", "1.0", processes=Prefork(), settings="runtime.settings:Settings")
single = Service("orders", "1.0", settings="runtime.settings:Settings")

CODE = ProcessDetails("1.0")
FIRST = WorkerStatus(0, 4242, True, 3, 0.0021, 0, "ready", 7384, 12034, 64_000_000, details=CODE)
SECOND = WorkerStatus(1, 0, False, 0, 0.0, 7)


@pytest.fixture(autouse=True)
def _socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_CONTROL_SOCKET", "control.sock")


# status


def test_status_is_a_table(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    status.workers += [FIRST, SECOND]
    assert service.main(["status"]) == 0
    title, empty, *table = capsys.readouterr().out.splitlines()
    assert title == f"orders 1.0, pid {os.getpid()}, up 0 s: ready"
    assert empty == ""
    assert table == [
        "worker   pid    state        age  requests  in flight   lag    memory  restarts",
        "     0  4242    ready  2 h 3 min     12034          3  2 ms  61.0 MiB         0",
        "     1     -  missing          -         -          -     -         -         7",
    ]


def test_status_says_why_the_service_is_not_ready(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    status.reasons += ["draining", "database: gone"]
    assert service.main(["status"]) == 1
    assert capsys.readouterr().out.splitlines()[0].endswith(": not ready: draining, database: gone")
    assert service.main(["status", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["reasons"] == ["draining", "database: gone"]


def test_json_of_status_has_what_the_documents_say(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    status.workers += [FIRST]
    assert service.main(["status", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    [worker] = printed["workers"]
    assert {
        "name", "version", "revision", "pid", "age", "ready", "reasons", "operation",
        "progress", "workers",
    } <= printed.keys()  # fmt: skip
    assert {
        "worker", "pid", "state", "ready", "age", "requests", "requests_in_flight", "memory",
        "event_loop_lag", "websockets", "event_streams", "restarts", "details",
    } <= worker.keys()  # fmt: skip
    assert (worker["pid"], worker["memory"], worker["details"]["version"]) == (
        4242,
        64_000_000,
        "1.0",
    )


def test_versions_are_a_column_if_they_differ(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(workers: list[WorkerStatus]) -> str:
        status.workers[:] = workers
        assert service.main(["status"]) == 0
        return capsys.readouterr().out

    text = table([FIRST, replace(SECOND, pid=7, details=ProcessDetails("1.1", "abc"))])
    assert text.startswith("orders, pid ")
    assert [line.split("  ")[-1].strip() for line in text.splitlines()[2:]] == [
        "version",
        "1.0",
        "1.1 (abc)",
    ]
    # Only the revision differs; a worker that starts has none yet.
    text = table([FIRST, replace(FIRST, details=ProcessDetails("1.0", "abc")), SECOND])
    assert [line.split()[-1] for line in text.splitlines()[3:]] == ["1.0", "(abc)", "-"]


def test_version_is_that_of_the_workers(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> tuple[object, object]:
        assert service.main(["status", "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        return values["version"], values["revision"]

    assert shown() == ("1.0", "")  # of this process, before any other has said it
    new = replace(FIRST, details=ProcessDetails("1.1", "abc"))
    status.workers += [new, SECOND]
    assert shown() == ("1.1", "abc")
    assert service.main(["status"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("orders 1.1 (abc), pid ")
    assert "version" not in text
    status.workers += [replace(FIRST, details=ProcessDetails("1.1", "def"))]
    assert shown() == ("1.1", None)
    status.workers += [FIRST]
    assert shown() == (None, None)


def test_failing_resources_are_a_column_if_there_are_any(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    database, orders = ResourceCheck("database", False, "gone"), ResourceCheck("orders", False)
    passing = ResourceCheck("prices", True)
    status.workers += [with_checks(passing), with_checks(passing)]
    assert service.main(["status"]) == 0
    assert "failing" not in capsys.readouterr().out
    status.workers.append(with_checks(database, passing, orders))
    assert service.main(["status"]) == 0
    table = capsys.readouterr().out.splitlines()[2:]
    assert [line.split("  ")[-1].strip() for line in table] == [
        "failing",
        "-",
        "-",
        "database, orders",
    ]


def with_checks(*checks: ResourceCheck) -> WorkerStatus:
    return replace(FIRST, details=ProcessDetails("1.0", checks=checks))


# A single process


@pytest.mark.parametrize(
    ("arguments", "message"), [(["reload"], NOT_RELOADED), (["workers", "3"], NOT_RESIZED)]
)
def test_single_process_says_what_to_do_instead(
    host: Host, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.main(arguments) == 1
    assert capsys.readouterr() == ("", f"{message}\n")


def test_service_without_workers_has_no_commands_for_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in "reload", "workers":
        with pytest.raises(SystemExit) as caught:
            single.main([name])
        assert caught.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "257", "-1", "many", "1.5", ""])
def test_number_of_workers_is_validated(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        service.main(["workers", count])
    assert caught.value.code == 2
    assert "1 to 256" in capsys.readouterr().err or count == "-1"


def test_unknown_command_is_refused(host: Host) -> None:
    sock = client._connect("orders", Settings.load_control())
    answer = client._ask(sock, {"command": "dance"})
    assert answer == {"success": False, "message": "unknown command"}


def test_failure_of_a_command_is_told_and_not_the_end(
    host: Host, status: FakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "worker_statuses", lambda: 1 / 0)
    answer = client._ask(client._connect("orders", Settings.load_control()), {"command": "status"})
    assert answer["message"] == "the command failed: ZeroDivisionError('division by zero')"
    answer = client._ask(client._connect("orders", Settings.load_control()), {"command": "dance"})
    assert answer["message"] == "unknown command"


# Where there is no service


def test_service_that_does_not_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.main(["reload"]) == 1
    reason = "no running service found: nothing listens on control.sock"
    assert capsys.readouterr() == ("", f"orders: {reason}\n")
    assert service.main(["status", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"ready": False, "reasons": [reason], "workers": []}
    monkeypatch.delenv("APP_CONTROL_SOCKET")
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    assert service.main(["stop"]) == 1
    folder = private_folder("orders")
    assert capsys.readouterr().err == (
        f"orders: no running service found: nothing listens on {folder}/9000.sock"
        f" or /run/orders/control.sock. {client.OTHER_PATHS}\n"
    )


def test_default_socket_is_found(
    status: FakeStatus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("APP_CONTROL_SOCKET")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("TMPDIR", ".")
    monkeypatch.setenv("APP_ADMIN_PORT", "9100")
    steering = Steering(open_control(None, "orders", 9100), ORDERS)
    steering.attach(status, print, is_under_systemd=False)
    with Host(steering):
        assert service.main(["status"]) == 0
        private_folder("orders").chmod(0o755)  # somebody else could have put it there
        assert service.main(["status"]) == 1
        printed = capsys.readouterr().err
        assert "is not a directory of this user alone, with mode 0700\n" in printed
        # It keeps nobody from the service that systemd has started.
        Path("systemd.sock").symlink_to(private_folder("orders") / "9100.sock")
        monkeypatch.setattr(client, "systemd_path", lambda _: Path("systemd.sock"))
        assert service.main(["status"]) == 0


def test_socket_of_systemd_is_found(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("APP_CONTROL_SOCKET")
    monkeypatch.setenv("TMPDIR", ".")
    monkeypatch.setattr(client, "systemd_path", lambda name: Path("control.sock"))
    assert service.main(["status"]) == 0


@pytest.mark.parametrize("port", ["9100", "9200"])
def test_service_in_the_same_unit_of_systemd_is_not_asked(
    port: str,
    status: FakeStatus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("APP_CONTROL_SOCKET")
    monkeypatch.setenv("RUNTIME_DIRECTORY", ".")
    monkeypatch.setenv("APP_ADMIN_PORT", port)
    name = "orders" if port == "9200" else "prices"
    steering = Steering(open_control(None, name, 9100), ServiceInfo(name, "1.0"))
    steering.attach(status, print, is_under_systemd=False)
    reason = f"another service listens on control.sock: {name}, with admin port 9100"
    with Host(steering):
        assert service.main(["status"]) == 1
        assert capsys.readouterr() == ("", f"{reason}\n")
        assert service.main(["status", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["reasons"] == [reason]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_root_finds_the_service_of_another_user(
    status: FakeStatus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("APP_CONTROL_SOCKET")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("TMPDIR", "tmp")
    Path("tmp").mkdir()
    Path("tmp").chmod(0o1777)
    for folder in [Path.cwd(), *Path.cwd().parents]:
        folder.chmod(folder.stat().st_mode | 0o755)
    Path("tmp/orders-api-12345").mkdir()  # of another service
    with run_as(12345, status) as first:
        assert service.main(["status"]) == 0
        # A user cannot make it that of a third, nor can it be anything else.
        Path("tmp/orders-0").symlink_to("orders-12345")
        Path("tmp/orders-7").mkdir(0o700)
        os.chown("tmp/orders-7", 7, 7)
        Path("tmp/orders-7/9000.sock").symlink_to("../orders-12345/9000.sock")
        assert service.main(["status"]) == 0
        capsys.readouterr()
        with run_as(12346, status) as second:
            assert service.main(["stop"]) == 1
            reason = "several run: tmp/orders-12345/9000.sock and tmp/orders-12346/9000.sock; "
            assert reason in capsys.readouterr().err
        assert service.main(["status"]) == 0
    assert [first.stops, second.stops] == [[], []]


def run_as(user: int, status: FakeStatus) -> Host:
    """Return a service that another user runs."""
    os.setresuid(user, user, 0)
    try:
        steering = Steering(open_control(None, "orders", 9000), ORDERS)
    finally:
        os.setresuid(0, 0, 0)
    host = Host(steering)
    steering.attach(status, host.stops.append, is_under_systemd=False)
    return host


def test_text_of_a_service_does_nothing_to_the_terminal(
    host: Host, status: FakeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;title\x07 \x9b31m \u202e \ud800 é"
    harmless = r"\x1b]0;title\x07 \x9b31m \u202e \ud800 é"
    status.reasons.append(evil)
    assert service.main(["status"]) == 1
    assert f": not ready: {harmless}\n" in capsys.readouterr().out

    def stop(reason: str) -> None:
        host.steering.report(evil)
        for waiting in host.steering._stopping:
            waiting.finish(False, evil)

    host.steering.attach(status, stop, is_under_systemd=False)
    assert service.main(["stop"]) == 1
    assert capsys.readouterr() == ("", f"{harmless}\n" * 2)


def test_system_without_unix_sockets_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert service.main(["status"]) == 1
    assert "needs Unix sockets" in capsys.readouterr().err


def test_service_that_does_not_respond_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "SILENCE_TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind("control.sock")
        stuck.listen(0)
        assert service.main(["status"]) == 1
        assert "orders: no sign of life for 0.2 s" in capsys.readouterr().err
        assert service.main(["status"]) == 1  # its queue is full
        assert "orders: no sign of life for 0.2 s" in capsys.readouterr().err


def test_service_whose_process_stays_has_not_stopped(
    host: Host,
    status: FakeStatus,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(client, "SILENCE_TIMEOUT", 0.2)

    def stop(reason: str) -> None:
        host.steering.stopped(True, "stopped")  # but a thread does not end

    host.steering.attach(status, stop, is_under_systemd=False)
    assert service.main(["stop"]) == 1
    reason = "orders: stopped, but after 0.2 s the process has not exited\n"
    assert capsys.readouterr() == ("", reason)


def test_only_settings_that_find_the_service_are_needed(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = Service(
        "orders", "1.0", settings="tests.runtime.apps.orders.settings:Settings", app="missing:app"
    )
    # APP_PRICE_LIST is missing, and could be a secret that only systemd gives to the service.
    assert orders.main(["status"]) == 0
    broken = Service("orders", "1.0", settings="tests.runtime.apps.importing.failing:Settings")
    assert broken.main(["status"]) == 0
    # What is wrong with the others, a reload says.
    monkeypatch.setenv("APP_THREADS", "many")
    monkeypatch.setenv("APP_PORT", "9000")  # that of the admin port
    Path(".env").write_text("APP_LOG_LEVEL=loud\nnot a setting\n")
    assert orders.main(["status"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("APP_ADMIN_PORT", "nine")
    assert orders.main(["status"]) == 78
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Bad settings:\n  APP_ADMIN_PORT: ")
    assert printed.err.count("\n") == 2


def test_defaults_of_the_service_count() -> None:
    class Own(Settings):
        admin_port: int = 9200
        api_key: str

    assert Own.load_control() == (9200, Path("control.sock"))


def test_help_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "status", "stop", "reload", "workers":
        with pytest.raises(SystemExit) as caught:
            service.main([name, "--help"])
        assert caught.value.code == 0
        assert "Exit with" in capsys.readouterr().out or name == "workers"
