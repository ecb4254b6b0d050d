"""What clients notice of faults, with two workers of the service and of servers for ASGI."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from .bench import Bench
from .load import Load, result, start_load
from .measure import tree
from .process import Running, ask, running
from .servers import FASTAPI_HELLO, GRANIAN, GUNICORN, Server

WORKERS = 2
CONNECTIONS = 10
PATIENCE = 15.0
"""Seconds after which something is said not to happen."""
POLL_INTERVAL = 0.01
"""Seconds between two looks."""
LOAD_SECONDS = 4
"""Length of the load in whose middle something happens."""
SLOW_REQUESTS = 20
HANG_TIMEOUT = 2
"""Seconds without a sign of life after which a worker is replaced, where that can be set."""


def seconds_until(condition: Callable[[], bool]) -> float | None:
    """Wait for a condition. Returns how long it took, or None if it took too long."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        if condition():
            return time.monotonic() - started
        time.sleep(POLL_INTERVAL)
    return None


def is_alive(pid: int) -> bool:
    """Return whether a process with this id is there and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def worker_pid(server: Running) -> int:
    """Return the id of some worker, the one that responds."""
    return int(json.loads(ask(server.port, "/pid"))["pid"])


def next_victim(server: Running) -> int | None:
    """Wait for a worker that responds and return its id; None if none does."""
    found: list[int] = []

    def responds() -> bool:
        with contextlib.suppress(OSError):
            found.append(worker_pid(server))
        return bool(found)

    seconds_until(responds)
    return found[0] if found else None


def responds_with_two_workers(server: Running, without: int) -> bool:
    """Return whether all workers respond, none of which is the one that is gone."""
    pids = set()
    # The kernel picks the worker for each connection.
    for _ in range(20):
        with contextlib.suppress(OSError):
            pids.add(worker_pid(server))
    return len(pids) == WORKERS and without not in pids


def during_load(server: Running, event: Callable[[], object]) -> Load:
    """Put load on a server, let something happen meanwhile, and return what came of it."""
    wrk = start_load(server.port, seconds=LOAD_SECONDS, connections=CONNECTIONS)
    try:
        time.sleep(LOAD_SECONDS / 4)
        event()
    except BaseException:
        wrk.kill()
        raise
    finally:
        load = result(wrk)
    return load


def longest(values: list[float | None]) -> str:
    """Write the longest of some times; None is longer than all others."""
    if None in values:
        return f"not within {PATIENCE:.0f} s"
    return f"{max(value for value in values if value is not None):.2g} s"


def reloads(bench: Bench, server: Running) -> str:
    """SIGHUP under load: how many requests fail?"""
    failed = requests = 0
    for _ in range(bench.effort.faults):
        load = during_load(server, lambda: server.process.send_signal(signal.SIGHUP))
        failed += load.failed
        requests += load.requests
        if server.process.poll() is not None:
            return "it exits"
    return f"{failed} of {requests:,}"


def kills(bench: Bench, server: Running) -> tuple[str, str]:
    """`kill -9` of a worker under load: how many requests fail, and when is it replaced?"""
    failed = requests = 0
    seconds: list[float | None] = []
    for number in range(bench.effort.faults):
        victim = next_victim(server)
        if victim is None:
            return f"{failed} of {requests:,}", f"no response after {number} kills"
        load = during_load(server, partial(os.kill, victim, signal.SIGKILL))
        failed += load.failed
        requests += load.requests
    for _ in range(bench.effort.faults):
        victim = next_victim(server)
        if victim is None:
            seconds.append(None)
            break
        os.kill(victim, signal.SIGKILL)
        seconds.append(seconds_until(partial(responds_with_two_workers, server, victim)))
    return f"{failed} of {requests:,}", longest(seconds)


def block(server: Running) -> str:
    """A request blocks the event loop: when is the worker gone?"""
    before = set(tree(server.pid))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return longest(
            [seconds_until(lambda: not before <= set(filter(is_alive, tree(server.pid))))]
        )


def stop(server: Running) -> str:
    """SIGTERM while requests are in flight: how many of them get their response?"""

    def slow(_: int) -> bool:
        with contextlib.suppress(OSError):
            return b"slow world" in ask(server.port, "/slow", PATIENCE)
        return False

    with ThreadPoolExecutor(SLOW_REQUESTS) as pool:
        responses = pool.map(slow, range(SLOW_REQUESTS))
        time.sleep(0.5)
        server.process.terminate()
        complete = sum(responses)
    return f"{complete} of {SLOW_REQUESTS}"


def orphans(server: Running) -> str:
    """`kill -9` of the parent of all workers: when are they gone?"""
    left = tree(server.pid)[1:]
    server.process.kill()
    server.process.wait()
    return longest([seconds_until(lambda: not any(map(is_alive, left)))])


@dataclass(frozen=True)
class Faults:
    """A row of the table: what a server makes of each fault."""

    server: str
    reloads: str
    kills: str
    replaced: str
    blocked: str
    stop: str
    orphans: str


HEADINGS = [
    "server",
    "reload: failed",
    "kill -9 a worker: failed",
    "replaced in",
    f"blocked ({HANG_TIMEOUT} s): gone in",
    "SIGTERM: responses in flight",
    "kill -9 the parent: workers gone in",
]


def measure(bench: Bench) -> list[Faults]:
    """Cause all faults in each server."""
    servers = [bench.extended_service, GUNICORN, FASTAPI_HELLO, GRANIAN]
    bench.install(*servers)
    return [_cause(bench, server) for server in servers]


def _cause(bench: Bench, server: Server) -> Faults:
    def started() -> contextlib.AbstractContextManager[Running]:
        return running(server, WORKERS, {"APP_HANG_TIMEOUT": str(HANG_TIMEOUT)})

    bench.progress.show(f"faults: {server.title}")
    with started() as process:
        reloaded = reloads(bench, process)
    with started() as process:
        killed, replaced = kills(bench, process)
    with started() as process:
        blocked = block(process)
    with started() as process:
        stopped = stop(process)
    with started() as process:
        gone = orphans(process)
    return Faults(server.title, reloaded, killed, replaced, blocked, stopped, gone)
