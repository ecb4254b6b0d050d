"""What systemd is told and hands over: a fake manager, and sockets that outlive the service."""

import asyncio
import contextlib
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ..ports import free_port
from ..tools import needs
from .harness import FAULTS, PATIENCE, Starter, children, get, is_open, until

BOTH = pytest.mark.parametrize("workers", [1, 2])

SLOW = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from tornado_service.greetings.handlers import Welcome
from tornado_service.runtime import Application, Resource, Route

FOLDER = Path(__file__).parent


@asynccontextmanager
async def database(settings):
    (FOLDER / "waiting").touch()
    while not (FOLDER / "there").exists():
        await asyncio.sleep(0.02)
    yield


def make_app(values):
    if (FOLDER / "broken").exists():
        raise RuntimeError("no luck")
    return Application(values, [Route("/", Welcome)], resources=[Resource("database", database)])
"""

SHOW_PROCESS = """
import subprocess

from tornado_service.runtime import Application, Handler, Route


class Show(Handler):
    def get(self):
        of_child = ["sh", "-c", "env; ls /proc/self/fd"]
        run = subprocess.run(of_child, capture_output=True, text=True, close_fds=False)
        self.reply({"shown": run.stdout.splitlines()})


def make_app(values):
    return Application(values, [Route("/", Show)])
"""

AS_SYSTEMD_DOES = """
import fcntl, os, sys

count = int(sys.argv[1])
given = list(map(int, sys.argv[2 : 2 + count]))
moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in given]
for fd in given:
    os.close(fd)
for place, fd in enumerate(moved):
    os.dup2(fd, 3 + place)
pid = str(os.getpid())
if count:
    names = ":".join(["public"] * count)
    os.environ |= {"LISTEN_PID": pid, "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}
if "WATCHDOG_USEC" in os.environ:
    os.environ.setdefault("WATCHDOG_PID", pid)
os.execvp(sys.argv[2 + count], sys.argv[2 + count :])
"""
"""Hands sockets over, and names the process that they and the watchdog's interval are for."""


def as_systemd(*sockets: socket.socket) -> dict[str, Any]:
    """Return what `Starter.spawn` takes to start a process as systemd does."""
    numbers = tuple(one.fileno() for one in sockets)
    wrapper = (sys.executable, "-c", AS_SYSTEMD_DOES, str(len(numbers)), *map(str, numbers))
    return {"wrapper": wrapper, "pass_fds": numbers}


@dataclass(frozen=True)
class Notice:
    """What systemd was told at once, by whom and when."""

    at: float
    pid: int
    values: dict[str, str]


@dataclass
class Manager:
    """Stands in for systemd at the socket that it gives to a service."""

    socket: socket.socket
    address: str
    notices: list[Notice] = field(default_factory=list)

    def receive(self) -> list[Notice]:
        """Take what has arrived and return all notices so far."""
        size = struct.calcsize("3i")
        while select.select([self.socket], [], [], 0)[0]:
            data, [(_, _, sender)], _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(size))
            values = dict(line.split("=", 1) for line in data.decode().split("\n"))
            pid = struct.unpack("3i", sender[:size])[0]
            self.notices.append(Notice(time.monotonic(), pid, values))
        return self.notices

    def all_of(self, name: str) -> list[Notice]:
        return [notice for notice in self.receive() if name in notice.values]

    def wait_for(self, name: str, count: int = 1, patience: float = PATIENCE) -> Notice:
        """Wait for so many notices of a kind and return the last."""
        return until(lambda: self.all_of(name)[count - 1 :], f"{count} {name}", patience)[0]

    def states(self) -> list[str]:
        """Return the notices so far in short, without the signs of life."""
        kinds = ("READY", "RELOADING", "STOPPING")
        return [kind for notice in self.receive() for kind in kinds if kind in notice.values]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        receiver.bind(address := str(tmp_path / "notify"))
        yield Manager(receiver, address)


@BOTH
def test_ready_is_told_when_a_worker_is_ready(run: Starter, manager: Manager, workers: int) -> None:
    service = run.own(
        SLOW,
        **as_systemd(),
        APP_WORKERS=workers,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC=1_000_000,
    )
    until((run.folder / "own/waiting").exists, "the wait of a worker")
    # It looks around several times more, and finds that nobody is ready.
    before = len(manager.all_of("WATCHDOG"))
    manager.wait_for("WATCHDOG", before + 3)
    assert manager.states() == []
    (run.folder / "own/there").touch()
    notice = manager.wait_for("READY")
    greeting = service.wait_for_message("^listening on")["message"]
    assert notice.values == {"READY": "1", "STATUS": greeting}
    service.port = int(greeting.partition(",")[0].rpartition(":")[2])
    assert service.ask("/").status == 200
    service.signal()
    assert service.wait() == 0
    assert manager.states() == ["READY", "STOPPING"]
    assert {notice.pid for notice in manager.notices} == {service.process.pid}


def test_ready_is_not_told_by_a_reload_before_a_worker_is(run: Starter, manager: Manager) -> None:
    service = run.own(
        SLOW,
        **as_systemd(),
        APP_WORKERS=2,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC=1_000_000,
    )
    (run.folder / "own/broken").touch()
    service.wait_for_message("retrying in")
    service.signal(signal.SIGHUP)
    service.wait_for_message("SIGHUP")
    service.wait_for_message("admin process, .* ready")
    before = len(manager.all_of("WATCHDOG"))
    manager.wait_for("WATCHDOG", before + 3)
    assert "READY" not in manager.states()
    (run.folder / "own/there").touch()
    (run.folder / "own/broken").unlink()
    service.wait_until_ready()
    assert manager.wait_for("READY").values["READY"] == "1"


def test_a_reload_is_told(run: Starter, manager: Manager) -> None:
    service = run.start(APP_WORKERS=2, NOTIFY_SOCKET=manager.address)
    before = service.workers()
    for number in range(1, 3):
        started = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        service.signal(signal.SIGHUP)
        notice = manager.wait_for("RELOADING", number)
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert notice.values["RELOADING"] == "1"
        assert started <= int(notice.values["MONOTONIC_USEC"]) <= now
        manager.wait_for("READY", number + 1)
        # Not before the last of the old ones has been replaced.
        assert not set(before) & set(service.workers())
        before = service.workers()
    service.signal()
    assert service.wait() == 0
    assert manager.states() == ["READY", *["RELOADING", "READY"] * 2, "STOPPING"]
    assert {notice.pid for notice in manager.notices} == {service.process.pid}


def test_a_stop_during_a_reload_is_told(run: Starter, manager: Manager) -> None:
    (run.folder / "own").mkdir()
    (run.folder / "own/there").touch()
    service = run.own(SLOW, APP_WORKERS=2, NOTIFY_SOCKET=manager.address).wait_until_ready()
    service.workers()
    (run.folder / "own/there").unlink()
    service.signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    service.signal()
    assert service.wait() == 0
    assert manager.states() == ["READY", "RELOADING", "STOPPING"]


@BOTH
def test_stopping_is_told_first_and_life_goes_on(
    run: Starter, manager: Manager, workers: int
) -> None:
    service = run.faulty(
        APP_WORKERS=workers, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=1_000_000
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /sleep/3 HTTP/1.1\r\nHost: x\r\n\r\n")
        service.signal()
        stopping = manager.wait_for("STOPPING", patience=1)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert service.wait() == 0
    assert manager.states() == ["READY", "STOPPING"]
    # A drain may take longer than the watchdog waits.
    assert len([one for one in manager.all_of("WATCHDOG") if one.at > stopping.at]) >= 4


def test_a_blocked_loop_gives_no_sign_of_life(run: Starter, manager: Manager) -> None:
    service = run.faulty(APP_WORKERS=1, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=1_000_000)
    manager.wait_for("WATCHDOG")
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /block/3 HTTP/1.1\r\nHost: x\r\n\r\n")
        while not select.select([connection], [], [], 0.02)[0]:
            manager.receive()
    count = len(manager.all_of("WATCHDOG"))
    manager.wait_for("WATCHDOG", count + 2)
    beats = manager.all_of("WATCHDOG")
    assert max(later.at - earlier.at for earlier, later in pairwise(beats)) > 2.5


@pytest.mark.seconds
def test_blocked_workers_are_the_supervisors_concern(run: Starter, manager: Manager) -> None:
    service = run.faulty(APP_WORKERS=2, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=3_000_000)
    manager.wait_for("WATCHDOG")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            address = ("127.0.0.1", service.port)
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(b"GET /block/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        manager.wait_for("WATCHDOG", len(manager.all_of("WATCHDOG")) + 4)
    beats = manager.all_of("WATCHDOG")
    assert max(later.at - earlier.at for earlier, later in pairwise(beats)) < 3
    assert {notice.pid for notice in manager.notices} == {service.process.pid}


def test_child_processes_of_handlers_get_no_sockets(run: Starter) -> None:
    with listener() as one, listener() as another:
        service = run.own(SHOW_PROCESS, **as_systemd(one, another), APP_WORKERS=2)
        service.port = port_of(one)
        shown = service.ask("/").json["shown"]
    names = {line.partition("=")[0] for line in shown if "=" in line}
    assert "PATH" in names
    assert not {name for name in names if name.startswith("LISTEN_")}
    # The fourth is the folder that `ls` lists.
    assert [line for line in shown if line.isdigit()] == ["0", "1", "2", "3"]


def listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=1024)


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


@dataclass
class Load:
    """Asks on new connections, ten at a time for each port, until told to stop."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    stopping: bool = False

    async def run(self, *ports: int) -> None:
        await asyncio.gather(*(self._keep_asking(port) for port in ports for _ in range(10)))

    async def _keep_asking(self, port: int) -> None:
        while not self.stopping:
            try:
                answer = await asyncio.wait_for(get(port, "/livez", Connection="close"), PATIENCE)
            except (OSError, EOFError) as error:
                self.failed.append(f"{time.monotonic():.2f} {port}: {error!r}")
            else:
                # The public port has no such path, but answers.
                assert answer.status in (200, 404)
                self.answered += 1

    def wait_for(self, more: int) -> None:
        goal = self.answered + more
        until(lambda: self.answered + len(self.failed) >= goal, f"{more} answers")


@pytest.mark.parametrize(
    ("workers", "count", "admin"), [(1, 1, False), (2, 3, False), (2, 2, True)]
)
async def test_restarts_fail_no_connection(
    run: Starter, workers: int, count: int, admin: bool
) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listener()) for _ in range(count)]
        ports = [port_of(one) for one in listeners]
        admin_port = ports[-1] if admin else 0
        load = Load()
        asking = asyncio.create_task(load.run(*ports))
        await asyncio.to_thread(restart, run, load, listeners, workers, admin_port)
        load.stopping = True
        await asking
    assert load.failed == []
    assert load.answered >= 1000


def restart(
    run: Starter, load: Load, listeners: list[socket.socket], workers: int, admin_port: int
) -> None:
    """Start, stop and start a service twice under load; the first requests wait for it."""
    for _ in range(3):
        service = run.spawn(
            str(FAULTS),
            **as_systemd(*listeners),
            APP_WORKERS=workers,
            APP_ADMIN_PORT=admin_port,
        )
        load.wait_for(500)
        if workers > 1:
            service.workers()
        service.signal()
        assert service.wait() == 0
        assert not service.errors()
        [greeting] = [m for m in service.messages() if m.startswith("listening on")]
        assert f"listening on http://127.0.0.1:{port_of(listeners[0])}," in greeting
    run.spawn(str(FAULTS), **as_systemd(*listeners), APP_WORKERS=workers, APP_ADMIN_PORT=admin_port)
    load.wait_for(100)


def test_the_first_connection_starts_the_service(run: Starter) -> None:
    port = free_port()
    names = ("APP_WORKERS", "APP_PORT", "APP_ADMIN_PORT", "PYTHONPATH")
    service = run.spawn(
        wrapper=(
            needs("systemd-socket-activate"),
            f"--listen=127.0.0.1:{port}",
            *(f"--setenv={name}" for name in names),
        ),
    )
    until(lambda: f":{port}" in service.errors(), "a listening socket")
    assert service.messages() == []
    assert children(service.process.pid) == []
    service.port = port
    assert service.ask("/greetings/Ada").json == {"message": "Hello, Ada!"}
    service.wait_for_message(f"listening on http://127.0.0.1:{port}, ")
    service.signal()
    assert service.wait() == 0
    assert not is_open(port)
