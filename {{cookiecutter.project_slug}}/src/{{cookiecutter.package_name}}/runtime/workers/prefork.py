"""Several workers: what is opened and imported before the supervisor starts the first.

The dependencies are imported here, so that the workers share them in memory. The package's own
modules are only read for that: each worker imports them itself, and so gets the code of the day.
"""

from __future__ import annotations

import ast
import gc
import importlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..logs import formatters as logs
from .scoreboard import ADMIN, Row, Scoreboard
from ..settings import Settings, unknown_names
from ..logs.shared import SupervisorLog, Turn
{% if cookiecutter.metrics %}
from ..metrics.shared import SharedValues
{% endif %}
from ..process.sockets import CannotStart, open_sockets, url
from .supervisor import Supervisor

if TYPE_CHECKING:
    from ..http.application import Application

logger = logging.getLogger(__name__)


def serve_with_workers(settings: Settings, make_app: Callable[[Settings], Application]) -> int:
    """Serve until a signal. Returns the exit code; raises `CannotStart`.

    The workers call `make_app`, and what it imports then is the code of that moment.
    """
    step = 1 if settings.port_per_worker else 0
    ports = [settings.port + step * slot for slot in range(settings.workers)]
    public, admin = open_sockets(settings, ports)
    turn = Turn()
    try:
        log = SupervisorLog(settings.log_file, turn)
    except OSError as error:
        raise CannotStart(f"cannot write the log: {error}") from error
    logs.configure(settings, log, worker=None)
    for line in unknown_names():
        logger.warning(line)
    import_dependencies(Path(__file__).parents[2])
    gc.collect()
    gc.freeze()  # or the collector of each worker would touch, and so copy, what they share
    sockets = {ADMIN: admin, **dict(enumerate(public))}
    scoreboard = Scoreboard(settings.workers)
{% if cookiecutter.metrics %}
    values = SharedValues(scoreboard)
{% endif %}

    def make_admin(settings: Settings) -> Application:
        from ..admin.handlers import make_admin

{% if cookiecutter.metrics %}
        return make_admin(settings, scoreboard, values)
{% else %}
        return make_admin(settings, scoreboard)
{% endif %}

    def work(slot: int, row: Row, channel: socket.socket) -> None:
{% if cookiecutter.metrics %}
        values.attach(row)
{% endif %}
        # Imported in the new process: this is where the code of the day comes in.
        from . import worker

        make = make_admin if slot == ADMIN else make_app
        worker.work(worker.Job(slot, sockets, scoreboard, row, channel, turn, make))

    urls = ", ".join(dict.fromkeys(map(url, public)))
    greeting = f"listening on {urls}, admin on {url(admin)}"
    try:
        return Supervisor(settings, sockets, scoreboard, log, work, greeting).run()
    except CannotStart:
        raise
    except Exception:
        logger.critical("the supervisor failed", exc_info=True)
        raise


def import_dependencies(package: Path) -> None:
    """Import what the modules in a folder import from elsewhere.

    What a function imports stays out. That is the place for a library that must not be imported
    before a fork, for it starts threads, say.
    """
    for path in sorted(package.rglob("*.py")):
        for name in _imported(path):
            try:
                importlib.import_module(name)
            except Exception:
                # The worker that needs it will say so.
                logger.debug("cannot import %s", name, exc_info=True)
    if threading.active_count() > 1:
        logger.warning(
            "importing the dependencies started a thread, which does not survive a fork: %s",
            ", ".join(thread.name for thread in threading.enumerate()[1:]),
        )


def _imported(path: Path) -> Iterator[str]:
    with suppress(OSError, SyntaxError, ValueError):
        yield from _imports(ast.parse(path.read_bytes()))


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.module and not child.level:
                yield child.module
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child)
