"""Prefork mode: everything that happens before the first fork.

The runtime imports all its modules at the start, and the dependencies of the service are imported
here, so that the workers share their memory. The modules of the service are only read for that:
each worker imports them itself, and so gets the code of that moment.
"""

import ast
import gc
import importlib
import importlib.util
import itertools
import logging
import socket
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

from ..checksums import RUNTIME
from ..control.server import open_control
from ..errors import StartupError
from ..logs import formatters
from ..logs.shared import NonBlockingHandler, ProcessLock
from ..monitor.events import EventChannel, forward_events
from ..monitor.monitor import Monitor
from ..process.definition import ServiceDefinition, log_start
from ..process.sockets import listening_url, open_sockets
from ..settings import Settings
from ..status import ADMIN_SLOT
from . import worker
from .limits import limit_warnings
from .reading import read_settings
from .resize import capacity
from .scoreboard import Row, Scoreboard
from .supervisor import Supervisor

RUNTIME_PACKAGE = __name__.rpartition(".workers.")[0]

logger = logging.getLogger(__name__)


def serve(
    service: ServiceDefinition, settings: Settings, import_after_fork: Collection[str] = ()
) -> int:
    """Serve with several workers until a signal. Returns the exit code; raises `StartupError`.

    `import_after_fork` names the libraries that each worker imports itself.
    """
    step = 1 if settings.port_per_worker else 0
    ports = [settings.port + step * slot for slot in range(capacity(settings))]
    public, admin = open_sockets(settings, ports)
    lock = ProcessLock()
    try:
        log = NonBlockingHandler(settings.log_file, lock)
    except OSError as error:
        raise StartupError(f"cannot open the log file: {error}") from error
    formatters.configure(settings, log, worker=None)
    monitor, events = Monitor(service.read_info(), slots=len(ports)), EventChannel()
    log_start(monitor.info, monitor.template)
    preload(service.package, import_after_fork)
    gc.collect()
    gc.freeze()  # otherwise garbage collection in each worker would copy shared pages
    sockets = {ADMIN_SLOT: admin, **dict(enumerate(public))}
    scoreboard = Scoreboard(settings.workers, len(ports))
    forward_events(monitor.events.append)
    for warning in limit_warnings(settings):
        logger.warning(warning)
    for extension in service.extensions:
        extension.before_fork(scoreboard.rows)

    extension_modules = {type(extension).__module__ for extension in service.extensions}
    # Not in a worker: it would copy the memory that holds the names of all modules.
    modules = modules_of(service.package)

    def target(slot: int, row: Row, channel: socket.socket) -> None:
        for extension in service.extensions:
            extension.after_fork(row)
        reseed()
        unload(service.package, modules, keep=extension_modules)
        worker.run(
            worker.ChildContext(
                service, settings, slot, sockets, scoreboard, monitor, events, row, channel, lock
            )
        )

    urls = ", ".join(dict.fromkeys(map(listening_url, public)))
    listening_message = f"listening on {urls}, admin on {listening_url(admin)}"
    port = admin[0].getsockname()[1]
    control = open_control(settings.control_socket, service.info.name, port)
    with closing(control) if control else nullcontext():
        try:
            supervisor = Supervisor(
                settings,
                sockets,
                scoreboard,
                monitor,
                events,
                log,
                target,
                control,
                read_settings=partial(read_settings, service),
                listening_message=listening_message,
            )
            return supervisor.run()
        except StartupError:
            raise
        except Exception:
            logger.critical("the supervisor failed", exc_info=True)
            raise


def preload(package: str, import_after_fork: Collection[str] = ()) -> None:
    """Import what the modules of a package import from elsewhere.

    Nothing of the package itself is imported, however its modules import each other. What a
    function imports stays out, too, and so do the libraries in `import_after_fork`: those that must
    not be loaded before a fork, for example because they start threads.
    """
    names = list(_dependencies(package))
    before = threading.enumerate()
    with _refuse_imports(package):
        for name in names:
            if not any(_is_within(name, library) for library in import_after_fork):
                _import(name)
    for library in import_after_fork:
        if library in sys.modules:
            logger.warning("%s was imported before the fork, by another library", library)
    if started := [thread.name for thread in threading.enumerate() if thread not in before]:
        logger.warning(
            "importing the dependencies started a thread, which does not survive a fork: %s",
            ", ".join(started),
        )


def reseed() -> None:
    """Let this process draw random numbers of its own, as Python does for `random`."""
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()


def modules_of(package: str) -> list[str]:
    """Return the names of the modules of a package that have been imported."""
    return [name for name in sys.modules if _is_within(name, package)]


def unload(package: str, modules: Iterable[str], keep: Collection[str] = ()) -> None:
    """Forget the modules of a package, so that they are imported anew, with their code on disk.

    The runtime stays, and so do the modules in `keep`: only a restart renews them.
    """
    if package not in sys.modules:
        return
    kept = {}
    for name in modules:
        if name in keep or _is_within(name, RUNTIME_PACKAGE):
            kept[name] = sys.modules[name]
        else:
            del sys.modules[name]
    module = sys.modules[package] = ModuleType(package)
    for name, submodule in kept.items():
        if name.rpartition(".")[0] == package:
            # Python sets such an attribute only when it loads the submodule.
            module.__dict__[name.rpartition(".")[2]] = submodule
    importlib.reload(module)


@contextmanager
def _refuse_imports(package: str) -> Iterator[None]:
    """Refuse to import a package meanwhile, also to a library that does so."""
    finder = _RefusingFinder(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _RefusingFinder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, *others: object) -> None:
        if _is_within(name, self._package) and not _is_within(name, RUNTIME_PACKAGE):
            raise ModuleNotFoundError(f"{name} is imported after the fork", name=name)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit):
        # The worker that needs it reports it.
        logger.debug("cannot import %s", name, exc_info=True)


def _dependencies(package: str) -> Iterator[str]:
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        modules = [path for path in Path(folder).rglob("*.py") if RUNTIME not in path.parents]
        for name in itertools.chain.from_iterable(map(_imported_names, sorted(modules))):
            if not _is_within(name, package):
                yield name


def _imported_names(path: Path) -> Iterator[str]:
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


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
