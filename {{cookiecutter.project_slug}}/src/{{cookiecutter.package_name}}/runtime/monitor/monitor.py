"""What the processes of a service share about what goes on."""

from .events import EventLog


class Monitor:
    """The shared memory of the live page. Created before the first fork."""

    def __init__(self) -> None:
        self.events = EventLog()
