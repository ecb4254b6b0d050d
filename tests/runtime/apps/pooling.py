"""A service whose handler starts other processes in the usual ways, and tells about them.

A file `hook-PID` says that a process has called what is registered for its exit.
"""

import asyncio
import atexit
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from runtime import Application, Handler, Route, Service, Settings
from runtime.workers import Prefork

SECONDS = 600
"""Longer than any test."""

ORDINARY_HANDLERS = (signal.SIG_DFL, signal.default_int_handler)

logger = logging.getLogger(__name__)


def describe() -> dict[str, object]:
    """Return what a process of a pool has inherited."""
    logger.info("from a pool")
    logger.warning("and more urgently")
    signals = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
    return {
        "pid": os.getpid(),
        "ports": sorted(filter(None, map(port_of, map(int, os.listdir("/dev/fd"))))),
        "ordinary": [signal.getsignal(signum) in ORDINARY_HANDLERS for signum in signals],
    }


def port_of(fd: int) -> int:
    """Return the local port of a descriptor; 0 if it has none."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return 0
    is_inet = sock.family == socket.AF_INET
    port = sock.getsockname()[1] if is_inet else 0
    sock.detach()
    return int(port)


def start_program() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({SECONDS})"])


class Pools(Handler):
    """Starts a pool of each kind, a daemon and a program."""

    async def get(self) -> None:
        loop, found = asyncio.get_running_loop(), {}
        for method in "fork", "spawn":
            pool = ProcessPoolExecutor(1, multiprocessing.get_context(method))
            found[method] = await loop.run_in_executor(pool, describe)
            if self.get_argument("busy", ""):
                pool.submit(time.sleep, SECONDS)
            POOLS.append(pool)
        daemon = multiprocessing.get_context("fork").Process(target=time.sleep, args=(SECONDS,))
        daemon.daemon = True
        daemon.start()
        program = start_program()
        pids = [found["fork"]["pid"], found["spawn"]["pid"], daemon.pid, program.pid]
        self.reply({**found, "worker": os.getpid(), "pids": pids})


POOLS: list[ProcessPoolExecutor] = []


def make_app(settings: Settings) -> Application:
    pid = os.getpid()
    atexit.register(lambda: Path(f"hook-{pid}").touch())
    atexit.register(lambda: logger.info("last words"))
    return Application(settings, [Route("/pools", Pools)])


service = Service(
    "pooling",
    "1.0",
    processes=Prefork(),
    settings="runtime.settings:Settings",
    app="tests.runtime.apps.pooling:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
