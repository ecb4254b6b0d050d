"""What a service consists of, as its `__main__.py` says."""

import importlib.util
import logging
import pkgutil
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import StartupError
from ..extensions import Extension
from ..http.application import Application
from ..settings import Settings
from ..version import ServiceInfo

AppFactory = Callable[[Settings], Application]

REVISION = "REVISION"
"""The file of the package with the revision of its code. The build of the package writes it."""
MAX_REVISION_LENGTH = 100
"""Characters."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceDefinition:
    """Names the code of a service, and imports it only when it is needed.

    A worker imports it after the fork, so that it gets the code of that moment.
    """

    package: str
    info: ServiceInfo
    """What `__main__.py` says, without a revision: see `read_info`."""
    extensions: Sequence[Extension]
    settings: str
    """The settings class, as ``module:name``."""
    app: str
    """The function that gets the settings and returns the `Application`, as ``module:name``."""

    def read_info(self) -> ServiceInfo:
        """Return name, version and revision of the code that this process has imported.

        In the worker of a reload it is newer than in the supervisor. Call it once, before the code
        on disk changes.
        """
        package = sys.modules.get(self.package)
        version = getattr(package, "__version__", self.info.version)
        return ServiceInfo(self.info.name, str(version), _read_revision(self.package))

    def load_settings(self) -> Settings:
        """Read the settings with the settings class of the service. Raises `SettingsError`."""
        return self.import_settings().load()

    def import_settings(self) -> type[Settings]:
        """Import the settings class."""
        return cast(type[Settings], pkgutil.resolve_name(self.settings))

    def make_app(self, settings: Settings) -> Application:
        """Import the application and create it. Raises `StartupError` with the cause."""
        return create_application(settings, self._import_and_make_app)

    def _import_and_make_app(self, settings: Settings) -> Application:
        application = cast(AppFactory, pkgutil.resolve_name(self.app))(settings)
        application.hooks = self.extensions
        return application


def log_start(info: ServiceInfo, template: str) -> None:
    """Log what is about to run: the first record of a service."""
    fields = {
        "service.name": info.name,
        **version_fields(info.version, info.revision),
        "template.version": template,
        "process.runtime.version": platform.python_version(),
    }
    logger.info("starting %s", info, extra=fields)


def version_fields(version: str, revision: str) -> dict[str, str]:
    """Return the fields of a log record that say which code runs, with OpenTelemetry's names."""
    fields = {"service.version": version, "vcs.ref.head.revision": revision}
    return {name: value for name, value in fields.items() if value}


def _read_revision(package: str) -> str:
    """Return the first line of the file in a package; empty if it cannot be read."""
    spec = importlib.util.find_spec(package)
    if not (spec and spec.origin):
        return ""
    try:
        with Path(spec.origin).with_name(REVISION).open("rb") as file:
            line = file.readline(MAX_REVISION_LENGTH)
    except OSError:
        return ""
    return "".join(filter(str.isprintable, line.decode(errors="ignore").strip()))


def create_application(settings: Settings, make_app: AppFactory) -> Application:
    """Call `make_app`. Raises `StartupError` with the cause if it fails."""
    try:
        return make_app(settings)
    except Exception as error:
        raise StartupError(f"cannot create the application: {error!r}") from error
