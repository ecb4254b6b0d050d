"""Puts load on a server with wrk, and tells how many requests failed."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .environments import BenchmarkError, needs

SCRIPT = Path(__file__).with_name("report.lua")
CONNECTIONS = 32
REQUEST_TIMEOUT = 10
"""Seconds without a response after which wrk counts a request as failed."""
FAILURES = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Load:
    """What came of a load."""

    requests: int
    """Responses that arrived completely, with whatever status."""
    seconds: float
    failures: dict[str, int]
    """Failed requests by kind, without the kinds that did not occur."""

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def parse(output: str) -> Load:
    """Read what `report.lua` has printed at the end of wrk's output."""
    values = json.loads(output.strip().rpartition("\n")[2])
    failures = {kind: values[kind] for kind in FAILURES if values[kind]}
    return Load(values["requests"], values["microseconds"] / 1e6, failures)


def start_load(
    port: int,
    path: str = "/",
    *,
    seconds: int = 1,
    connections: int = CONNECTIONS,
    pause_ms: int | None = None,
) -> subprocess.Popen[str]:
    """Start wrk with one thread; `result` waits for its end."""
    pause = [] if pause_ms is None else ["--", str(pause_ms)]
    return subprocess.Popen(
        [
            *(needs("wrk"), "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", f"{REQUEST_TIMEOUT}s"),
            *("--script", str(SCRIPT), f"http://127.0.0.1:{port}{path}", *pause),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def result(wrk: subprocess.Popen[str]) -> Load:
    """Wait for the end of a load. Raises `BenchmarkError` if wrk fails."""
    try:
        output, _ = wrk.communicate()
    finally:
        # Ctrl-C, for one.
        wrk.kill()
        wrk.wait()
    if wrk.returncode:
        raise BenchmarkError(f"wrk: exit code {wrk.returncode}: {output.strip()}")
    return parse(output)


def put_load(
    port: int,
    path: str = "/",
    *,
    seconds: int = 1,
    connections: int = CONNECTIONS,
    pause_ms: int | None = None,
) -> Load:
    """Load a server and return what came of it.

    Raises `BenchmarkError` if a request failed or nothing was answered: the figures of such a load
    mean nothing.
    """
    load = result(
        start_load(port, path, seconds=seconds, connections=connections, pause_ms=pause_ms)
    )
    if load.failures or not load.requests:
        raise BenchmarkError(
            f"port {port}, {path}: {load.requests} responses, failed requests: {load.failures}"
        )
    return load
