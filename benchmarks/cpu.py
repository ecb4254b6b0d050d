"""CPU time of a request, the default service against its peers and with two workers."""

import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from .bench import Bench
from .compare import alternate
from .figures import RATIO, Figure, Row, ratios
from .process import Running, running
from .servers import AIOHTTP, FASTAPI, LITESTAR, TORNADO, TORNADO_LOGGED

ONE, TWO = "service", "service, 2 workers"
TWO_WORKERS = Row("cpu-2-workers", "CPU per request, 2 workers / 1", RATIO, 1.05)
PEERS = {
    Row("cpu-vs-tornado", "CPU per request / bare Tornado", RATIO, 0.55): TORNADO,
    Row("cpu-vs-fastapi", f"CPU per request / {FASTAPI.title}", RATIO, 0.50): FASTAPI,
    Row("cpu-vs-aiohttp", f"CPU per request / {AIOHTTP.title}", RATIO, 1.10): AIOHTTP,
    Row(
        "cpu-vs-tornado-logged", f"CPU per request / {TORNADO_LOGGED.title}", RATIO
    ): TORNADO_LOGGED,
    Row("cpu-vs-litestar", f"CPU per request / {LITESTAR.title}", RATIO): LITESTAR,
}
ROWS = [*PEERS, TWO_WORKERS]


def measure(bench: Bench, names: set[str]) -> Iterator[Figure]:
    """Measure the rows that are wanted in one run, so that all have the same conditions."""
    peers = {row: server for row, server in PEERS.items() if row.name in names}
    bench.install(bench.service, *peers.values())
    with ExitStack() as stack:
        servers: dict[str, Running] = {ONE: stack.enter_context(running(bench.service))}
        for row, server in peers.items():
            servers[row.name] = stack.enter_context(running(server))
        if TWO_WORKERS.name in names:
            servers[TWO] = stack.enter_context(running(bench.service, 2))
        found = alternate(bench, servers, label="CPU per request")
    for row in peers:
        yield Figure(row, ratios(found[ONE], found[row.name]), _note(found[ONE], found[row.name]))
    if TWO in found:
        yield Figure(TWO_WORKERS, ratios(found[TWO], found[ONE]), _note(found[TWO], found[ONE]))


def _note(values: list[float], others: list[float]) -> str:
    first, second = (statistics.median(found) * 1e6 for found in (values, others))
    return f"{first:.0f} µs / {second:.0f} µs"
