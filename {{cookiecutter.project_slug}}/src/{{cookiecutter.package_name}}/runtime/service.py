"""The command of a service: serve, check, healthcheck."""

import argparse
import http.client
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from .errors import SettingsError, StartupError
from .extensions import Extension, ServiceInfo
from .process.definition import ServiceDefinition
from .settings import PREFIX, Settings

EXIT_FAILURE = 1
EXIT_BAD_SETTINGS = 78
"""EX_CONFIG of sysexits.h."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as in a shell."""
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE."""
HEALTHCHECK_TIMEOUT = 3
"""Seconds to wait for the admin port."""


class ProcessModel(Protocol):
    """Runs a service in several processes, as `workers.Prefork` does."""

    @property
    def is_supported(self) -> bool:
        """Whether the operating system can do it."""
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
    - `version`: what ``--version`` prints.
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

        0 is success; 1 a service that cannot start, is not ready, or was aborted by a second
        signal; 78 invalid settings; 130 Ctrl-C before the service runs; 141 output that is read no
        further, as in ``check | head -1``.
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
        parser.add_argument("--version", action="version", version=info.version)
        parser.set_defaults(command=self._serve)
        commands = parser.add_subparsers(title="commands", metavar="command")
        for name, command, purpose in (
            ("serve", self._serve, "serve until SIGTERM or Ctrl-C (default)"),
            ("check", _check, "validate the settings and print them"),
            ("healthcheck", _healthcheck, "exit with 0 if the running service is ready"),
        ):
            commands.add_parser(name, help=purpose).set_defaults(command=command)
        command = parser.parse_args(arguments).command
        try:
            return int(command(self._load_settings()))
        except SettingsError as error:
            print(error, file=sys.stderr)
            return EXIT_BAD_SETTINGS
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED

    def _serve(self, settings: Settings) -> int:
        try:
            # APP_DEBUG restarts the process at each change, which takes a single process.
            has_workers = settings.workers > 1 and not settings.debug
            if self.processes and has_workers and self.processes.is_supported:
                return self.processes.serve(self._definition, settings)
            # Not at the top: check and healthcheck need neither a server nor an event loop.
            from .process import single

            single.serve(self._definition, settings)
        except StartupError as error:
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


def _check(settings: Settings) -> int:
    for variable, value in settings.as_variables().items():
        print(f"{variable}={value}")
    for description in settings.unknown_variables():
        print(f"Warning: {description}", file=sys.stderr)
    return 0


def _healthcheck(settings: Settings) -> int:
    host = str(settings.admin_address)
    if settings.admin_address.is_unspecified:
        host = "::1" if settings.admin_address.version == 6 else "127.0.0.1"
    connection = http.client.HTTPConnection(host, settings.admin_port, timeout=HEALTHCHECK_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        print(response.read().decode())
        return 0 if response.status == http.client.OK else EXIT_FAILURE
    except (OSError, http.client.HTTPException) as error:
        shown = f"[{host}]" if ":" in host else host
        print(f"no response from {shown}:{settings.admin_port}: {error}", file=sys.stderr)
        return EXIT_FAILURE
    finally:
        connection.close()
