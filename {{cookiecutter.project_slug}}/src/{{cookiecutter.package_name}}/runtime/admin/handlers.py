"""The application of the admin port: health checks, the status of the workers, the live page."""

import logging
import platform
from collections.abc import Sequence

from ..extensions import Extension
from ..http.application import Application
from ..http.handler import Handler
from ..http.resources import Resource
from ..http.routing import Route
from ..logs.formatters import timestamp
from ..monitor.monitor import Monitor
from ..settings import Settings
from ..status import StatusSource, loaded_code
from .feed import Feed
from .live import live_routes


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


class VersionHandler(Handler):
    """``GET /version``: which code the workers run. Null if they differ, as during a reload."""

    def initialize(self, status: StatusSource, monitor: Monitor) -> None:
        self._status = status
        self._monitor = monitor

    def get(self) -> None:
        statuses = self._status.worker_statuses()
        workers = [
            {"worker": w.worker, "version": w.details.version, "revision": w.details.revision}
            for w in statuses
            if w.details.version
        ]
        self.reply(
            {
                "name": self._monitor.info.name,
                "version": None,
                "revision": None,
                **loaded_code(statuses),
                "template": self._monitor.template,
                "python": platform.python_version(),
                "started": timestamp(self._monitor.started),
                "workers": workers,
            }
        )


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
        Route("/version", VersionHandler, status=status, monitor=monitor),
    ]
    feed = Feed(status, monitor)
    routes += live_routes(feed)
    for extension in extensions:
        routes += extension.admin_routes(status)
    # No page of another origin may read what it says.
    settings = settings.model_copy(update={"cors_origins": ()})
    resources = [Resource("live page", feed.running)]
    return Application(settings, routes, resources=resources, access_level=logging.DEBUG)
