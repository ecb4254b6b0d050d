"""What operators and clients do to a service with workers: reload it, kill workers, block them."""

import contextlib
import os
import signal
import socket

from ..ports import free_ports
from .harness import FAULTS, Service, Starter, request, until


def start_on_ports(run: Starter, workers: int = 2, **settings: object) -> Service:
    """Start workers, all ready, with a port for each."""
    ports = {"APP_PORT": free_ports(workers)[0], "APP_PORT_PER_WORKER": workers > 1}
    service = run.faulty(FAULTS, APP_WORKERS=workers, QUIET=1, **ports, **settings)
    if workers > 1:
        service.workers(workers)
    return service


def in_flight(service: Service) -> int:
    """Count the requests in flight at all workers."""
    workers = service.ask("/workers", admin=True).json["workers"]
    return sum(worker["requests_in_flight"] for worker in workers)


def reload(service: Service) -> None:
    """Reload and wait until all is renewed."""
    before = service.messages().count("reloaded")
    service.signal(signal.SIGHUP)
    until(lambda: service.messages().count("reloaded") > before, "reloaded")


def renew(service: Service, *slots: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to workers and wait for their successors."""
    victims = [service.processes()[slot] for slot in slots]
    for victim in victims:
        os.kill(victim, signum)
    until(lambda: not set(victims) & set(service.processes().values()), "successors")


def send_requests(port: int, path: str, count: int = 1) -> contextlib.ExitStack:
    """Send a request on each of `count` connections. Return what closes them."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port))
            stack.enter_context(connection)
            connection.sendall(request(path))
        return stack.pop_all()
