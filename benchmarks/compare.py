"""Compares servers by the CPU time of a request, in short loads that alternate."""

from collections.abc import Mapping

from .bench import Bench
from .environments import BenchmarkError
from .load import CONNECTIONS, put_load
from .measure import cpu_seconds
from .process import Running


def cpu_per_request(
    server: Running, path: str = "/", *, seconds: int = 1, connections: int = CONNECTIONS
) -> float:
    """Load a server and return the CPU seconds that all its processes have used per request."""
    before = cpu_seconds(server.pid)
    load = put_load(server.port, path, seconds=seconds, connections=connections)
    return (cpu_seconds(server.pid) - before) / load.requests


def alternate(
    bench: Bench,
    servers: Mapping[str, Running],
    path: str = "/",
    *,
    seconds: int = 1,
    connections: int = CONNECTIONS,
    label: str = "",
) -> dict[str, list[float]]:
    """Return the CPU seconds per request of each server, one value for each round.

    The speed of a machine drifts, so each server is loaded once in each round, in an order that
    rotates. Before that, each is warmed up.
    """
    names = list(servers)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(bench.effort.rounds + 1):
        bench.progress.show(f"{label or 'load'}: round {number} of {bench.effort.rounds}")
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            try:
                value = cpu_per_request(
                    servers[name], path, seconds=seconds, connections=connections
                )
            except BenchmarkError as error:
                raise BenchmarkError(f"{name}: {error}") from error
            if number > 0:
                found[name].append(value)
    return found
