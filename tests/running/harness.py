"""Starts real processes, asks them over real sockets, and ends every process that it started."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

PATIENCE = 60.0
"""Seconds to wait for what should take one: a loaded machine is slow, and a hang is still found."""

FAULTS = Path(__file__).with_name("faults.py")
OWN_MAIN = Path(__file__).with_name("own_main.py")

ADMIN = -1
READY = r"(?:admin process|worker (\d+)), pid (\d+): ready"

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait until a condition holds and return what it returned."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {patience:g} s: {what}")


@dataclass
class Answer:
    """An HTTP answer as it came over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """A running process of a service, started with ports that the system picked."""

    process: subprocess.Popen[bytes]
    log_path: Path
    error_path: Path
    port: int = 0
    admin_port: int = 0

    def records(self) -> list[dict[str, Any]]:
        """Read the complete log lines so far."""
        text = self.log_path.read_text() if self.log_path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def messages(self) -> list[str]:
        return [record["message"] for record in self.records()]

    def errors(self) -> str:
        return self.error_path.read_text()

    def wait_for_message(self, pattern: str) -> dict[str, Any]:
        """Wait for a log record whose message matches."""

        def find() -> dict[str, Any] | None:
            return next((r for r in self.records() if re.search(pattern, r["message"])), None)

        return until(find, f"log record {pattern!r}")

    def wait_until_ready(self) -> "Service":
        def listening() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"exit code {self.process.returncode}: {self.errors()}")
            return next((r for r in self.records() if "listening on" in r["message"]), None)

        ports = re.findall(r":(\d+)", until(listening, "listening")["message"])
        # Each worker may have a port of its own.
        self.port, *_, self.admin_port = map(int, ports)
        until(lambda: self.ask("/readyz", admin=True).status == 200, "ready")
        return self

    def ask(self, path: str = "/", *, admin: bool = False, **headers: str) -> Answer:
        """Send one GET on a connection of its own."""
        port = self.admin_port if admin else self.port
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            connection.sendall(request(path, Connection="close", **headers))
            return parse(read_to_end(connection))

    def signal(self, signum: int = signal.SIGTERM, *, group: bool = False) -> float:
        """Send a signal, to each of its processes if it is to the group, and return when."""
        pids = processes_of_session(self.process.pid) if group else [self.process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return time.monotonic()

    def wait(self, patience: float = PATIENCE) -> int:
        return self.process.wait(patience)

    def processes(self) -> dict[int, int]:
        """The pids of those that the supervisor found ready last, by slot; -1 is the admin's."""
        found = [re.fullmatch(READY, message) for message in self.messages()]
        return {int(match[1] or ADMIN): int(match[2]) for match in found if match}

    def workers(self, count: int = 2) -> list[int]:
        """Wait for so many workers and the admin process. Returns the pids of the workers."""
        until(lambda: len(self.processes()) == count + 1, f"{count} workers")
        return [pid for slot, pid in sorted(self.processes().items()) if slot != ADMIN]

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def request(path: str, method: str = "GET", body: bytes = b"", **headers: str) -> bytes:
    """Build an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes or resets."""
    chunks = []
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


def parse(data: bytes) -> Answer:
    """Take an answer apart."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return Answer(int(first.split()[1]), headers, body)


def is_open(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    """List the processes that a process has started and not yet waited for."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_in(folder: Path) -> list[int]:
    """List the processes that were started in a folder and have not left it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == folder:
                found.append(int(link.parent.name))
    return found


def processes_of_session(leader: int) -> list[int]:
    """List a process that has started a session, and those that it has started in turn."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


async def get(port: int, path: str, **headers: str) -> Answer:
    """Send one GET, from many at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(path, **headers))
        head = await reader.readuntil(b"\r\n\r\n")
        answer = parse(head)
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        return answer
    finally:
        writer.close()


@dataclass
class Starter:
    """Starts services in a folder of their own and ends whatever it started."""

    python: Path
    folder: Path
    source: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def spawn(
        self,
        *arguments: str,
        stdout: int | None = None,
        pass_fds: tuple[int, ...] = (),
        wrapper: Sequence[str] = (),
        **settings: object,
    ) -> Service:
        """Start a process, by way of another command if need be, without waiting for anything."""
        number = len(self.started)
        log_path, error_path = self.folder / f"log-{number}", self.folder / f"stderr-{number}"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.source),
            "APP_PORT": "0",
            "APP_ADMIN_PORT": "0",
            # One process, unless a test says otherwise.
            "APP_WORKERS": "1",
            **{name: str(value) for name, value in settings.items()},
        }
        with log_path.open("wb") as log, error_path.open("wb") as errors:
            process = subprocess.Popen(
                [*wrapper, str(self.python), *(arguments or ("-m", "tornado_service"))],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=errors,
                pass_fds=pass_fds,
                # A group of its own, so that a signal to all of it reaches nobody else.
                start_new_session=True,
            )
        self.started.append(process)
        return Service(process, log_path, error_path)

    def start(self, *arguments: str, **settings: object) -> Service:
        """Start a service and wait until it is ready."""
        return self.spawn(*arguments, **settings).wait_until_ready()

    def faulty(self, script: Path = FAULTS, **settings: object) -> Service:
        """Start the service with the routes of `faults.py`."""
        return self.start(str(script), **settings)

    def own(self, source: str, name: str = "own", **settings: Any) -> Service:
        """Start the service with an application of the test's own, without waiting for anything.

        The application is `own.py` in a folder with this name.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "own.py").write_text(source)
        (folder / "main.py").write_text(OWN_MAIN.read_text())
        return self.spawn(str(folder / "main.py"), **settings)

    def end(self) -> None:
        for process in self.started:
            # Its children too, which may be there without it.
            while pids := processes_of_session(process.pid):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def starter(python: Path, folder: Path, source: Path) -> Iterator[Starter]:
    """Make a starter that leaves no process behind."""
    made = Starter(python, folder, source)
    try:
        yield made
    finally:
        made.end()
