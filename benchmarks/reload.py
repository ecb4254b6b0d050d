"""Reloads of the service under load."""

import signal
import time
from collections.abc import Iterator

from .bench import Bench
from .environments import BenchmarkError
from .figures import Figure, Row
from .load import put_load, result, start_load
from .measure import tree
from .process import Running, running

ROW = Row("reload", "failed requests during reloads under load", "", 0)
ROWS = [ROW]
WORKERS = 2
CONNECTIONS = 10
RELOAD_TIMEOUT = 60.0
"""Seconds until all workers must have been replaced."""
POLL_INTERVAL = 0.02
"""Seconds between two looks at the processes."""


def reload(server: Running) -> None:
    """Send SIGHUP and wait until every process but the supervisor has been replaced."""
    before = tree(server.pid)[1:]
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_TIMEOUT
    while time.monotonic() < deadline:
        now = tree(server.pid)[1:]
        if len(now) == len(before) and not set(now) & set(before):
            return
        time.sleep(POLL_INTERVAL)
    raise BenchmarkError(f"the workers were not replaced within {RELOAD_TIMEOUT:.0f} s")


def measure(bench: Bench, names: set[str]) -> Iterator[Figure]:
    """Reload again and again, each time in the middle of a load."""
    bench.install(bench.service)
    requests = reloads = failed = 0
    with running(bench.service, WORKERS) as server:
        rate = put_load(server.port, connections=CONNECTIONS).requests
        share = bench.effort.requests / bench.effort.reloads
        seconds = max(4, round(share / rate) + 1)
        while requests < bench.effort.requests or reloads < bench.effort.reloads:
            bench.progress.show(f"reload: {reloads} reloads, {requests} requests")
            wrk = start_load(server.port, seconds=seconds, connections=CONNECTIONS)
            try:
                time.sleep(seconds / 8)
                reload(server)
                during = wrk.poll() is None
            except BaseException:
                wrk.kill()
                raise
            finally:
                load = result(wrk)
            requests += load.requests
            failed += load.failed
            # One that took longer than the load proves too little, and is done once more.
            reloads += during
            seconds += 0 if during else 2
    yield Figure(ROW, [failed], f"{reloads} reloads, {requests:,} requests")
