"""States and status of processes, and the interfaces that use them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

HEARTBEAT_INTERVAL = 0.25
"""Seconds between two heartbeats of an event loop."""

ADMIN_SLOT = -1
"""The slot of the process that serves the admin port; the slots of the workers count from 0."""


class State(Enum):
    """Lifecycle states of a serving process."""

    STARTING = auto()
    READY = auto()
    DRAINING = auto()


@dataclass(frozen=True)
class Vitals:
    """What a serving process reports with each heartbeat."""

    requests_in_flight: int = 0
    event_loop_lag: float = 0.0
    """Seconds by which callbacks ran late: the maximum of the last 15 to 30 seconds."""
    websockets: int = 0
    """Open WebSockets."""
    event_streams: int = 0
    """Open streams of server-sent events."""
    memory: int = 0
    """Resident memory in bytes; 0 if the system does not tell."""


@dataclass(frozen=True)
class ResourceCheck:
    """The last check of a resource by one process. Times are in seconds until now."""

    resource: str
    passing: bool
    """False also before the first check has ended."""
    error: str = ""
    """Type and message of the exception; empty if there is none."""
    unchanged_for: float = 0.0
    """Since it has begun to pass, or to fail."""
    checked_ago: float | None = None
    """Since the last check has ended; None before the first one has."""


@dataclass(frozen=True)
class ProcessDetails:
    """What a serving process says about itself, beside numbers."""

    version: str = ""
    """The version of the service's code that it has loaded."""
    revision: str = ""
    """The revision of that code; empty if it is unknown."""
    checks: tuple[ResourceCheck, ...] = ()
    """Of the resources that have a check."""


@dataclass(frozen=True)
class WorkerStatus:
    """Status of one worker. A single-process service is worker 0."""

    worker: int
    pid: int
    """Process id; 0 while there is no process."""
    ready: bool
    requests_in_flight: int
    event_loop_lag: float
    """Seconds by which callbacks ran late: the maximum of the last 15 to 30 seconds."""
    restarts: int
    """Crashes, kills and failed starts; reloads and stops are not counted."""
    state: str = "missing"
    """``starting``, ``ready``, ``draining``, ``blocked``, or ``missing`` without a process."""
    age: float = 0.0
    """Seconds since the process was started."""
    requests: int = 0
    """Responses of this process."""
    memory: int = 0
    """Resident memory in bytes; 0 if the system does not tell."""
    websockets: int = 0
    """Open WebSockets."""
    event_streams: int = 0
    """Open streams of server-sent events."""
    details: ProcessDetails = ProcessDetails()


def loaded_code(workers: Iterable[WorkerStatus]) -> dict[str, str | None]:
    """Return the version and the revision that the workers run, None for what differs.

    Empty before a worker has said it.
    """
    details = [worker.details for worker in workers if worker.details.version]
    if not details:
        return {}
    return {
        "version": _common(detail.version for detail in details),
        "revision": _common(detail.revision for detail in details),
    }


def _common(values: Iterable[str]) -> str | None:
    """Return the value that all have; None if they differ."""
    first, *others = set(values)
    return None if others else first


@dataclass(frozen=True)
class ResourceStatus:
    """A resource that has a check, in all workers that respond. Times are in seconds until now."""

    resource: str
    failing_workers: Sequence[int]
    error: str
    """Why it fails, in the worker in which it has failed for the longest time."""
    failing_for: float
    """Since it has begun to fail in that worker; 0 if it works in every worker."""
    checked_ago: float | None
    """Since the last check in that worker, or the oldest one of all; None before the first."""


class ProcessRow(Protocol):
    """What the scoreboard knows about one process. A row is used by one process after another."""

    @property
    def slot(self) -> int:
        """The number of the worker, or `ADMIN_SLOT`."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the process is in the state READY."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the process is in the state DRAINING."""
        ...


class StateReporter(Protocol):
    """Receives the state changes, details and heartbeats of a serving process."""

    def state_changed(self, state: State) -> None:
        """Called when the process enters a state."""

    def details_changed(self, details: ProcessDetails) -> None:
        """Called before the process is ready, and whenever its details change."""

    def heartbeat(self, vitals: Vitals) -> None:
        """Called by the event loop every `HEARTBEAT_INTERVAL`."""


class StatusSource(Protocol):
    """What the admin port reports: one process, or all workers."""

    def not_ready_reasons(self) -> list[str]:
        """Return why the service should get no traffic; empty if it is ready."""
        ...

    def worker_statuses(self) -> list[WorkerStatus]:
        """Return the status of each worker."""
        ...

    def resource_statuses(self) -> list[ResourceStatus]:
        """Return the status of each resource that has a check."""
        ...

    def statistics(self) -> Sequence[int]:
        """Return what was counted since the start, over all workers: see `monitor.statistics`."""
        ...
