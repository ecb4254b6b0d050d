"""Four workers: the time to the first response, and the memory of all processes."""

import statistics
from collections.abc import Iterator

from .bench import Bench
from .figures import RATIO, Figure, Row, ratios
from .load import put_load
from .measure import pss_bytes
from .process import running
from .servers import FASTAPI_HELLO, Server

WORKERS = 4
START = Row("start", f"start to first response / {FASTAPI_HELLO.title}", RATIO, 0.50)
MEMORY = Row("memory-4-workers", f"memory of 4 workers (PSS) / {FASTAPI_HELLO.title}", RATIO, 0.55)
ROWS = [START, MEMORY]


def measure(bench: Bench, names: set[str]) -> Iterator[Figure]:
    """Start the service and its peer in turn."""
    bench.install(bench.service, FASTAPI_HELLO)
    service: list[tuple[float, int]] = []
    peer: list[tuple[float, int]] = []
    # The first start compiles the modules.
    for number in range(bench.effort.starts + 1):
        bench.progress.show(f"start: {number} of {bench.effort.starts}")
        pair = start(bench.service), start(FASTAPI_HELLO)
        if number > 0:
            service.append(pair[0])
            peer.append(pair[1])
    seconds = [[found[0] for found in side] for side in (service, peer)]
    memory = [[found[1] for found in side] for side in (service, peer)]
    if START.name in names:
        first, second = map(statistics.median, seconds)
        yield Figure(START, ratios(*seconds), f"{first:.2f} s / {second:.2f} s")
    if MEMORY.name in names:
        first, second = (statistics.median(side) / 2**20 for side in memory)
        yield Figure(MEMORY, ratios(*memory), f"{first:.0f} MiB / {second:.0f} MiB")


def start(server: Server) -> tuple[float, int]:
    """Start a server. Return its seconds to the first response, and its memory after a load."""
    with running(server, WORKERS) as process:
        # Every worker has served by then.
        put_load(process.port, seconds=2)
        return process.seconds_to_response, pss_bytes(process.pid)
