"""Fixtures of the tests of workers."""

import signal
from collections.abc import Iterator

import pytest
from runtime.workers.signals import HANDLED, SignalQueue

from tests.runtime.support.workers import orphans

__all__ = ["orphans"]


@pytest.fixture
def queue() -> Iterator[SignalQueue]:
    """A queue of this process, which gets its own handlers back afterwards."""
    handlers = {signum: signal.getsignal(signum) for signum in HANDLED}
    queue = SignalQueue()
    yield queue
    queue.reset_in_child()
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
