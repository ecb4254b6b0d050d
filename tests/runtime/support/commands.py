"""The commands that speak to a running service, as processes of their own."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.control.protocol import STATUS, Message, decode, encode
from runtime.testing import POLL_INTERVAL, WAIT_TIMEOUT, ServiceProcess


@dataclass(frozen=True)
class Result:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def last_error(self) -> str:
        """The last line that it has written to standard error."""
        return self.err.splitlines()[-1]


class Command:
    """A command that runs, such as ``Command(process, "reload")``."""

    def __init__(self, process: ServiceProcess, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", process.module, *arguments],
            cwd=process.folder,
            env=process.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def send_signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    async def result(self) -> Result:
        """Wait for its end."""
        try:
            out, err = await asyncio.to_thread(self._process.communicate, timeout=WAIT_TIMEOUT)
        finally:
            self._process.kill()
        return Result(self._process.returncode, out, err)


async def run(process: ServiceProcess, *arguments: str) -> Result:
    """Run a command to its end."""
    return await Command(process, *arguments).result()


async def ask(process: ServiceProcess, **request: object) -> Message:
    """Ask for a command without a process of its own; return the last message.

    It has the warnings as well.
    """
    # The test runs in the folder of the service.
    path = process.environment["APP_CONTROL_SOCKET"]
    reader, writer = await asyncio.open_unix_connection(path, limit=1024 * 1024)
    warnings: list[str] = []
    try:
        writer.write(encode(request))
        async with asyncio.timeout(WAIT_TIMEOUT):
            while "success" not in (message := decode(await reader.readline())):
                if "warning" in message:
                    warnings.append(message["warning"])
    finally:
        writer.close()
    return {**message, "warnings": warnings}


async def status(process: ServiceProcess) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    response = await ask(process, command=STATUS)
    status: dict[str, Any] = response["status"]
    assert response["success"] == status["ready"] == (status["reasons"] == [])
    return status


async def until_status(
    process: ServiceProcess, condition: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Wait until the status is as expected, and return it."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not condition(found := await status(process)):  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
    return found
