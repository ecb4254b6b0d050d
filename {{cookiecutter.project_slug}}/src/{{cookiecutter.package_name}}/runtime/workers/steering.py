"""Lets clients of the control socket reload and resize, and tells them how that has ended."""

from collections.abc import Callable, Mapping
from typing import Protocol

from ..control.protocol import MAX_WORKERS, Message
from ..control.server import ControlClient, ControlServer
from ..control.steering import Steering
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


class SupervisorSteering(Steering):
    """Steers the supervisor."""

    def __init__(self, server: ControlServer | None, service: Mapping[str, str]) -> None:
        super().__init__(server, service)
        self._operations: list[tuple[ControlClient, Operation]] = []
        """Who waits for what."""

    def attach_supervisor(self, supervisor: Steerable) -> None:
        """Say what is to be steered."""
        self._supervisor = supervisor

    def _waiting(self) -> list[ControlClient]:
        return [*super()._waiting(), *(client for client, _ in self._operations)]

    def _going_on(self) -> tuple[str, str] | None:
        operation = self._supervisor.operation
        return (operation.name, operation.progress) if operation else None

    def _begin_reload(self, client: ControlClient, request: Message) -> None:
        self._begin(client, lambda: self._supervisor.reload("reload command"))

    def _begin_resize(self, client: ControlClient, request: Message) -> None:
        count = request.get("count")
        if type(count) is not int or not 1 <= count <= MAX_WORKERS:
            client.finish(False, f"the number of workers must be 1 to {MAX_WORKERS}")
            return
        self._begin(client, lambda: self._supervisor.resize(count))

    def _begin(self, client: ControlClient, begin: Callable[[], Operation]) -> None:
        try:
            self._operations.append((client, begin()))
        except RefusedError as error:
            client.finish(False, str(error))

    def _finish_operations(self) -> None:
        for client, operation in self._operations:
            if outcome := operation.final_outcome:
                for warning in outcome.warnings:
                    client.send({"warning": warning})
                client.finish(outcome.success, outcome.message)
        self._operations = [
            (client, operation)
            for client, operation in self._operations
            if not (client.is_closed or client.is_finished)
        ]
