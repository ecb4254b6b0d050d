"""Notifications to systemd (sd_notify): ready, reloading, stopping, watchdog.

Does nothing without NOTIFY_SOCKET. The sockets that systemd may pass are inherited in `sockets`.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import os
import socket
import time


class SystemdNotifier:
    """Sends sd_notify messages."""

    def __init__(self) -> None:
        # Removed from the environment, so that children do not inherit them.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        is_main = os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
        self.is_present = is_main or bool(self._address)
        """Whether systemd has started this process."""
        pid, microseconds = os.environ.pop("WATCHDOG_PID", ""), os.environ.pop("WATCHDOG_USEC", "")
        self._interval = 0.0
        self._next_ping = 0.0
        if microseconds.isdecimal() and pid in ("", str(os.getpid())):
            # Three times as often as systemd asks for.
            self._interval = int(microseconds) / 1e6 / 3

    def ready(self, status: str) -> None:
        """Send READY=1: at the start, and after each reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Send RELOADING=1."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self) -> None:
        """Send STOPPING=1."""
        self._send("STOPPING=1", "STATUS=stopping")

    def ping_watchdog(self) -> None:
        """Send WATCHDOG=1 when it is due. Cheap to call often."""
        now = time.monotonic()
        if self._interval and now >= self._next_ping:
            self._next_ping = now + self._interval
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            # Nothing to do: without pings the watchdog restarts the service.
            return
