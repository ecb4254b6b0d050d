"""A service with a single process, which serves its admin port itself."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from ..admin.handlers import make_admin_app
from ..control.protocol import KEEP_ALIVE_INTERVAL
from ..control.server import open_control
from ..control.steering import Steering
from ..errors import ShutdownError, StartupError
from ..http.application import Application
from ..logs import formatters
from ..logs.writer import ThreadedHandler
from ..monitor.events import EVENT, SERVICE_STARTED, forward_events
from ..monitor.monitor import Monitor
from ..settings import Settings
from ..starting import STOP_SIGNALS, handle_hangup
from ..status import ProcessDetails, State, Vitals
from .definition import ServiceDefinition, log_start
from .forks import isolate_forks
from .lifecycle import Lifecycle, open_resources, run_event_loop
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
    monitor = Monitor(service.read_info())
    log_start(monitor.info, monitor.template)
    port = admin[0].getsockname()[1]
    control = open_control(settings.control_socket, service.info.name, port)
    steering = Steering(control, monitor.info)
    forward_events(monitor.events.append)
    for description in settings.unknown_variables():
        logger.warning(description)
    for name in settings.worker_limits:
        logger.warning("%s has no effect: it is for several workers, this is one process", name)
    try:
        application = service.make_app(settings)
        run_event_loop(_serve(service, application, monitor, steering, public, admin))
        steering.stopped(True, "stopped")
    except (StartupError, ShutdownError) as error:
        steering.stopped(False, str(error))
        logger.error("%s", error, exc_info=error.__cause__)
        raise
    except Exception:
        if not settings.debug:  # which prints the traceback
            logger.critical("the service failed", exc_info=True)
        raise
    finally:
        steering.close()


async def _serve(
    service: ServiceDefinition,
    application: Application,
    monitor: Monitor,
    steering: Steering,
    public: Sequence[socket.socket],
    admin: Sequence[socket.socket],
) -> None:
    settings = application.config
    lifecycle = Lifecycle(
        application,
        public,
        monitor.info,
        service.extensions,
        drain_delay=settings.drain_delay,
    )
    reporter = StandaloneReporter(
        f"listening on {listening_url(public)}, admin on {listening_url(admin)}"
    )
    _handle_signals(lifecycle)
    _handle_commands(lifecycle, steering, is_under_systemd=reporter.is_under_systemd)
    admin_app = make_admin_app(settings, lifecycle, monitor, service.extensions)
    admin_server = admin_app.create_server()
    admin_server.add_sockets(admin)
    async with AsyncExitStack() as stack:
        await open_resources(admin_app, stack)
        await lifecycle.run(reporter)
        await admin_server.drain(admin)
    logger.info("stopped")


def _handle_signals(lifecycle: Lifecycle) -> None:
    # `signal.signal`, not `loop.add_signal_handler`: must also work while the loop is blocked.
    for signum in STOP_SIGNALS:
        signal.signal(signum, lifecycle.on_signal)
    handle_hangup(lifecycle.on_signal)


def _handle_commands(lifecycle: Lifecycle, steering: Steering, *, is_under_systemd: bool) -> None:
    loop = asyncio.get_running_loop()

    def abort(message: str, exit_code: int) -> None:
        logger.info("stopped")
        steering.aborted(message, exit_code)

    steering.attach(lifecycle, lifecycle.stop, is_under_systemd=is_under_systemd)
    lifecycle.on_abort = abort
    for fileno in steering.filenos:
        loop.add_reader(fileno, steering.handle)

    def tick() -> None:
        steering.handle()
        loop.call_later(KEEP_ALIVE_INTERVAL, tick)

    if steering.filenos:
        tick()


class StandaloneReporter:
    """Reports the state of a single-process service to the log and to systemd."""

    def __init__(self, listening_message: str) -> None:
        self._listening_message = listening_message
        self._systemd = SystemdNotifier()

    @property
    def is_under_systemd(self) -> bool:
        """Whether systemd has started this process."""
        return self._systemd.is_present

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
