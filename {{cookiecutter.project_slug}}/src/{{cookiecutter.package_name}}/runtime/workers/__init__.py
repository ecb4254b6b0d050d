"""Several worker processes: a supervisor forks, monitors, replaces and reloads them.

May import `process` and what is below it. Begin with `supervisor.Supervisor.run`; `prefork` is what
happens before the first fork, `worker` what happens after it, in the child.
"""

import os
from collections.abc import Collection

from ..process.definition import ServiceDefinition
from ..settings import Settings

__all__ = ["Prefork"]


class Prefork:
    """Runs a service in APP_WORKERS processes: ``Service(..., processes=Prefork())``.

    A supervisor opens the sockets, imports what the workers share, and forks them. It replaces a
    worker that crashes or blocks, and renews them one by one on SIGHUP. With APP_WORKERS=1, with
    APP_DEBUG and on Windows the service runs in a single process.

    `import_after_fork` names libraries that each worker imports itself, such as ``["torch"]``,
    because they start threads, or draw random numbers from a state of their own, which a fork
    copies. (`random` and `numpy.random` get a new seed in each worker.)
    """

    def __init__(self, *, import_after_fork: Collection[str] = ()) -> None:
        self._import_after_fork = tuple(import_after_fork)

    @property
    def is_supported(self) -> bool:
        """Whether the operating system can fork."""
        return hasattr(os, "fork")

    def load_settings(self, service: ServiceDefinition) -> Settings:
        """Read the settings without importing the service. Raises `SettingsError`."""
        from .reading import read_settings  # needs modules that Windows does not have

        # Invalid settings raise here. If the other process was only too slow, this one reads them.
        return read_settings(service) or service.load_settings()

    def serve(self, service: ServiceDefinition, settings: Settings) -> int:
        """Run until a signal. Returns the exit code; raises `StartupError`."""
        from . import prefork  # needs modules that Windows does not have

        return prefork.serve(service, settings, self._import_after_fork)
