"""Does what clients ask for. This is what a single process can do; the supervisor adds to it."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..status import StatusSource, loaded_code
from ..version import ServiceInfo
from .protocol import RELOAD, STATUS, STOP, WORKERS, Message
from .server import ControlClient, ControlServer

NOT_RELOADED = "this service runs in a single process, which cannot be reloaded: restart it"
NOT_RESIZED = (
    "this service runs in a single process, without a supervisor: "
    "restart it with another number of APP_WORKERS"
)
RESTARTED_BY_SYSTEMD = "systemd may start the service again: `systemctl stop` stops it for good"

logger = logging.getLogger(__name__)


class Steering:
    """Answers the requests of the clients of `server`, which may be None: then there are none.

    `info` is what the status says of the service: its name, version and revision.
    """

    def __init__(self, server: ControlServer | None, info: ServiceInfo) -> None:
        self._server = server
        self._info = info
        self._started = time.monotonic()
        self._stopping: list[ControlClient] = []
        """Clients that wait for the end."""
        self._commands = {
            STATUS: self._send_status,
            STOP: self._begin_stop,
            RELOAD: self._begin_reload,
            WORKERS: self._begin_resize,
        }

    def attach(
        self, status: StatusSource, stop: Callable[[str], object], *, is_under_systemd: bool
    ) -> None:
        """Say where the status comes from, and how the service is stopped, with a reason."""
        self._status = status
        self._stop = stop
        self._is_under_systemd = is_under_systemd

    @property
    def filenos(self) -> list[int]:
        """Descriptors that are readable when there is something to `handle`."""
        return [self._server.fileno()] if self._server else []

    def handle(self) -> None:
        """Do what clients ask for. Never waits, and never fails."""
        if not self._server:
            return
        try:
            for client, request in self._server.receive():
                self._respond(client, request)
            self._finish_operations()
        except Exception:  # nothing that a client does is worth the end of the service
            if self._server:  # otherwise another thread has closed it, in `aborted`
                logger.exception("the control socket failed")

    def report(self, progress: str) -> None:
        """Tell the clients that wait what has been done."""
        for client in self._waiting():
            client.send({"progress": progress})

    def warn(self, warning: str) -> None:
        """Tell the clients that wait what they ought to know."""
        for client in self._waiting():
            client.send({"warning": warning})

    def stopped(self, success: bool, message: str) -> None:
        """Tell the clients that wait for the end how it was. They stay connected until it comes."""
        for client in self._stopping:
            client.send({"success": success, "message": message})

    def aborted(self, message: str, exit_code: int) -> None:
        """Tell them that this process exits at once, and what that ends, if anything.

        Called in any thread.
        """
        success = exit_code == 0
        with suppress(Exception):  # another thread may be in the middle of something
            if message:
                self.warn(message)
            self.stopped(success, "stopped" if success else "stopping was aborted")
        self.close()

    def close(self) -> None:
        """Delete the socket."""
        server, self._server = self._server, None
        if server:
            server.close()

    def _waiting(self) -> list[ControlClient]:
        return self._stopping

    def _respond(self, client: ControlClient, request: Message) -> None:
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if not command:
            client.finish(False, "unknown command")
            return
        with self._failure_told(client):
            command(client, request)

    @contextmanager
    def _failure_told(self, client: ControlClient) -> Iterator[None]:
        """Let an exception end the command of this client, and no other."""
        try:
            yield
        except Exception as error:
            client.finish(False, f"the command failed: {error!r}")
            logger.exception("a command failed")

    def _finish_operations(self) -> None:
        """Answer those whose operation is over."""

    def _going_on(self) -> tuple[str, str] | None:
        """Return the name of what is going on, and how far it is in words."""
        return None

    def _send_status(self, client: ControlClient, request: Message) -> None:
        reasons = self._status.not_ready_reasons()
        workers = self._status.worker_statuses()
        operation = self._going_on()
        status = {
            **dataclasses.asdict(self._info),
            **loaded_code(workers),
            "pid": os.getpid(),
            "operation": operation and operation[0],
            "progress": operation and operation[1],
            "age": time.monotonic() - self._started,
            "ready": not reasons,
            "reasons": reasons,
            "workers": [dataclasses.asdict(worker) for worker in workers],
        }
        client.finish(not reasons, "", status=status)

    def _begin_stop(self, client: ControlClient, request: Message) -> None:
        self._stopping.append(client)
        if self._is_under_systemd:
            client.send({"warning": RESTARTED_BY_SYSTEMD})
        self._stop("stop command")

    def _begin_reload(self, client: ControlClient, request: Message) -> None:
        client.finish(False, NOT_RELOADED)

    def _begin_resize(self, client: ControlClient, request: Message) -> None:
        client.finish(False, NOT_RESIZED)
