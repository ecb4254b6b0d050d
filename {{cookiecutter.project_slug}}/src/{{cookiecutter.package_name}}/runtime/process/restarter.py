"""APP_DEBUG: the service runs in a child process, which is started again when a file changes.

What the files are like is recorded before each start. So no change goes unseen, however early it
comes, and the code that runs is always the newest.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from ..settings import ENV_FILE
from ..starting import STOP_SIGNALS, handle_hangup, has_terminal
from .definition import ServiceDefinition

CHILD_VARIABLE = "RESTARTED_ON_CHANGE"
"""Set in the child."""
POLL_INTERVAL = 0.25
"""Seconds between two looks at the files, and at the parent."""
STOP_TIMEOUT = 1.0
"""Seconds for requests in flight when a file has changed."""
STOPPED_CODES = (0, 130)
"""Exit codes of a child that was asked to stop, with Ctrl-C for example."""

Fingerprints = dict[Path, tuple[int, int, int]]


def run(service: ServiceDefinition) -> int:
    """Run the service, as this process was started, until a signal. Returns the exit code."""
    restarter = Restarter(service)
    for signum in STOP_SIGNALS:
        signal.signal(signum, restarter.on_signal)
    handle_hangup(restarter.on_signal)
    return restarter.run()


def is_possible() -> bool:
    """Return False under systemd: it passes sockets to this process only, and hears no other."""
    return not os.environ.keys() & {"NOTIFY_SOCKET", "LISTEN_PID"}


def is_child() -> bool:
    """Return whether this process is the child. It then stops when its parent has exited."""
    # Removed from the environment: what the service starts is no such child.
    if not os.environ.pop(CHILD_VARIABLE, ""):
        return False
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()
    return True


class Restarter:
    """Starts the child, watches the files, and passes signals on."""

    def __init__(self, service: ServiceDefinition) -> None:
        modules = (service.package, service.settings, service.app)
        self._roots = {root for module in modules for root in _roots(module)}
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopping = False

    def run(self) -> int:
        before = self._fingerprints()
        while not self._is_stopping:
            child = self._child = subprocess.Popen(  # noqa: S603 - as this process was started
                [sys.executable, *sys.orig_argv[1:]], env={**os.environ, CHILD_VARIABLE: "1"}
            )
            if self._is_stopping:
                child.terminate()  # the signal came before there was a child
            code = self._wait_for_change(child, before)
            if code is not None:
                return code if code >= 0 else 1  # negative: a signal that it did not handle
            _stop(child)
            after = self._fingerprints()
            discard_byte_code(path for path, _ in before.items() ^ after.items())
            before = after
        return 0

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        # A terminal sends its signals to the child as well. A second SIGHUP does no harm.
        is_received = os.name == "nt" or (signum == signal.SIGINT and has_terminal())
        if self._child and not is_received:
            self._child.send_signal(signum)

    def _wait_for_change(self, child: subprocess.Popen[bytes], before: Fingerprints) -> int | None:
        """Wait until a file changes, or return the exit code of a child that was to stop.

        A child that fails is not started again before a change may have mended it.
        """
        is_reported = False
        while self._is_stopping or self._fingerprints() == before:
            with suppress(subprocess.TimeoutExpired):
                code = child.wait(POLL_INTERVAL)
                if self._is_stopping or code in STOPPED_CODES:
                    return code
                if not is_reported:
                    print(f"exit code {code}: waiting until a file changes", file=sys.stderr)
                    is_reported = True
                time.sleep(POLL_INTERVAL)
        return None

    def _fingerprints(self) -> Fingerprints:
        found: Fingerprints = {}
        for path in (Path(ENV_FILE), *_files(self._roots)):
            with suppress(OSError):  # just deleted, or there is no such file
                status = path.stat()
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found


def discard_byte_code(paths: Iterable[Path]) -> None:
    """Delete the byte code of modules.

    Python does not see that it is old if the source has changed within a second, in as many bytes.
    """
    for path in paths:
        if path.suffix == ".py":
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def _roots(module: str) -> Iterator[Path]:
    """Yield the folders of the top-level package of a module, or the file of the module."""
    spec = importlib.util.find_spec(module.partition(":")[0].partition(".")[0])
    if spec and spec.submodule_search_locations:
        yield from map(Path, spec.submodule_search_locations)
    elif spec and spec.origin:
        yield Path(spec.origin)


def _files(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        if root.is_file():
            yield root
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not _is_ignored(name)]
            yield from (Path(folder, name) for name in names if not _is_ignored(name))


def _is_ignored(name: str) -> bool:
    """Return whether a name is that of byte code or of a temporary file of an editor."""
    return name == "__pycache__" or name.startswith(".") or name.endswith("~")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
