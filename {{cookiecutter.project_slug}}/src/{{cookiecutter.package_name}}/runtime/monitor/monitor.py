"""What the processes of a service share about what goes on."""

import secrets
import time

from ..version import template_version
from .events import EventLog
from .history import History


class Monitor:
    """The shared memory of the live page. Created before the first fork.

    `service` is the name of the service, `slots` the number of workers that there may be at most.
    """

    def __init__(self, service: str = "", slots: int = 1) -> None:
        self.service = service
        self.template = template_version()
        """That of the runtime which runs: a reload does not renew it."""
        self.started = time.time()
        """When the service was started, in seconds since the epoch."""
        self.token = secrets.token_hex(4)
        """Differs from that of the service's earlier and later runs: theirs is another history."""
        self.events = EventLog()
        self.history = History(slots)
