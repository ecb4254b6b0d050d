"""Where a process is in its life, and who wants to know."""

from enum import Enum, auto
from typing import Protocol


class State(Enum):
    """A process is ready for traffic in one of these only."""

    STARTING = auto()
    READY = auto()
    DRAINING = auto()


class Watcher(Protocol):
    """Whoever watches over a process that serves."""

    def report(self, state: State) -> None:
        """Hear of a new state."""

    def beat(self, in_flight: int) -> None:
        """Hear, several times a second, that the event loop turns."""
