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
from .prometheus import prometheus
from .test_metrics import block, renew, start
from .test_workers import ask_without_waiting, reload

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
    with block(service.port + 1, 1.5):
        yield


@contextmanager
def blocked(service: Service) -> Iterator[None]:
    with block(service.port, 20), block(service.port + 1, 20):
        yield


@contextmanager
def dying(service: Service) -> Iterator[None]:
    for slot in (0, 1, 0, 1):
        renew(service, range(slot, slot + 1), signal.SIGKILL)
    yield


@contextmanager
def waiting(service: Service) -> Iterator[None]:
    with ask_without_waiting(service, "/sleep/20", 120):
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
    service = start(run, APP_HANG_TIMEOUT=0)
    with prometheus(project, run.folder, service) as watching:
        assert watching.fired() == set()
        with trouble(service):
            for alert in TROUBLES[trouble]:
                watching.wait_for_alert(alert)
        assert watching.fired() == TROUBLES[trouble]


def test_one_instance_that_is_down_is_told_from_the_service(run: Starter, project: Path) -> None:
    services = [start(run), start(run)]
    with prometheus(project, run.folder, *services) as watching, gone(services[0]):
        watching.wait_for_alert("InstanceDown")
        assert watching.fired() == {"InstanceDown"}


def test_connections_that_use_up_the_descriptors_raise_an_alert(
    run: Starter, project: Path
) -> None:
    # A worker has some twenty open before anybody comes.
    service = start(run, wrapper=[needs("prlimit"), "--nofile=100"])
    with prometheus(project, run.folder, service) as watching, ExitStack() as connections:
        for _ in range(70):
            to_one = socket.create_connection(("127.0.0.1", service.port))
            connections.enter_context(to_one)
        watching.wait_for_alert("FileDescriptorsExhausted")
        assert watching.fired() == {"FileDescriptorsExhausted"}


def test_nothing_fires_while_all_is_well(run: Starter, project: Path) -> None:
    service = start(run)
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
