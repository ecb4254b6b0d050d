"""The project's alert rules in a real Prometheus: each fires for its trouble, and none without."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from ..tools import needs
from .harness import Service, Starter, until
from .load import MIX, Load
from .operate import reload, renew, send_requests, start_on_ports
from .prometheus import prometheus

Trouble = Callable[[Service], AbstractContextManager[None]]

SCRAPES = "count_over_time(up[1h])"

# What clients do wrong is no trouble.
HEALTHY = [*MIX, "/", "/greetings/Ada", "/nowhere", "/status/404", "/status/422"]


@contextmanager
def failing(service: Service) -> Iterator[None]:
    with Load(service.port, ["/fail", "/who/0"], 4, pause=0.05):
        yield


@contextmanager
def slow(service: Service) -> Iterator[None]:
    with Load(service.port, ["/sleep/1.2"], 60):
        yield


@contextmanager
def lagging(service: Service) -> Iterator[None]:
    with send_requests(service.port + 1, "/block/1.5"):
        yield


@contextmanager
def blocked(service: Service) -> Iterator[None]:
    with send_requests(service.port, "/block/20"), send_requests(service.port + 1, "/block/20"):
        yield


@contextmanager
def dying(service: Service) -> Iterator[None]:
    for slot in (0, 1, 0, 1):
        renew(service, slot)
    yield


@contextmanager
def waiting(service: Service) -> Iterator[None]:
    with send_requests(service.port, "/sleep/20", 120):
        yield


@contextmanager
def gone(service: Service) -> Iterator[None]:
    service.signal(signal.SIGKILL, group=True)
    service.wait()
    yield


TROUBLES: dict[Trouble, set[str]] = {
    failing: {"HighErrorRatio"},
    slow: {"HighLatency"},
    lagging: {"EventLoopLag"},
    # Workers that are blocked lag and are missing as well.
    blocked: {"NoReadyWorker", "WorkersMissing", "EventLoopLag"},
    dying: {"WorkerCrashes"},
    waiting: {"TooManyRequestsInFlight"},
    gone: {"ServiceDown"},
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_raises_its_alerts_and_no_others(
    run: Starter, project: Path, trouble: Trouble
) -> None:
    service = start_on_ports(run, APP_HANG_TIMEOUT=0)
    with prometheus(project, run.folder, service) as watching:
        assert watching.fired() == set()
        with trouble(service):
            for alert in TROUBLES[trouble]:
                watching.wait_for_alert(alert)
        assert watching.fired() == TROUBLES[trouble]


def test_one_instance_that_is_down_is_told_from_the_service(run: Starter, project: Path) -> None:
    services = [start_on_ports(run), start_on_ports(run)]
    with prometheus(project, run.folder, *services) as watching, gone(services[0]):
        watching.wait_for_alert("InstanceDown")
        assert watching.fired() == {"InstanceDown"}


def test_connections_that_use_up_the_descriptors_raise_an_alert(
    run: Starter, project: Path
) -> None:
    # A worker has some twenty open before anybody comes.
    service = start_on_ports(run, wrapper=[needs("prlimit"), "--nofile=100"])
    with prometheus(project, run.folder, service) as watching, ExitStack() as connections:
        for _ in range(70):
            to_one = socket.create_connection(("127.0.0.1", service.port))
            connections.enter_context(to_one)
        watching.wait_for_alert("FileDescriptorsExhausted")
        assert watching.fired() == {"FileDescriptorsExhausted"}


def test_resource_that_fails_in_one_worker_is_told_from_one_that_fails_in_all(
    run: Starter, project: Path
) -> None:
    service = start_on_ports(run)
    with prometheus(project, run.folder, service) as watching:
        (run.folder / f"database-down-{service.processes()[1]}").touch()
        watching.wait_for_alert("ResourceFailing")
        assert watching.fired() == {"ResourceFailing"}
        (run.folder / "database-down").touch()
        watching.wait_for_alert("ResourceUnavailable")
        assert watching.fired() == {"ResourceFailing", "ResourceUnavailable"}


def test_nothing_fires_while_all_is_well(run: Starter, project: Path) -> None:
    service = start_on_ports(run)
    with (
        prometheus(project, run.folder, service) as watching,
        Load(service.port, HEALTHY, 4, pause=0.02) as load,
    ):
        reload(service)
        # As long as any alert takes: its window, its time, and the next look.
        scrapes = watching.value(SCRAPES)
        until(lambda: watching.value(SCRAPES) > scrapes + 16, "scrapes")
        assert load.answered > 500
        assert {rule["health"] for rule in watching.rules()} == {"ok"}
        assert watching.fired() == set()
