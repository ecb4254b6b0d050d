"""A terminal: a real command in a pseudo-terminal, what it shows, and what is typed."""

import os
import pty
import re
import select
import signal
from collections.abc import Mapping
from pathlib import Path

PATIENCE = 60.0
"""Seconds to wait for something to be shown."""


class Terminal:
    """A command that believes it has a person in front of it.

    Args:
        command: the command and its arguments.
        folder: where it runs.
        environment: all of its environment variables.
    """

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.shown = ""
        self.read_up_to = 0
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {"TERM": "xterm", "LINES": "50", **environment})

    def read(self) -> bool:
        """Read what is shown next; false at the end."""
        ready, _, _ = select.select([self.terminal], [], [], PATIENCE)
        if not ready:
            raise TimeoutError(self.shown)
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # So Linux says that the other side is gone.
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str) -> None:
        """Read until a text has been shown after the last one that was waited for."""
        while (found := plain(self.shown).find(text, self.read_up_to)) < 0:
            assert self.read(), f"{text!r} is not in {self.shown}"
        self.read_up_to = found + len(text)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self.terminal, f"{line}\n".encode())

    def press(self, keys: str) -> None:
        """Press keys, such as ``\\x03`` for Ctrl-C."""
        os.write(self.terminal, keys.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """End the command if it goes on, and close the terminal."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.terminal)


def plain(text: str) -> str:
    """Remove colour."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
