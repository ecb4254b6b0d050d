"""How a process is, and who wants to know."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

BEAT = 0.25
"""Seconds between two signs of life."""


class State(Enum):
    """A process is ready for traffic in one of these only."""

    STARTING = auto()
    READY = auto()
    DRAINING = auto()


@dataclass(frozen=True)
class Vitals:
    """How a worker is. A process that serves alone is worker 0."""

    worker: int
    pid: int
    """Its process; 0 if there is none just now."""
    ready: bool
    requests_in_flight: int
    event_loop_lag: float
    """Seconds by which its event loop is late, or was at most in the last 15 to 30 seconds."""
    restarts: int
    """How often it has died, been killed or not been able to start, a reload or stop aside."""


class Watcher(Protocol):
    """Whoever watches over a process that serves."""

    def report(self, state: State) -> None:
        """Hear of a new state."""

    def beat(self, in_flight: int, lag: float) -> None:
        """Hear, several times a second, that the event loop turns."""


class Watched(Protocol):
    """What the admin port tells about: one process, or all of them."""

    def why_not_ready(self) -> list[str]:
        """Say why no traffic should come; nothing if it should."""

    def vitals(self) -> list[Vitals]:
        """Tell how each worker is."""
