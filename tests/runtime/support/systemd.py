"""A stand-in for systemd."""

import socket
from typing import Self


class FakeSystemd:
    """Receives the notifications of services at a Unix socket."""

    def __init__(self, address: str = "notify") -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)
        self._received: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def messages(self) -> list[str]:
        """Return all messages so far."""
        while True:
            try:
                self._received.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._received

    def states(self) -> list[str]:
        """Return the first line of each message: the state."""
        return [message.partition("\n")[0] for message in self.messages()]
