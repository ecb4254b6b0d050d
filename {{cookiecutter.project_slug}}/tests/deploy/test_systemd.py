"""The systemd units match the production settings."""

import tomllib
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import PRODUCTION, ROOT, ports

NAME = "{{ cookiecutter.project_slug }}"
EXIT_GRACE = 2
"""Seconds that a worker gets to exit after its drain."""
SHUTDOWN_MARGIN = 5
"""Seconds after the drain, in which the admin process and the log are closed."""

Unit = dict[str, list[str]]


def read(kind: str) -> Unit:
    """Return the values of each key in a unit, in order: a key may occur several times."""
    unit: Unit = {}
    for line in (ROOT / f"deploy/systemd/{NAME}.{kind}").read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            unit.setdefault(key, []).append(value)
    return unit


@pytest.fixture
def service() -> Unit:
    return read("service")


@pytest.fixture
def socket() -> Unit:
    return read("socket")


def seconds(unit: Unit, key: str) -> float:
    [value] = unit[key]
    return float(value)


def test_sockets_are_those_of_the_settings(socket: Unit, production: Settings) -> None:
    assert socket["ListenStream"] == [f"{production.address}:{port}" for port in ports(production)]


def test_admin_port_is_not_activated_by_systemd(socket: Unit, production: Settings) -> None:
    admin = f":{production.admin_port}"
    assert [value for value in socket["ListenStream"] if value.endswith(admin)] == []


def test_systemd_waits_longer_than_the_service(service: Unit, production: Settings) -> None:
    drain = production.drain_delay + production.drain_timeout
    assert seconds(service, "TimeoutStopSec") >= drain + SHUTDOWN_MARGIN
    assert seconds(service, "TimeoutStartSec") > production.start_timeout


def test_automatic_restarts_never_reach_the_start_limit(service: Unit) -> None:
    restarts = seconds(service, "StartLimitIntervalSec") / seconds(service, "RestartSec")
    assert seconds(service, "StartLimitBurst") >= restarts


def test_systemd_waits_for_a_whole_reload(service: Unit, production: Settings) -> None:
    # One process after the other, and the one of the admin port.
    processes = production.workers + 1 if production.workers > 1 else 0
    each = production.start_timeout + production.drain_timeout + EXIT_GRACE
    assert seconds(service, "TimeoutStartSec") > processes * each


def test_only_several_workers_can_be_reloaded(service: Unit, production: Settings) -> None:
    [command] = service["ExecStart"]
    expected = [f"{command} reload"] if production.workers > 1 else []
    assert service.get("ExecReload", []) == expected


def test_commands_find_the_service(service: Unit) -> None:
    # Where they look as root: see `systemd_path` of the runtime.
    name = "{{ cookiecutter.package_name }}".replace("_", "-")
    assert service["RuntimeDirectory"] == [name]
    assert service["RuntimeDirectoryMode"] == ["0700"]


def test_command_and_settings_exist(service: Unit) -> None:
    [home] = map(Path, service["WorkingDirectory"])
    [command] = map(Path, service["ExecStart"])
    shared, own = service["EnvironmentFile"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert command.parent == home / ".venv/bin"
    assert command.name in project["scripts"]
    assert ROOT / Path(shared).relative_to(home) == PRODUCTION
    assert own == f"-/etc/{NAME}.env"


def test_log_folder_is_writable(service: Unit, production: Settings) -> None:
    writable = [Path("/var/log", name) for name in service.get("LogsDirectory", [])]
    assert writable == ([production.log_file.parent] if production.log_file else [])
