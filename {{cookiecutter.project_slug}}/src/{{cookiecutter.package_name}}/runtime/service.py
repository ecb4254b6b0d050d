"""The command of a service: serve, check, healthcheck, and what steers a running service."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from . import healthcheck
from .control import client
from .errors import SettingsError, ShutdownError, StartupError
from .extensions import Extension
from .process.definition import ServiceDefinition
from .settings import PREFIX, ControlSettings, Settings
from .starting import prepare_process
from .version import ServiceInfo, template_version

EXIT_FAILURE = 1
EXIT_BAD_SETTINGS = 78
"""EX_CONFIG of sysexits.h."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as in a shell."""
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE."""


class ProcessModel(Protocol):
    """Runs a service in several processes, as `workers.Prefork` does."""

    @property
    def is_supported(self) -> bool:
        """Whether the operating system can do it."""
        ...

    def load_settings(self, service: ServiceDefinition) -> Settings:
        """Read the settings, without importing the service if possible. Raises `SettingsError`."""
        ...

    def serve(self, service: ServiceDefinition, settings: Settings) -> int:
        """Run until a signal. Returns the exit code; raises `StartupError`."""
        ...


class Service:
    """A service, and its command. `__main__.py` creates it.

    Arguments:

    - `package`: the name of the service's package, `__package__`. Its module ``settings`` has a
      class ``Settings``; its module ``app`` has a function ``make_app``, which gets the settings
      and returns the `Application`. Both are imported when they are needed: ``app`` in each
      worker, so that a reload picks up new code.
    - `version`: what ``--version`` prints, beside the revision and the version of the template.
      A reload finds the version of the new code in the package's ``__version__``.
    - `processes`: `Prefork()` for several worker processes; a single process without it.
    - `extensions`: optional parts, such as metrics.
    - `settings`, `app`: other places of the two, as ``module:name``.
    """

    def __init__(
        self,
        package: str | None,
        version: str,
        *,
        processes: ProcessModel | None = None,
        extensions: Sequence[Extension] = (),
        settings: str | None = None,
        app: str | None = None,
    ) -> None:
        if not package:
            raise ValueError("a service needs the name of its package: __package__")
        self.processes = processes
        self.extensions = tuple(extensions)
        self._definition = ServiceDefinition(
            package=package,
            info=ServiceInfo(package.replace("_", "-"), version),
            extensions=self.extensions,
            settings=settings or f"{package}.settings:Settings",
            app=app or f"{package}.app:make_app",
        )

    def main(self, arguments: list[str] | None = None) -> int:
        """Run a command, those of `sys.argv` by default, and return the exit code.

        0 is success; 1 a service that cannot start, cannot stop cleanly, is not ready, or was
        aborted by a second signal; 78 invalid settings; 130 Ctrl-C before the service runs; 141
        output that is read no further, as in ``check | head -1``.
        """
        try:
            try:
                return self._run(arguments)
            finally:
                # Not at the exit of Python, which would print a traceback. It is None if closed.
                if sys.stdout:
                    sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes both again when it exits.
            for stream in filter(None, (sys.stdout, sys.stderr)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return EXIT_BROKEN_PIPE

    def _run(self, arguments: list[str] | None) -> int:
        info = self._definition.info
        parser = argparse.ArgumentParser(prog=info.name, description=f"Run {info.name}.")
        parser.add_argument(
            "--version", action="store_true", help="print version and revision, and exit"
        )
        parser.set_defaults(command=self._serve, control=None)
        commands = parser.add_subparsers(title="commands", metavar="command")
        for name, command, purpose in (
            ("serve", self._serve, "serve until SIGTERM or Ctrl-C (default)"),
            ("check", self._check, "validate the settings and print them"),
            ("healthcheck", self._healthcheck, "exit with 0 if the running service is ready"),
        ):
            commands.add_parser(name, help=purpose).set_defaults(command=command)
        client.add_commands(commands)
        if self.processes:
            client.add_worker_commands(commands)
        parsed = parser.parse_args(arguments)
        if parsed.version:
            print(_describe(self._definition.read_info()))
            return 0
        try:
            if parsed.control:
                return self._control(parsed)
            return int(parsed.command())
        except SettingsError as error:
            print(error, file=sys.stderr)
            return EXIT_BAD_SETTINGS
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED

    def _serve(self) -> int:
        # Not at the top: check and healthcheck need neither a server nor an event loop.
        from .process import restarter, single

        processes = self.processes if self.processes and self.processes.is_supported else None
        prepare_process()  # again: the package may have been imported by another program
        try:
            settings = (
                processes.load_settings(self._definition) if processes else self._load_settings()
            )
            is_restarted = restarter.is_child()
            if settings.debug and not is_restarted and restarter.is_possible():
                return restarter.run(self._definition)
            if processes and settings.workers > 1 and not settings.debug:
                return processes.serve(self._definition, settings)
            if processes:  # which may have left out those of the service's own
                settings = self._load_settings()
            single.serve(self._definition, settings)
        except (StartupError, ShutdownError) as error:
            print(error, file=sys.stderr)
            return EXIT_FAILURE
        return 0

    def _load_settings(self) -> Settings:
        settings = self._definition.load_settings()
        if settings.workers > 1 and not self.processes:
            raise SettingsError(
                f"Bad settings:\n  {PREFIX}WORKERS: must be 1, because this service runs in a "
                f"single process, got {settings.workers}"
            )
        return settings

    def _check(self) -> int:
        return _print_settings(self._load_settings())

    def _healthcheck(self) -> int:
        settings = self._load_settings()
        return healthcheck.check(str(settings.admin_address), settings.admin_port)

    def _control(self, arguments: argparse.Namespace) -> int:
        return client.run(self._definition.info.name, self._load_control_settings(), arguments)

    def _load_control_settings(self) -> ControlSettings:
        """Read what finds the service, also if the code and other settings are broken.

        The service's own settings may be secrets that only the service gets.
        """
        try:
            settings_class = self._definition.import_settings()
        except Exception:
            settings_class = Settings
        return settings_class.load_control()


def _describe(info: ServiceInfo) -> str:
    template = f"tornado-template {template_version()}"
    return f"{info.name} {info.version} ({'; '.join(filter(None, [info.revision, template]))})"


def _print_settings(settings: Settings) -> int:
    for variable, value in settings.as_variables().items():
        print(f"{variable}={value}")
    for description in settings.unknown_variables():
        print(f"Warning: {description}", file=sys.stderr)
    return 0
