"""A service with a single process, which serves its admin port itself."""

import logging
import signal
import socket
from collections.abc import Sequence

from ..admin.handlers import make_admin_app
from ..errors import ShutdownError, StartupError
from ..http.application import Application
from ..logs import formatters
from ..logs.writer import ThreadedHandler
from ..monitor.events import (
    EVENT,
    SERVICE_STARTED,
    forward_events,
)
from ..monitor.monitor import Monitor
from ..settings import Settings
from ..starting import STOP_SIGNALS, handle_hangup
from ..status import ProcessDetails, State, Vitals
from .definition import ServiceDefinition
from .forks import isolate_forks
from .lifecycle import Lifecycle, run_event_loop
from .sockets import listening_url, open_sockets
from .systemd import SystemdNotifier

logger = logging.getLogger(__name__)


def serve(service: ServiceDefinition, settings: Settings) -> None:
    """Run the service in a single process until a signal.

    Raises `StartupError` and `ShutdownError`.
    """
    [public], admin = open_sockets(settings, [settings.port])
    isolate_forks([*public, *admin])
    try:
        formatters.configure(settings, ThreadedHandler(settings.log_file))
    except OSError as error:
        raise StartupError(f"cannot open the log file: {error}") from error
    monitor = Monitor()
    forward_events(monitor.events.append)
    for description in settings.unknown_variables():
        logger.warning(description)
    for name in settings.worker_limits:
        logger.warning("%s has no effect: it is for several workers, this is one process", name)
    try:
        run_event_loop(_serve(service, service.make_app(settings), monitor, public, admin))
    except (StartupError, ShutdownError) as error:
        logger.error("%s", error, exc_info=error.__cause__)
        raise
    except Exception:
        if not settings.debug:  # which prints the traceback
            logger.critical("the service failed", exc_info=True)
        raise


async def _serve(
    service: ServiceDefinition,
    application: Application,
    monitor: Monitor,
    public: Sequence[socket.socket],
    admin: Sequence[socket.socket],
) -> None:
    settings = application.config
    lifecycle = Lifecycle(
        application,
        public,
        service.info,
        service.extensions,
        drain_delay=settings.drain_delay,
    )
    _handle_signals(lifecycle)
    admin_app = make_admin_app(settings, lifecycle, monitor, service.extensions)
    admin_server = admin_app.create_server()
    admin_server.add_sockets(admin)
    urls = f"{listening_url(public)}, admin on {listening_url(admin)}"
    await lifecycle.run(StandaloneReporter(f"listening on {urls}"))
    await admin_server.drain(admin)
    logger.info("stopped")


def _handle_signals(lifecycle: Lifecycle) -> None:
    # `signal.signal`, not `loop.add_signal_handler`: must also work while the loop is blocked.
    for signum in STOP_SIGNALS:
        signal.signal(signum, lifecycle.on_signal)
    handle_hangup(lifecycle.on_signal)


class StandaloneReporter:
    """Reports the state of a single-process service to the log and to systemd."""

    def __init__(self, listening_message: str) -> None:
        self._listening_message = listening_message
        self._systemd = SystemdNotifier()

    def state_changed(self, state: State) -> None:
        if state is State.READY:
            logger.info(self._listening_message, extra={EVENT: SERVICE_STARTED})
            self._systemd.ready(self._listening_message)
        elif state is State.DRAINING:
            self._systemd.stopping()

    def details_changed(self, details: ProcessDetails) -> None:
        pass  # the lifecycle tells them

    def heartbeat(self, vitals: Vitals) -> None:
        self._systemd.ping_watchdog()
