"""The application of the admin port: health checks, the status of the workers, the live page."""

import logging
from collections.abc import Sequence

from ..extensions import Extension
from ..http.application import Application
from ..http.handler import Handler
from ..http.resources import Resource
from ..http.routing import Route
from ..monitor.monitor import Monitor
from ..settings import Settings
from ..status import StatusSource
from .feed import Feed
from .live import live_routes


class LiveHandler(Handler):
    """``GET /livez``: 200 while the event loop runs."""

    def get(self) -> None:
        self.reply({"live": True})


class ReadyHandler(Handler):
    """``GET /readyz``: 200 if the service is ready for traffic, 503 with the reasons if not."""

    def initialize(self, status: StatusSource) -> None:
        self._status = status

    def get(self) -> None:
        if reasons := self._status.not_ready_reasons():
            self.reply({"ready": False, "reasons": reasons}, status=503)
        else:
            self.reply({"ready": True})


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
    """Build the application of the admin port: health, status, live page, the extensions' routes.

    Its resource records the history that the page shows.

    Access log lines are at level debug, because probes are frequent.
    """
    routes = [
        Route("/livez", LiveHandler),
        Route("/readyz", ReadyHandler, status=status),
        Route("/workers", WorkersHandler, status=status),
    ]
    feed = Feed(status, monitor)
    routes += live_routes(feed)
    for extension in extensions:
        routes += extension.admin_routes(status)
    # No page of another origin may read what it says.
    settings = settings.model_copy(update={"cors_origins": ()})
    resources = [Resource("live page", feed.running)]
    return Application(settings, routes, resources=resources, access_level=logging.DEBUG)
