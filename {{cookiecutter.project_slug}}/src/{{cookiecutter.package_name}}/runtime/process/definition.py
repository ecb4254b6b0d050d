"""What a service consists of, as its `__main__.py` says."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from ..errors import StartupError
from ..extensions import Extension, ServiceInfo
from ..http.application import Application
from ..settings import Settings

AppFactory = Callable[[Settings], Application]


@dataclass(frozen=True)
class ServiceDefinition:
    """Names the code of a service, and imports it only when it is needed.

    A worker imports it after the fork, so that it gets the code of that moment.
    """

    package: str
    info: ServiceInfo
    extensions: Sequence[Extension]
    settings: str
    """The settings class, as ``module:name``."""
    app: str
    """The function that gets the settings and returns the `Application`, as ``module:name``."""

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


def create_application(settings: Settings, make_app: AppFactory) -> Application:
    """Call `make_app`. Raises `StartupError` with the cause if it fails."""
    try:
        return make_app(settings)
    except Exception as error:
        raise StartupError(f"cannot create the application: {error!r}") from error
