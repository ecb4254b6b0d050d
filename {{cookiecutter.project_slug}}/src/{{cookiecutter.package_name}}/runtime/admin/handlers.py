"""The handlers of the admin port: health checks and the status of the workers."""

import logging
from collections.abc import Sequence

from ..extensions import Extension
from ..http.application import Application
from ..http.handler import Handler
from ..http.routing import Route
from ..monitor.monitor import Monitor
from ..settings import Settings
from ..status import StatusSource


class LiveHandler(Handler):
    """``GET /livez``: 200 while the event loop runs."""

    def get(self) -> None:
        self.reply({"live": True})


class ReadyHandler(Handler):
    """``GET /readyz``: 200 if the service is ready for traffic, 503 with the reasons if not.

    Nothing is checked for it: it says how the last checks of the resources went.
    """

    def initialize(self, status: StatusSource) -> None:
        self._status = status

    def get(self) -> None:
        reasons = self._status.not_ready_reasons()
        body: dict[str, object] = {"ready": not reasons}
        if reasons:
            body["reasons"] = reasons
        if resources := self._status.resource_statuses():
            body["resources"] = resources
        self.reply(body, status=503 if reasons else 200)


class WorkersHandler(Handler):
    """``GET /workers``: the status of each worker."""

    def initialize(self, status: StatusSource) -> None:
        self._status = status

    def get(self) -> None:
        self.reply({"workers": self._status.worker_statuses()})


def make_admin_app(
    settings: Settings,
    status: StatusSource,
    monitor: Monitor,
    extensions: Sequence[Extension] = (),
) -> Application:
    """Build the application of the admin port: health, status, and the extensions' routes.

    Access log lines are at level debug, because probes are frequent.
    """
    routes = [
        Route("/livez", LiveHandler),
        Route("/readyz", ReadyHandler, status=status),
        Route("/workers", WorkersHandler, status=status),
    ]
    for extension in extensions:
        routes += extension.admin_routes(status)
    # No page of another origin may read what it says.
    settings = settings.model_copy(update={"cors_origins": ()})
    return Application(settings, routes, access_level=logging.DEBUG)
