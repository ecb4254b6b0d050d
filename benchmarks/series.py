"""The figures behind the pictures: how servers behave as one quantity grows."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .bench import Bench
from .compare import alternate
from .measure import pss_bytes
from .process import Running, running
from .servers import AIOHTTP, AIOHTTP_GUNICORN, FASTAPI, TORNADO, Server
from .websockets import open_websockets


@dataclass(frozen=True)
class Series:
    """A picture: a line for each server, from the values of all rounds at some points."""

    name: str
    title: str
    x_label: str
    y_label: str
    x: Sequence[int]
    measure: Callable[[Bench, int], dict[str, list[float]]]
    """Returns the values at a point, by the titles of the servers."""
    log_y: bool = False
    """Whether the values differ so much that only a logarithmic axis shows all of them."""


def run(bench: Bench, series: Series) -> dict[str, Any]:
    """Measure a series: the median, the minimum and the maximum at each point of each line."""
    lines: dict[str, list[list[float]]] = {}
    for x in series.x:
        bench.progress.show(f"{series.name}: {x:,}")
        for title, values in series.measure(bench, x).items():
            summary = [statistics.median(values), min(values), max(values)]
            lines.setdefault(title, []).append(summary)
    return {
        "title": series.title,
        "x_label": series.x_label,
        "y_label": series.y_label,
        "log_y": series.log_y,
        "x": list(series.x),
        "lines": lines,
    }


def requests_per_cpu_second(
    bench: Bench,
    servers: Sequence[Server],
    label: str,
    path: str = "/",
    *,
    workers: int = 1,
    variables: dict[str, str] | None = None,
    **load: int,
) -> dict[str, list[float]]:
    """Start servers and load them in turn. Returns requests per CPU second by title."""
    bench.install(*servers)
    with ExitStack() as stack:
        started: dict[str, Running] = {
            server.title: stack.enter_context(running(server, workers, variables))
            for server in servers
        }
        found = alternate(bench, started, path, label=label, **load)
    return {title: [1 / value for value in values] for title, values in found.items()}


def by_workers(bench: Bench, workers: int) -> dict[str, list[float]]:
    servers = [bench.service, TORNADO, FASTAPI, AIOHTTP_GUNICORN]
    return requests_per_cpu_second(bench, servers, f"by-workers: {workers}", workers=workers)


def by_connections(bench: Bench, connections: int) -> dict[str, list[float]]:
    return requests_per_cpu_second(
        bench,
        [bench.service, TORNADO, FASTAPI, AIOHTTP],
        f"by-connections: {connections}",
        connections=connections,
        # It takes a while until all of them are there.
        seconds=1 if connections < 1_000 else 5,
    )


def by_size(bench: Bench, size: int) -> dict[str, list[float]]:
    return requests_per_cpu_second(
        bench,
        [bench.extended_service, TORNADO, FASTAPI, AIOHTTP],
        f"by-size: {size}",
        f"/json/{size}",
        # Some need 40 ms for a megabyte. What is not complete at the end of a load is not counted.
        connections=4,
        seconds=3,
    )


def by_routes(bench: Bench, routes: int) -> dict[str, list[float]]:
    return requests_per_cpu_second(
        bench,
        [bench.extended_service, TORNADO, FASTAPI, AIOHTTP],
        f"by-routes: {routes}",
        f"/r{routes - 1}/Ada",
        variables={"ROUTES": str(routes)},
    )


def memory_of_websockets(bench: Bench, count: int) -> dict[str, list[float]]:
    """Start servers in turn and open WebSockets. Returns MiB per 1,000 by title."""
    servers = [bench.service, TORNADO, FASTAPI, AIOHTTP]
    bench.install(*servers)
    found: dict[str, list[float]] = {server.title: [] for server in servers}
    for number in range(min(3, bench.effort.rounds)):
        for server in servers:
            bench.progress.show(f"by-websockets: {count:,}, round {number + 1}, {server.name}")
            with running(server) as process:
                # What the first ones need, such as modules, is not counted.
                with open_websockets(process.port, 50):
                    pass
                before = pss_bytes(process.pid)
                with open_websockets(process.port, count):
                    used = pss_bytes(process.pid) - before
            found[server.title].append(used / 2**20 / count * 1_000)
    return found


PER_CPU_SECOND = "requests per CPU second"
SERIES = [
    Series("by-workers", "Workers", "worker processes", PER_CPU_SECOND, [1, 2, 4], by_workers),
    Series(
        "by-connections",
        "Keep-alive connections",
        "connections",
        PER_CPU_SECOND,
        [10, 100, 1_000, 5_000],
        by_connections,
    ),
    Series(
        "by-size",
        "Size of the JSON in a response",
        "bytes of JSON",
        PER_CPU_SECOND,
        [1_000, 100_000, 1_000_000],
        by_size,
        log_y=True,
    ),
    Series(
        "by-routes",
        "Routes",
        "routes, the last is asked for",
        PER_CPU_SECOND,
        [10, 1_000],
        by_routes,
    ),
    Series(
        "by-websockets",
        "Idle WebSockets",
        "open WebSockets",
        "MiB per 1,000",
        [1_000, 4_000],
        memory_of_websockets,
    ),
]
