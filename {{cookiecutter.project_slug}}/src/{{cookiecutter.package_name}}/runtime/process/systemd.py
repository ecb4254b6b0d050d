"""systemd's protocol for services: what it is told, and that the service is alive.

Without systemd, or with a unit that is not of type notify, nothing here does anything. The sockets
that systemd may hand over are taken in `sockets.py`. Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import socket
import time


class Systemd:
    """Tells systemd what happens."""

    def __init__(self) -> None:
        # The variables are for this process and not for its children.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        pid, microseconds = os.environ.pop("WATCHDOG_PID", ""), os.environ.pop("WATCHDOG_USEC", "")
        self._interval = 0.0
        self._next_beat = 0.0
        if microseconds.isdecimal() and pid in ("", str(os.getpid())):
            # Three times as often as systemd asks for.
            self._interval = int(microseconds) / 1e6 / 3

    def ready(self, status: str) -> None:
        """Say that the service is ready, at the start and after each reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def beat(self) -> None:
        """Say that the service is alive. May be called as often as one likes."""
        now = time.monotonic()
        if self._interval and now >= self._next_beat:
            self._next_beat = now + self._interval
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            # systemd restarts a service that it does not hear from; there is no better cure.
            return
