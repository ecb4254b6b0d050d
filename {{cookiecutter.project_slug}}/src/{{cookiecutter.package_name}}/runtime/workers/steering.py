"""Lets clients of the control socket reload and resize, and tells them how that has ended."""

import json
from collections.abc import Callable
from typing import Protocol

from ..control.protocol import Message
from ..control.server import ControlClient, ControlServer
from ..control.steering import Steering
from ..monitor.events import REQUESTS_ABORTED
from ..status import StatusSource
from ..version import ServiceInfo
from .operations import Operation, RefusedError


class Steerable(Protocol):
    """What the supervisor can do."""

    def reload(self, reason: str) -> Operation:
        """Begin to replace all processes. Raises `RefusedError`."""
        ...

    @property
    def operation(self) -> Operation | None:
        """What is going on."""
        ...

    def resize(self, count: int) -> Operation:
        """Begin to run another number of workers. Raises `RefusedError`."""
        ...

    def stop(self, reason: str) -> None:
        """Begin to stop; nothing if the service is stopping."""
        ...


class SupervisorSteering(Steering):
    """Steers `supervisor`. `status` is that of the workers."""

    def __init__(
        self,
        server: ControlServer | None,
        info: ServiceInfo,
        supervisor: Steerable,
        status: StatusSource,
        *,
        is_under_systemd: bool,
    ) -> None:
        super().__init__(server, info)
        self.attach(status, supervisor.stop, is_under_systemd=is_under_systemd)
        self._supervisor = supervisor
        self._operations: list[tuple[ControlClient, Operation]] = []
        """The clients that wait, and for what."""

    def report_event(self, event: bytes) -> None:
        """Warn the clients that wait, if a process has aborted requests."""
        values = json.loads(event)
        if values["name"] == REQUESTS_ABORTED:
            worker = values["worker"]
            process = "admin process" if worker is None else f"worker {worker}"
            self.warn(f"{process}: {values['message']}")

    def _waiting(self) -> list[ControlClient]:
        return [*super()._waiting(), *(client for client, _ in self._operations)]

    def _going_on(self) -> tuple[str, str] | None:
        operation = self._supervisor.operation
        return (operation.name, operation.progress) if operation else None

    def _begin_reload(self, client: ControlClient, request: Message) -> None:
        self._begin(client, lambda: self._supervisor.reload("reload command"))

    def _begin_resize(self, client: ControlClient, request: Message) -> None:
        count = request.get("count")
        if type(count) is not int:
            client.finish(False, "the number of workers must be a whole number")
            return
        self._begin(client, lambda: self._supervisor.resize(count))

    def _begin(self, client: ControlClient, begin: Callable[[], Operation]) -> None:
        try:
            self._operations.append((client, begin()))
        except RefusedError as error:
            client.finish(False, str(error))

    def _finish_operations(self) -> None:
        self._operations = [
            (client, operation)
            for client, operation in self._operations
            if not (client.is_closed or client.is_finished)
        ]
        for client, operation in self._operations:
            with self._failure_told(client):
                if outcome := operation.final_outcome:
                    for warning in outcome.warnings:
                        client.send({"warning": warning})
                    client.finish(outcome.success, outcome.message)
