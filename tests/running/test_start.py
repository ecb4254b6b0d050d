"""Starting: with bad settings or code, in a control group, as process 1, from a terminal."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ..tools import needs
from .harness import FAULTS, Service, Starter, children, processes_in, starter, until

STALLED = Path(__file__).parents[1] / "runtime/apps/stalled"
"""A folder with a module that is imported at the start and never finishes."""
COMMAND = Path(__file__).with_name("command.py")
SHELL = Path(__file__).with_name("shell.py")
SECRET = "hunter2-the-secret"

BAD_SETTINGS = [
    {
        "APP_ADDRESS": "localhost.example",
        "APP_PORT": "80.5",
        "APP_ADMIN_ADDRESS": "127.0.0.1:9000",
        "APP_ADMIN_PORT": "65536",
        "APP_WORKERS": "many",
        "APP_LOG_LEVEL": "loud",
        "APP_LOG_FORMAT": "xml",
        "APP_DRAIN_DELAY": "inf",
        "APP_DRAIN_TIMEOUT": "25s",
        "APP_IDLE_TIMEOUT": "0",
        "APP_BODY_TIMEOUT": "never",
        "APP_MAX_BODY_SIZE": "0",
        "APP_TRUSTED_PROXIES": "127.0.0.1, nginx",
        "APP_THREADS": "0",
        "APP_DEBUG": "perhaps",
    },
    {
        "APP_PORT": f"postgres://app:{SECRET}@db/app",
        "APP_ADMIN_PORT": "tcp://10.0.0.1:80",
        "APP_WORKERS": "257",
        "APP_DRAIN_DELAY": "nan",
        "APP_DRAIN_TIMEOUT": "-5",
        "APP_TRUSTED_PROXIES": "10.1.2.3/8",
    },
]

NOTE_ATTEMPT = """
import os, time
from pathlib import Path

with Path(__file__).with_name("attempts").open("a") as file:
    file.write(f"{os.getpid()} {time.monotonic()}\\n")
"""

FAULTY_APPLICATIONS = {
    "raises": ("raise RuntimeError('no luck')", "RuntimeError('no luck')"),
    "is killed": ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
}
"""What an application does at its import, and what the one line on standard error must say."""

RUN_ORPHANS = """
import subprocess

from tornado_service import app
from tornado_service.runtime import Handler, Route


class Orphans(Handler):
    def get(self):
        # The shell ends at once, and what it has left behind is handed to process 1.
        for _ in range(20):
            subprocess.run(["sh", "-c", "sleep 2 &"], check=True)
        self.reply({"left": 20})


def make_app(values):
    application = app.make_app(values)
    application.wildcard_router.add_rules([Route("/orphans", Orphans)])
    return application
"""


@pytest.fixture(scope="module", autouse=True)
def faulty_services(
    python: Path, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Service]]:
    """Services that can never start, each of which takes a quarter of a minute to give up.

    All are started before the first test, and looked at by the last.
    """
    folder = tmp_path_factory.mktemp("faulty").resolve()
    with starter(python, folder, project / "src") as run:
        yield {
            name: run.own(NOTE_ATTEMPT + source, name, APP_WORKERS=2)
            for name, (source, _) in FAULTY_APPLICATIONS.items()
        }


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize("settings", BAD_SETTINGS, ids=["all", "more"])
def test_all_bad_settings_are_reported_together(
    run: Starter, settings: dict[str, str], command: str
) -> None:
    environment = {**settings, "APP_UNRELATED_TOKEN": SECRET}
    service = run.spawn("-m", "tornado_service", command, **environment)
    assert service.wait() == 78
    first, *lines = service.errors().splitlines()
    assert first == "Bad settings:"
    assert sorted(line.strip().partition(":")[0] for line in lines) == sorted(settings)
    assert "Traceback" not in service.errors()
    assert SECRET not in service.errors()
    assert service.log_path.read_text() == ""


def test_port_of_another_instance_is_one_line(run: Starter) -> None:
    first = run.start(APP_WORKERS=2)
    folder = run.folder
    run.folder = folder / "second"
    run.folder.mkdir()
    second = run.spawn(APP_WORKERS=2, APP_PORT=first.port)
    assert second.wait() == 1
    [line] = second.errors().splitlines()
    assert line.startswith(f"cannot listen on 127.0.0.1 port {first.port}: ")
    assert processes_in(run.folder) == []
    assert second.log_path.read_text() == ""
    assert first.ask("/").status == 200


@contextmanager
def control_group(run: Starter, cpus: float) -> Iterator[tuple[str, ...]]:
    """Make a control group with a quota. Yields the command that runs others in it.

    What was started is ended with it.
    """
    version_1 = Path("/sys/fs/cgroup/cpu")
    group = (version_1 if version_1.is_dir() else version_1.parent) / f"test-{os.getpid()}"
    quota, period = int(cpus * 100_000), 100_000
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if version_1.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {period}")
        # A group within that has no quota of its own: it obeys the one above.
        (group / "inner").mkdir()
        yield "sh", "-c", f'echo $$ >{group}/inner/cgroup.procs && exec "$@"', "sh"
    finally:
        run.end()
        for folder in group / "inner", group:
            until(lambda folder=folder: not folder.is_dir() or is_removed(folder), "an empty group")


def is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # the last process has only just ended
        return False
    return True


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one processor")
def test_auto_is_two_workers_with_a_quota_of_two_processors(run: Starter) -> None:
    with control_group(run, 2.5) as wrapper:
        processors = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
        wrapper += (needs("taskset"), "-c", processors)
        service = run.spawn(APP_WORKERS="auto", wrapper=wrapper)
        assert len(service.workers()) == 2
        assert len(children(service.process.pid)) == 3
        service.signal()
        assert service.wait() == 0


@pytest.fixture
def as_process_1() -> tuple[str, ...]:
    """The command that makes others process 1 of a namespace of their own."""
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = (needs("unshare"), *as_root, "--pid", "--fork", "--mount-proc")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no namespace can be made here: {tried.stderr}")
    return command


def the_child(service: Service) -> int:
    """Wait for the process that `unshare` has started; a signal to itself would not reach it."""
    [pid] = until(lambda: children(service.process.pid), "process 1")
    return pid


def test_process_1_drains(run: Starter, as_process_1: tuple[str, ...]) -> None:
    service = run.spawn(str(FAULTS), wrapper=as_process_1, APP_WORKERS=2).wait_until_ready()
    service.workers()
    assert {r["pid"] for r in service.records() if "listening on" in r["message"]} == {1}
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"GET /sleep/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: in_flight(service), "the request in flight")
        os.kill(the_child(service), signal.SIGTERM)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert service.wait() == 0
    assert service.messages()[-1] == "stopped"


@pytest.mark.parametrize("arguments", [("-m", "tornado_service"), (str(COMMAND),)])
def test_process_1_hears_signals_during_its_imports(
    run: Starter, as_process_1: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    path = os.pathsep.join(map(str, (STALLED, run.source)))
    service = run.spawn(*arguments, wrapper=as_process_1, PYTHONPATH=path)
    until((run.folder / "importing").exists, "imports")
    os.kill(the_child(service), signal.SIGHUP)
    os.kill(the_child(service), signal.SIGTERM)
    assert service.wait() == 0
    assert service.errors() == ""


def in_flight(service: Service) -> bool:
    """Tell whether a worker has taken the only connection that there is."""
    # State 01 is an established connection, whose inode is 0 until somebody has accepted it.
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    port = f":{service.port:04X}"
    return any(f[1].endswith(port) and f[3] == "01" and f[9] != "0" for f in fields)


def test_process_1_waits_for_strangers(run: Starter, as_process_1: tuple[str, ...]) -> None:
    service = run.own(RUN_ORPHANS, wrapper=as_process_1, APP_WORKERS=2).wait_until_ready()
    service.workers()
    process_1 = the_child(service)
    own = set(children(process_1))
    assert len(own) == 3
    assert service.ask("/orphans").json == {"left": 20}
    until(lambda: len(children(process_1)) > 3, "orphans")
    # A zombie would count as a child until it is waited for.
    until(lambda: set(children(process_1)) == own, "the end of the orphans")
    assert not [m for m in service.messages() if "killed" in m or "exit code" in m]
    os.kill(process_1, signal.SIGTERM)
    assert service.wait() == 0


TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios

fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.close(int(sys.argv[1]))
# Whoever runs the tests may have said nohup.
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "nohup" else signal.SIG_DFL)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def start_in_terminal(run: Starter, how: str = "", **settings: object) -> tuple[Service, int]:
    """Start a service as a shell in a terminal does. Returns it with the terminal's other end."""
    terminal, inside = pty.openpty()
    wrapper = (sys.executable, "-c", TAKE_TERMINAL, str(inside), how)
    service = run.spawn(str(FAULTS), wrapper=wrapper, pass_fds=(inside,), **settings)
    os.close(inside)
    service.wait_until_ready()
    if settings["APP_WORKERS"] != 1:
        service.workers()
    return service, terminal


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_the_terminal_stops(run: Starter, workers: int) -> None:
    service, terminal = start_in_terminal(run, APP_WORKERS=workers)
    os.close(terminal)
    assert service.wait() == 0
    assert service.messages()[-1] == "stopped"
    assert "reloaded" not in service.messages()
    assert processes_in(run.folder) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_the_terminal_does_not_stop_what_nohup_started(run: Starter, workers: int) -> None:
    service, terminal = start_in_terminal(run, "nohup", APP_WORKERS=workers)
    os.close(terminal)
    os.killpg(service.process.pid, signal.SIGHUP)  # as the shell of the terminal does as well
    for _ in range(20):
        assert service.ask("/sleep/0.05").status == 200
    assert not [message for message in service.messages() if "stopping" in message]
    assert service.process.poll() is None


def test_a_reload_with_an_open_terminal(run: Starter) -> None:
    service, terminal = start_in_terminal(run, APP_WORKERS=2)
    before = service.workers()
    service.signal(signal.SIGHUP)
    service.wait_for_message("^reloaded$")
    assert not set(before) & set(service.workers())
    assert service.ask("/").status == 200
    os.close(terminal)
    assert service.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_drains(run: Starter, workers: int) -> None:
    service, terminal = start_in_terminal(run, APP_WORKERS=workers)
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"GET /sleep/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: in_flight(service), "the request in flight")
        os.write(terminal, b"\x03")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert service.wait() == 0
    assert service.messages()[-1] == "stopped"
    os.close(terminal)


@contextmanager
def shell(run: Starter, mark: str = "", **settings: object) -> Iterator[tuple[Service, int]]:
    """Start a service from a shell, with a mark behind its command such as ``&``.

    Yields the service, whose process is the shell, and the other end of the terminal.
    """
    needs("bash")
    terminal, inside = pty.openpty()
    try:
        service = run.spawn(str(SHELL), str(inside), pass_fds=(inside,), **settings)
        os.close(inside)
        os.write(terminal, f"{run.python} {FAULTS} {mark}\n".encode())
        service.wait_until_ready()
        if settings["APP_WORKERS"] != 1:
            service.workers()
        yield service, terminal
    finally:
        with suppress(OSError):  # the test has closed it
            os.close(terminal)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mark", ["", "&"], ids=["foreground", "background"])
def test_closing_the_terminal_of_a_shell_stops(run: Starter, workers: int, mark: str) -> None:
    with shell(run, mark, APP_WORKERS=workers) as (service, terminal):
        connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        with connection:
            connection.sendall(b"GET /sleep/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: in_flight(service), "the request in flight")
            # The system and the shell send SIGHUP: that must not count as a second signal.
            os.close(terminal)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        until(lambda: not processes_in(run.folder), "the end of all processes")
        assert service.messages()[-1] == "stopped"
        assert "reloaded" not in service.messages()


def test_service_in_the_background_can_be_suspended_and_reloaded(run: Starter) -> None:
    with shell(run, APP_WORKERS=2) as (service, terminal):
        before = service.workers()
        supervisor = service.wait_for_message("listening on")["pid"]
        os.write(terminal, b"\x1a")
        until(lambda: {state(pid) for pid in (supervisor, *before)} == {"T"}, "all suspended")
        until(lambda: "Stopped" in service.errors(), "the shell's message")
        os.write(terminal, b"bg >&2\n")  # its stdout is the log of the service
        until(lambda: "T" not in {state(pid) for pid in (supervisor, *before)}, "all continue")
        os.write(terminal, b"kill -HUP %1\n")
        service.wait_for_message("^reloaded$")
        assert service.ask("/").status == 200
        assert not set(before) & set(service.workers())
        assert not [record for record in service.records() if record["level"] == "error"]
        os.kill(supervisor, signal.SIGTERM)
        until(lambda: service.messages()[-1] == "stopped", "the end")


def state(pid: int) -> str:
    """Return the state of a process, as `ps` shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.mark.parametrize("fault", FAULTY_APPLICATIONS)
def test_application_that_cannot_start_is_given_up_after_growing_delays(
    faulty_services: dict[str, Service], fault: str
) -> None:
    service, (_, reason) = faulty_services[fault], FAULTY_APPLICATIONS[fault]
    assert [one.wait() for one in faulty_services.values()] == [1] * len(FAULTY_APPLICATIONS)
    [line] = service.errors().splitlines()
    assert line.startswith("no worker can start: worker ")
    assert reason in line
    folder = service.log_path.parent / fault
    started = [line.split() for line in (folder / "attempts").read_text().splitlines()]
    failures = [r for r in service.records() if "failed to start" in r["message"]]
    assert {record["level"] for record in failures} == {"error"}
    for (pid, _), record in zip(started, failures, strict=True):
        assert record["message"].startswith(f"worker 0, pid {pid}: failed to start: ")
        assert reason in record["message"]
    times = [float(at) for _, at in started]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # Each delay is twice the one before, give or take a fifth; a busy machine only adds to it.
    assert all(gap > 0.4 * 2**number for number, gap in enumerate(gaps)), gaps
    assert 3 <= len(times) <= 10
    assert processes_in(folder.parent) == []
