"""Lets the processes of pytest-xdist wait for each other."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time do something, of all those that run tests.

    The lock is a file beside the path. On Windows there is only one process.
    """
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
