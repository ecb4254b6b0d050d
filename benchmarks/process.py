"""Starts servers, waits for their first response, and stops them whatever happens."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .environments import FOLDER, SERVICE, BenchmarkError, environment
from .servers import PEERS, Server

START_TIMEOUT = 60.0
"""Seconds that a server may take until its first response."""
STOP_TIMEOUT = 10.0
"""Seconds that a server may take to stop before it is killed."""
POLL_INTERVAL = 0.002
"""Seconds between two attempts to get a response from a server that starts."""


@dataclass(frozen=True)
class Running:
    """A server that responds."""

    server: Server
    process: subprocess.Popen[bytes]
    port: int
    errors: Path
    """What it writes on standard error."""
    seconds_to_response: float
    """From before the process was started until the first response had arrived."""

    @property
    def pid(self) -> int:
        return self.process.pid


_candidates = itertools.count(10_000 + os.getpid() % 5_000)
"""Below the ports that the system gives to clients. None is tried twice: a server need not listen
yet when the next one looks for a port."""


def free_port(count: int = 1) -> int:
    """Return the first of `count` ports in a row that are free."""
    while (first := next(_candidates)) < 32_000:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in [first, *itertools.islice(_candidates, count - 1)]:
                stack.enter_context(socket.create_server(("", port)))
            return first
    raise BenchmarkError("no free ports")


def ask(port: int, path: str = "/", timeout: float = 5) -> bytes:
    """Send a GET on a connection of its own and return the body.

    Raises `OSError` if there is no connection or no complete response with status 200.
    """
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        received = b""
        while data := connection.recv(65536):
            received += data
    first, separator, body = received.partition(b"\r\n\r\n")
    if not separator or not first.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"not a response with status 200: {first[:100]!r}")
    return body


@contextlib.contextmanager
def running(
    server: Server, workers: int = 1, variables: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start a server, and stop it with all its processes at the end of the block.

    Its output, which is its access log, goes to /dev/null, as that of each server. Raises
    `BenchmarkError` if it does not start.
    """
    port = free_port(workers)
    values = {"bin": str(environment_of(server)), "port": str(port), "workers": str(workers)}
    logs = FOLDER / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    errors = logs / f"{server.name}-{port}"
    with errors.open("wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(
            [part.format_map(values) for part in server.command],
            cwd=PEERS,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(FOLDER),
                "PORT": str(port),
                "WORKERS": str(workers),
                **{name: value.format_map(values) for name, value in server.variables.items()},
                **(variables or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            # A group of its own: it can be killed as a whole, and Ctrl-C reaches only us.
            start_new_session=True,
        )
    try:
        wait_until_it_responds(process, port, errors)
        yield Running(server, process, port, errors, time.monotonic() - started)
    finally:
        stop(process)


def environment_of(server: Server) -> Path:
    """Return the folder of commands of a server's environment, which has been installed before."""
    return FOLDER / "environments" / server.environment / "bin"


def install(*servers: Server, project: Path) -> None:
    """Install the environments of servers, those that are not there yet."""
    for name in dict.fromkeys(server.environment for server in servers):
        environment(name, project if name == SERVICE else None)


def wait_until_it_responds(
    process: subprocess.Popen[bytes], port: int, errors: Path, path: str = "/"
) -> None:
    """Wait for the first response with status 200.

    Raises `BenchmarkError`, with the end of what is in the file `errors`, if there is none.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            ask(port, path)
            return
        if process.poll() is not None:
            break
        time.sleep(POLL_INTERVAL)
    last = "\n".join(errors.read_text(errors="replace").splitlines()[-20:])
    raise BenchmarkError(f"no response on port {port}, exit code {process.returncode}:\n{last}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process gracefully, and kill what is left of its group."""
    if process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
