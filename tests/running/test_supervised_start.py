"""Starting several workers: what cannot start, how many there are, and who started the service."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from ..tools import needs
from .harness import (
    FAULTS,
    Service,
    Starter,
    children,
    free_ports_in_a_row,
    is_open,
    processes_in,
    starter,
    until,
)
from .test_start import check_refusal, outcome

NOTE_ATTEMPT = """
import os, time
from pathlib import Path

FOLDER = Path(__file__).parent
with (FOLDER / "attempts").open("a") as file:
    file.write(f"{os.getpid()} {time.monotonic()}\\n")
"""

NO_LUCK = "raise RuntimeError('no luck')"
NO_VALIDATION = """
import pydantic

class Order(pydantic.BaseModel):
    number: int

Order(number="many")
"""
NO_DATABASE = f"""
from contextlib import asynccontextmanager
from tornado_service.runtime.http.application import Application

@asynccontextmanager
async def database():
    {NO_LUCK}
    yield

def make_app(values):
    return Application(values, [], resources={{"database": database}})
"""

FAULTY_APPLICATIONS = {
    "raises at import": (NO_LUCK, "RuntimeError('no luck')"),
    "is no Python": ("exec('def make_app(values:')", "SyntaxError("),
    "raises when made": (f"def make_app(values):\n    {NO_LUCK}", "RuntimeError('no luck')"),
    "raises in a resource": (NO_DATABASE, "cannot start database: RuntimeError('no luck')"),
    "raises with several lines": (NO_VALIDATION, "1 validation error for Order"),
    "raises what is no Exception": ("raise SystemExit('no luck')", "SystemExit('no luck')"),
    "exits": ("os._exit(3)", "exit code 3"),
    "is killed": ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    "hangs": ("time.sleep(600)", "not ready in time"),
}
"""What is wrong with the application, and what the one line on standard error must say."""

HEALS = f"""{NOTE_ATTEMPT}
if not (FOLDER / "healed").exists():
    {NO_LUCK}

from tornado_service.app import make_app
"""

RUN_ORPHANS = """
import subprocess

from tornado.routing import Rule
from tornado_service import app
from tornado_service.runtime.http.application import Route
from tornado_service.runtime.http.handler import Handler


class Orphans(Handler):
    def get(self):
        # The shell ends at once, and what it has left behind is handed to process 1.
        for _ in range(20):
            subprocess.run(["sh", "-c", "sleep 0.5 &"], check=True)
        self.reply({"left": 20})


def make_app(values):
    application = app.make_app(values)
    application.wildcard_router.add_rules([Rule(Route("/orphans"), Orphans)])
    return application
"""


def attempts(folder: Path) -> list[tuple[int, float]]:
    """Read the pids of the workers that were started, and when each was."""
    file = folder / "attempts"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(at)) for pid, at in map(str.split, lines)]


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
            name: run.own(
                NOTE_ATTEMPT + source,
                name,
                APP_WORKERS=2,
                APP_START_TIMEOUT=1 if name == "hangs" else 60,
            )
            for name, (source, _) in FAULTY_APPLICATIONS.items()
        }


def test_a_fault_that_heals_is_forgotten(run: Starter) -> None:
    service = run.own(HEALS, APP_WORKERS=2)
    until(lambda: len(attempts(run.folder / "own")) == 2, "two attempts")
    (run.folder / "own/healed").touch()
    service.wait_until_ready()
    service.workers()
    assert service.ask("/greetings/Ada").status == 200
    service.signal()
    assert service.wait() == 0
    assert service.errors() == ""


def test_a_reload_tries_at_once(run: Starter) -> None:
    service = run.own(HEALS, APP_WORKERS=2)
    waiting = service.wait_for_message(r"next attempt in [3-9]\.\d s")
    assert service.messages()[-1] == waiting["message"]
    (run.folder / "own/healed").touch()
    signalled = service.signal(signal.SIGHUP)
    service.wait_until_ready()
    [at] = [at for _, at in attempts(run.folder / "own") if at > signalled][:1]
    assert at - signalled < 1
    assert len(service.workers()) == 2
    assert service.ask("/greetings/Ada").status == 200


def test_a_signal_ends_the_attempts(run: Starter) -> None:
    service = run.own(HEALS, APP_WORKERS=2)
    service.wait_for_message(r"next attempt in [3-9]\.\d s")
    signalled = service.signal()
    assert service.wait() == 0
    assert time.monotonic() - signalled < 2
    assert service.errors() == ""
    assert processes_in(run.folder) == []


@pytest.mark.parametrize("setting", ["APP_PORT", "APP_ADMIN_PORT"])
@pytest.mark.parametrize("reuse", [False, True], ids=["alone", "with SO_REUSEPORT"])
def test_port_that_somebody_listens_on(run: Starter, setting: str, reuse: bool) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service, code, seconds = outcome(run, APP_WORKERS=2, **{setting: port})
    check_nothing_began(run, service, code, seconds, port)


@pytest.mark.parametrize("setting", ["APP_PORT", "APP_ADMIN_PORT"])
def test_port_of_another_instance(run: Starter, setting: str) -> None:
    first = run.start(APP_WORKERS=2)
    port = first.port if setting == "APP_PORT" else first.admin_port
    folder = run.folder
    run.folder = folder / "second"
    run.folder.mkdir()
    service, code, seconds = outcome(run, APP_WORKERS=2, **{setting: port})
    check_nothing_began(run, service, code, seconds, port)
    assert first.ask("/").status == 200


def check_nothing_began(
    run: Starter, service: Service, code: int, seconds: float, port: int
) -> None:
    """Check that one line said which port, and that no process and no log was begun."""
    check_refusal(service, code, seconds, f"cannot listen on 127.0.0.1 port {port}: ")
    assert processes_in(run.folder) == []
    assert service.log_path.read_text() == ""


def test_a_port_per_worker(run: Starter) -> None:
    first = free_ports_in_a_row(2)
    service = run.spawn(APP_WORKERS=2, APP_PORT=first, APP_PORT_PER_WORKER="true")
    service.workers()
    for number in range(2):
        for _ in range(5):
            service.port = first + number
            assert service.ask("/", X_Request_ID=f"to-{number}").status == 200
    service.signal()
    assert service.wait() == 0
    access = [record for record in service.records() if record["logger"] == "access"]
    assert len(access) == 10
    for record in access:
        assert record["request_id"] == f"to-{record['worker']}"
    assert f"http://127.0.0.1:{first}, http://127.0.0.1:{first + 1}" in " ".join(service.messages())


def test_all_workers_share_a_port_otherwise(run: Starter) -> None:
    service = run.start(APP_WORKERS=2)
    service.workers()
    assert not is_open(service.port + 1) or service.port + 1 == service.admin_port
    [greeting] = [m for m in service.messages() if m.startswith("listening on")]
    assert greeting.count("http://") == 2

    def both() -> bool:
        service.ask("/")
        access = [record for record in service.records() if record["logger"] == "access"]
        return {record["worker"] for record in access} == {0, 1}

    until(both, "requests to both workers")


def test_one_port_of_several_is_taken(run: Starter) -> None:
    first = free_ports_in_a_row(2)
    with socket.create_server(("127.0.0.1", first + 1)):
        service, code, seconds = outcome(
            run, APP_WORKERS=2, APP_PORT=first, APP_PORT_PER_WORKER="true"
        )
    check_nothing_began(run, service, code, seconds, first + 1)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"APP_PORT": 8000, "APP_ADMIN_PORT": 8000}, "APP_ADMIN_PORT"),
        ({"APP_PORT": 8000, "APP_ADMIN_PORT": 8001}, "APP_ADMIN_PORT"),
        ({"APP_PORT": 65535}, "APP_PORT_PER_WORKER"),
        ({"APP_PORT": 0}, "APP_PORT_PER_WORKER"),
        ({"APP_PORT": 8000, "APP_PORT_PER_WORKER": "perhaps"}, "APP_PORT_PER_WORKER"),
    ],
)
def test_ports_that_cannot_be(run: Starter, settings: dict[str, object], key: str) -> None:
    service, code, _ = outcome(run, **{"APP_WORKERS": 2, "APP_PORT_PER_WORKER": "true", **settings})
    assert code == 78
    first, *lines = service.errors().splitlines()
    assert first == "Bad settings:"
    assert [line.strip().partition(":")[0] for line in lines] == [key]
    assert service.log_path.read_text() == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"APP_PORT": 8000, "APP_ADMIN_PORT": 7999},
        {"APP_PORT": 8000, "APP_ADMIN_PORT": 8002},
        {"APP_PORT": 8000, "APP_ADMIN_PORT": 8001, "APP_PORT_PER_WORKER": "false"},
        {"APP_PORT": 8000, "APP_ADMIN_PORT": 8001, "APP_WORKERS": 1},
        {"APP_PORT": 65534},
    ],
)
def test_ports_that_just_fit(run: Starter, settings: dict[str, object]) -> None:
    settings = {"APP_WORKERS": 2, "APP_PORT_PER_WORKER": "true", **settings}
    service, code, _ = outcome(run, "-m", "tornado_service", "check", **settings)
    assert (code, service.errors()) == (0, "")


@pytest.mark.parametrize("workers", ["0", "257", "-1", "many", "1.5"])
@pytest.mark.parametrize("command", ["serve", "check"])
def test_numbers_of_workers_that_cannot_be(run: Starter, workers: str, command: str) -> None:
    service, code, seconds = outcome(run, "-m", "tornado_service", command, APP_WORKERS=workers)
    assert code == 78
    assert seconds < 2
    first, line = service.errors().splitlines()
    assert first == "Bad settings:"
    assert line.strip().startswith("APP_WORKERS: ")
    assert line.endswith(f"got {workers!r}")
    assert service.log_path.read_text() == ""


def check_one_process(service: Service) -> None:
    """Check that a service never forks."""
    service.wait_until_ready()
    for _ in range(20):
        assert service.ask("/").status == 200
        assert children(service.process.pid) == []
    records = service.records()
    assert {record["pid"] for record in records} == {service.process.pid}
    assert {record["worker"] for record in records} == {0}
    service.signal()
    assert service.wait() == 0


def test_one_worker_is_one_process(run: Starter) -> None:
    check_one_process(run.spawn(APP_WORKERS=1))


def test_debugging_takes_one_process(run: Starter) -> None:
    check_one_process(run.spawn(APP_WORKERS=2, APP_DEBUG="true"))


def test_auto_is_one_worker_on_one_processor(run: Starter) -> None:
    processor = str(min(os.sched_getaffinity(0)))
    check_one_process(
        run.spawn(APP_WORKERS="auto", wrapper=(needs("taskset"), "-c", processor)),
    )


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


@pytest.mark.parametrize("cpus", [1, 0.5, 1.9])
def test_auto_is_one_worker_with_a_quota_below_two_processors(run: Starter, cpus: float) -> None:
    with control_group(run, cpus) as wrapper:
        check_one_process(run.spawn(APP_WORKERS="auto", wrapper=wrapper))


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
    until(lambda: len(children(process_1)) > 3, "orphans", patience=0.4)
    # A zombie would count as a child until it is waited for.
    until(lambda: set(children(process_1)) == own, "the end of the orphans", patience=5)
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
    assert "SIGTERM: stopping" not in service.messages()
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


def test_a_misspelt_name_is_warned_about_once(run: Starter) -> None:
    service = run.start(APP_WORKERS=2, APP_WORKRES=3)
    service.workers()
    service.signal(signal.SIGHUP)
    service.wait_for_message("^reloaded$")
    service.signal()
    assert service.wait() == 0
    warning = "APP_WORKRES is not a setting, did you mean APP_WORKERS?"
    assert service.messages().count(warning) == 1
    assert service.errors() == ""


@pytest.mark.parametrize("fault", FAULTY_APPLICATIONS)
def test_an_application_that_cannot_start_is_tried_again_and_then_given_up(
    faulty_services: dict[str, Service], fault: str
) -> None:
    service = faulty_services[fault]
    assert service.wait() == 1
    lines = service.errors().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("no worker can start: worker ")
    assert FAULTY_APPLICATIONS[fault][1] in lines[0]
    started = attempts(service.log_path.parent / fault)
    failures = [r for r in service.records() if "cannot start worker" in r["message"]]
    assert {record["level"] for record in failures} == {"error"}
    for (pid, _), record in zip(started, failures, strict=True):
        assert record["message"].startswith(f"cannot start worker 0, pid {pid}: ")
        assert FAULTY_APPLICATIONS[fault][1] in record["message"]
    assert 3 <= len(started) <= 10
    times = [at for _, at in started]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # Each delay is twice the one before, give or take a fifth; a busy machine only adds to it.
    assert all(gap > 0.4 * 2**number for number, gap in enumerate(gaps)), gaps
    assert 5 < times[-1] - times[0] < 30


@pytest.mark.parametrize("fault", FAULTY_APPLICATIONS)
def test_the_log_has_the_traceback_once(faulty_services: dict[str, Service], fault: str) -> None:
    service = faulty_services[fault]
    service.wait()
    stacks = [r["exception.stacktrace"] for r in service.records() if "exception.type" in r]
    if fault in ("exits", "is killed", "hangs"):  # these have none
        assert stacks == []
    else:
        assert len(stacks) == 1
        assert "own.py" in stacks[0]
    assert service.log_path.read_text().count("Traceback") == len(stacks)


def test_what_has_given_up_leaves_no_process(faulty_services: dict[str, Service]) -> None:
    for service in faulty_services.values():
        service.wait()
    assert processes_in(service.log_path.parent) == []
