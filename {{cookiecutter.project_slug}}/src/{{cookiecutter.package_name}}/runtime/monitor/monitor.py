"""What the processes of a service share about what goes on."""

import secrets
import time

from ..version import ServiceInfo, template_version
from .events import EventLog
from .history import History


class Monitor:
    """What the service is, and the shared memory of its events and history.

    Created once, before the first fork. `info` says what was started, `slots` how many workers
    there may be at most.
    """

    def __init__(self, info: ServiceInfo, slots: int = 1) -> None:
        self.info = info
        """What was started: a reload may have brought newer code to the workers since then."""
        self.template = template_version()
        """That of the runtime which runs: a reload does not renew it."""
        self.started = time.time()
        """When the service was started, in seconds since the epoch."""
        self.token = secrets.token_hex(4)
        """Differs from that of the service's earlier and later runs: theirs is another history."""
        self.events = EventLog()
        self.history = History(slots)
