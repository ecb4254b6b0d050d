"""Extensions: optional parts that plug into every process and every request, such as metrics."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from .http.hooks import RequestHooks
from .http.routing import Route
from .settings import Settings
from .status import ProcessRow, StatusSource
from .version import ServiceInfo


class Extension(RequestHooks):
    """Base class of extensions. Override what you need; every method does nothing by default.

    `__main__.py` lists the extensions of a service. They exist before the workers are forked, so
    a reload renews neither them nor their modules: a change takes a restart. The methods are
    called in this order: `before_fork`, `after_fork`, `lifespan`, then `request_started` and its
    like for each request. A single-process service calls neither `before_fork` nor `after_fork`.
    The admin process calls `after_fork` and `admin_routes` only.

    Example: report unexpected errors to a tracker; docs/change.md has all of it for Sentry. ::

        class ErrorTracker(Extension):
            def lifespan(self, service, settings):
                sentry_sdk.init(release=service.version, default_integrations=False)
                return nullcontext()

            def error_raised(self, error, request):
                tags = {"route": request.route, "request_id": request.id} if request else {}
                sentry_sdk.capture_exception(error, tags=tags)
    """

    def before_fork(self, rows: Sequence[ProcessRow]) -> None:
        """Prepare in the supervisor, for example allocate shared memory.

        `rows` has one row for each process that can exist at a time. Start no thread here: it
        would not survive the fork.
        """

    def after_fork(self, row: ProcessRow) -> None:
        """Prepare in a new process, before the code of the service is imported.

        `row` is the row of this process. Called in the workers and in the admin process.
        """

    def admin_routes(self, status: StatusSource) -> Sequence[Route]:
        """Return routes for the admin port. `status` tells the state of the service."""
        return ()

    def lifespan(
        self, service: ServiceInfo, settings: Settings
    ) -> AbstractAsyncContextManager[object]:
        """Return a context that is entered before the resources and left after them.

        Raise `StartupError` in it if the service must not start.
        """
        return nullcontext()
