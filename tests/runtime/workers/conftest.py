"""Fixtures of the tests of workers."""

import os
import signal
from collections.abc import Iterator

import pytest
from runtime.workers.signals import HANDLED, SignalQueue

from tests.runtime.support.workers import has_exited


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    """A queue of this process, which gets its own handlers back afterwards."""
    handlers = {signum: signal.getsignal(signum) for signum in HANDLED}
    queue = SignalQueue()
    yield queue
    queue.reset_in_child()
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """A list for the pids of processes that must exit without their supervisor."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if not has_exited(pid):  # the test has failed
            os.kill(pid, signal.SIGKILL)
