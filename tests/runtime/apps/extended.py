"""The sample application with two extensions that log what is called, in which order."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from runtime import Extension, Handler, Route, Service, ServiceInfo, Settings
from runtime.status import ProcessRow, StatusSource
from runtime.workers import Prefork
from tornado.web import RequestHandler

logger = logging.getLogger(__name__)


class Recorder(Extension):
    """Logs its calls. Those before the log is configured are in the fields of the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: list[str] = []

    def before_fork(self, rows: Sequence[ProcessRow]) -> None:
        self._parent = os.getpid()
        self._calls.append(f"before_fork, rows: {len(rows)}")

    def after_fork(self, row: ProcessRow) -> None:
        has_app = "tests.runtime.support.sample_app" in sys.modules
        assert os.getppid() == self._parent
        self._calls.append(f"after_fork, slot: {row.slot}, app imported: {has_app}")

    def admin_routes(self, status: StatusSource) -> Sequence[Route]:
        return [Route(f"/{self._name}", ShowCalls, calls=self._calls, status=status)]

    def lifespan(
        self, service: ServiceInfo, settings: Settings
    ) -> AbstractAsyncContextManager[object]:
        about = f"{service.name} {service.version}, threads: {settings.threads}"
        return self._lifespan(about)

    @asynccontextmanager
    async def _lifespan(self, about: str) -> AsyncIterator[None]:
        logger.info("%s entered", self._name, extra={"about": about, "calls": self._calls})
        yield
        logger.info("%s left", self._name)

    def request_finished(self, handler: RequestHandler) -> None:
        logger.info("%s finished", self._name)


class ShowCalls(Handler):
    """The calls of an extension in the process of the admin port."""

    def initialize(self, calls: list[str], status: StatusSource) -> None:
        self._calls = calls
        self._status = status

    def get(self) -> None:
        self.reply({"calls": self._calls, "workers": len(self._status.worker_statuses())})


service = Service(
    "extended_app",
    "1.7",
    processes=Prefork(),
    extensions=[Recorder("first"), Recorder("second")],
    settings="runtime.settings:Settings",
    app="tests.runtime.support.sample_app:make_app",
)

if __name__ == "__main__":
    sys.exit(service.main())
