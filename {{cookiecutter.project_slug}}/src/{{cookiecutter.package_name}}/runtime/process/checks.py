"""Checks of resources: whether what a process has opened still works.

Each resource is checked by itself, at its interval, in the event loop that uses it. Nothing waits
for a check: neither the start, nor a request, nor a drain. Health checks read the last results.
"""

import asyncio
import errno
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..http.resources import Resource, Resources
from ..monitor.events import CHECK_FAILED, CHECK_RECOVERED, EVENT
from ..status import ResourceCheck

JITTER = 0.2
"""Share of an interval by which it may be shorter, so that workers do not check in step."""
REPORT_INTERVAL = 60.0
"""Seconds between two records that a resource fails, if it works now and then."""
CANCELLATION_TIMEOUT = 1.0
"""Seconds for a check to end when the process stops."""
_abandoned: list[asyncio.Task[None]] = []
"""Checks that have not ended when the process did: a task that is collected would say so."""

logger = logging.getLogger(__name__)


class ResourceChecks:
    """The checks of a process. `changed` is called after each one.

    Construct it in the event loop, when the resources are open.
    """

    def __init__(
        self,
        declared: Iterable[Resource[Any]],
        resources: Resources,
        changed: Callable[[], None],
    ) -> None:
        self._checks = [
            PeriodicCheck(resource, partial(resource.check, resources[resource]), changed)
            for resource in declared
            if resource.check
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._is_cancelled = False

    @property
    def results(self) -> tuple[ResourceCheck, ...]:
        """The last result of each check."""
        return tuple(check.result for check in self._checks)

    def start(self) -> None:
        """Check each resource from now on."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(check.run()) for check in self._checks]

    def cancel(self) -> None:
        """Check no more. Later calls change nothing: what a check does to end is not cancelled."""
        if not self._is_cancelled:
            self._is_cancelled = True
            for task in self._unfinished():
                task.cancel()

    async def end(self) -> None:
        """Wait until no check uses a resource any more, for `CANCELLATION_TIMEOUT` at most."""
        self.cancel()
        if tasks := self._unfinished():
            await asyncio.wait(tasks, timeout=CANCELLATION_TIMEOUT)
        for task in self._unfinished():
            # The event loop waits for every task that it knows before it closes.
            asyncio._unregister_task(task)
            _abandoned.append(task)
        for check in self._checks:
            if check.running:
                logger.warning("the check of resource %s does not end", check.name)

    def _unfinished(self) -> Sequence[asyncio.Task[None]]:
        running = [check.running for check in self._checks if check.running]
        return [task for task in (*self._tasks, *running) if not task.done()]


class PeriodicCheck:
    """Checks one resource, and remembers and logs how that went."""

    def __init__(
        self,
        resource: Resource[Any],
        check: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.name = resource.name
        self._resource = resource
        self._call = check
        self._task: asyncio.Task[None] | None = None
        """The check that runs, or that has run last."""
        self._changed = changed
        self._error = ""
        self._since = time.monotonic()
        """When it has begun to work, or to fail."""
        self._checked: float | None = None
        self._logged_since: float | None = None
        """When the failure began that is in the log, if its end is not."""
        self._next_report = 0.0

    @property
    def running(self) -> asyncio.Task[None] | None:
        """The check that runs."""
        return self._task if self._task and not self._task.done() else None

    @property
    def result(self) -> ResourceCheck:
        """The last result."""
        now = time.monotonic()
        if self._checked is None:
            return ResourceCheck(self.name, passing=False, unchanged_for=now - self._since)
        return ResourceCheck(
            self.name,
            passing=not self._error,
            error=self._error,
            unchanged_for=now - self._since,
            checked_ago=now - self._checked,
        )

    async def run(self) -> None:
        """Check at once, then at each interval."""
        while True:
            begin = time.monotonic()
            self._record(await self._check())
            interval = self._resource.interval * random.uniform(1 - JITTER, 1)  # noqa: S311
            await asyncio.sleep(max(begin + interval - time.monotonic(), 0))

    async def _check(self) -> BaseException | None:
        """Return why the resource does not work; None if it does."""
        if self.running:
            # It has ignored its cancellation. Another check would pile up on it.
            self.running.cancel()
            return TimeoutError("the last check does not end")
        self._task = task = asyncio.get_running_loop().create_task(_wait_for(self._call))
        task.add_done_callback(_failure)
        await asyncio.wait([task], timeout=self._resource.timeout)
        if task.done():
            return _failure(task)
        task.cancel()
        return TimeoutError(f"no result within {self._resource.timeout:g} s")

    def _record(self, error: BaseException | None) -> None:
        now = time.monotonic()
        before, self._error = self._error, describe(error) if error else ""
        if self._checked is None or bool(before) is not bool(error):
            self._since = now
        self._checked = now
        self._log(error, now)
        self._changed()

    def _log(self, error: BaseException | None, now: float) -> None:
        """Log that it has begun to fail, and that it works again."""
        fields = {"resource": self.name}
        if error and self._logged_since is None and now >= self._next_report:
            self._logged_since = self._since
            self._next_report = now + REPORT_INTERVAL
            fields[EVENT] = CHECK_FAILED
            logger.error(
                "resource %s fails: %s", self.name, self._error, exc_info=error, extra=fields
            )
        elif not error and self._logged_since is not None:
            seconds, self._logged_since = now - self._logged_since, None
            fields[EVENT] = CHECK_RECOVERED
            logger.info("resource %s works again after %.1f s", self.name, seconds, extra=fields)


def describe(error: BaseException) -> str:
    """Return what the admin port and the events tell of an exception. The log has all of it.

    It is the type, and what the operating system says. The message may have credentials, such as
    the URL of a database.
    """
    name = type(error).__qualname__
    if error.__traceback__ is None:  # it was never raised: it and its message are of this module
        return f"{name}: {error}"
    # Elsewhere, `errno` may be something else: a number of SSL, for example.
    is_of_python = type(error).__module__ == "builtins"
    number = error.errno if isinstance(error, OSError) and is_of_python else None
    # It is whatever the first of two arguments was.
    if isinstance(number, int) and number in errno.errorcode:
        return f"{name}: {os.strerror(number)}"
    return name


async def _wait_for(check: Callable[[], Awaitable[None]]) -> None:
    # Within the task: a check that is no async function fails, too.
    await check()


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """Return why a task has failed. Otherwise asyncio would log that it was not retrieved."""
    if task.cancelled():
        return asyncio.CancelledError("by the check itself")
    return task.exception()
