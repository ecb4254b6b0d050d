"""What the processes of a service share about what goes on."""

import time

from ..checksums import template_version
from .events import EventLog


class Monitor:
    """The shared memory of the live page. Created before the first fork.

    `service` is the name of the service.
    """

    def __init__(self, service: str = "") -> None:
        self.service = service
        self.template = template_version()
        """That of the runtime which runs: a reload does not renew it."""
        self.started = time.time()
        """When the service was started, in seconds since the epoch."""
        self.events = EventLog()
