"""The command of the service."""

from __future__ import annotations

import argparse
import http.client
{% if cookiecutter.processes == "prefork" %}
import os
{% endif %}
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import __version__
from .runtime import settings

if TYPE_CHECKING:
    from .runtime.http.application import Application

EXIT_UNHEALTHY = 1
EXIT_CANNOT_START = 1
EXIT_BAD_SETTINGS = 78
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog=__package__.replace("_", "-"), description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(command=_serve)
    commands = parser.add_subparsers(title="commands", metavar="", dest="name")
    for name, command, purpose in (
        ("serve", _serve, "answer requests until SIGTERM or Ctrl-C; the default"),
        ("check", _check, "check the settings and print them"),
        ("healthcheck", _healthcheck, "ask the running service whether it is ready"),
    ):
        commands.add_parser(name, help=purpose).set_defaults(command=command)
    command = parser.parse_args(arguments).command
    try:
        return int(command(settings.load()))
    except settings.BadSettings as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_SETTINGS
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _serve(values: settings.Settings) -> int:
    return serve(values, _make_app)


def _make_app(values: settings.Settings) -> Application:
{% if cookiecutter.processes == "prefork" %}
    # Imported here, which is in a worker: so a reload serves new code.
{% else %}
    # Imported here, where somebody waits for what may be wrong with it.
{% endif %}
    from .app import make_app

    return make_app(values)


def serve(values: settings.Settings, make_app: Callable[[settings.Settings], Application]) -> int:
    """Serve an application until a signal, and return the exit code."""
{% if cookiecutter.processes == "prefork" %}
    from .runtime.process.sockets import CannotStart

    try:
        if values.workers > 1 and not values.debug and hasattr(os, "fork"):
            from .runtime.workers.prefork import serve_with_workers

            return serve_with_workers(values, make_app)
        from .runtime.process.lifecycle import serve

        serve(values, make_app)
{% else %}
    from .runtime.process.lifecycle import serve
    from .runtime.process.sockets import CannotStart

    try:
        serve(values, make_app)
{% endif %}
    except CannotStart as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_START
    return 0


def _check(values: settings.Settings) -> int:
    for name, value in values.model_dump(mode="json").items():
        print(f"{settings.PREFIX}{name.upper()}={_shown(value)}")
    for line in settings.unknown_names():
        print(f"Warning: {line}", file=sys.stderr)
    return 0


def _shown(value: object) -> str:
    """Write a value as a setting has it."""
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _healthcheck(values: settings.Settings) -> int:
    host = str(values.admin_address)
    if values.admin_address.is_unspecified:
        host = "::1" if values.admin_address.version == 6 else "127.0.0.1"
    connection = http.client.HTTPConnection(host, values.admin_port, timeout=3)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode())
        return 0 if answer.status == http.client.OK else EXIT_UNHEALTHY
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {host} port {values.admin_port}: {error}", file=sys.stderr)
        return EXIT_UNHEALTHY
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
