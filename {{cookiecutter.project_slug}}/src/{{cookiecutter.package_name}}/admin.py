"""Health on the admin port, which is for operators and never for the public."""

import logging
from collections.abc import Callable

from .routing import Application
from .settings import Settings
from .web import Handler


class Live(Handler):
    """The event loop turns; whoever finds that it does not may restart the process."""

    def get(self) -> None:
        self.reply({"live": True})


class Ready(Handler):
    """Whether traffic should be sent here."""

    def initialize(self, why_not_ready: Callable[[], list[str]]) -> None:
        self._why_not_ready = why_not_ready

    def get(self) -> None:
        if reasons := self._why_not_ready():
            self.reply({"ready": False, "reasons": reasons}, status=503)
        else:
            self.reply({"ready": True})


def make_admin(settings: Settings, why_not_ready: Callable[[], list[str]]) -> Application:
    """Build what the admin port serves.

    `why_not_ready` returns the reasons, and none when the service is ready. Probes come all day:
    their access lines are at level debug.
    """
    return Application(
        settings,
        [
            ("/livez", Live),
            ("/readyz", Ready, {"why_not_ready": why_not_ready}),
        ],
        access_level=logging.DEBUG,
    )
