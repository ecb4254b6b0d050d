"""Health on the admin port, which is for operators and never for the public."""

import logging

from .routing import Application, State
from .settings import Settings
from .web import Handler


class Live(Handler):
    """The event loop turns; whoever finds that it does not may restart the process."""

    def get(self) -> None:
        self.reply({"live": True})


class Ready(Handler):
    """Whether traffic should be sent here."""

    def initialize(self, service: Application) -> None:
        self._service = service

    def get(self) -> None:
        if self._service.state is State.READY:
            self.reply({"ready": True})
        else:
            self.reply({"ready": False, "reasons": [self._service.state.name.lower()]}, status=503)


def make_admin(settings: Settings, service: Application) -> Application:
    """Build what the admin port serves.

    Probes come all day: their access lines are at level debug.
    """
    return Application(
        settings,
        [
            ("/livez", Live),
            ("/readyz", Ready, {"service": service}),
        ],
        access_level=logging.DEBUG,
    )
