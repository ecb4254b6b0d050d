"""The units of systemd agree with the settings of production, the code and their README."""

import re
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }} import __main__
from {{ cookiecutter.package_name }}.runtime.process import sockets
from {{ cookiecutter.package_name }}.runtime import status as state
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from ..support import ROOT
from .conftest import ports

SLUG = "{{ cookiecutter.project_slug }}"
HOME = Path("/opt", SLUG)
FOLDER = ROOT / "deploy/systemd"

Unit = dict[str, list[str]]


def read(kind: str) -> Unit:
    """Read a unit: what each key is set to, in order, for keys may repeat."""
    unit: Unit = {}
    for line in (FOLDER / f"{SLUG}.{kind}").read_text().splitlines():
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


@pytest.fixture
def readme() -> list[str]:
    """The commands of the README."""
    return re.findall(r"^\$ (?:sudo )?(.+)$", (FOLDER / "README.md").read_text(), re.MULTILINE)


def seconds(unit: Unit, key: str) -> float:
    [value] = unit[key]
    return float(value)


def reloads(production: Settings) -> bool:
    """Tell whether SIGHUP reloads; a process that serves alone stops."""
    return bool(getattr(production, "workers", 1) > 1)


def test_systemd_listens_where_the_service_would(socket: Unit, production: Settings) -> None:
    assert socket["ListenStream"] == [f"{production.address}:{port}" for port in ports(production)]
    assert socket["Backlog"] == [str(sockets.BACKLOG)]


def test_the_admin_port_is_not_there(socket: Unit, production: Settings) -> None:
    # Health must be refused while the service is down.
    assert not [one for one in socket["ListenStream"] if one.endswith(f":{production.admin_port}")]


def test_both_units_stand_for_each_other(service: Unit) -> None:
    assert service["Requires"] == [f"{SLUG}.socket"]
    assert f"{SLUG}.socket" in service["After"][0].split()
    # systemd finds the socket of a service by its name.
    assert {path.stem for path in FOLDER.glob("*.s*")} == {SLUG}


def test_systemd_waits_longer_than_the_service(service: Unit, production: Settings) -> None:
    # The process of the admin port and the log go last.
    last = 5
    drain = production.drain_delay + production.drain_timeout
    assert seconds(service, "TimeoutStopSec") >= drain + last
    assert seconds(service, "TimeoutStartSec") > getattr(production, "start_timeout", 0)


def test_signs_of_life_come_in_time(service: Unit) -> None:
    assert service["Type"] == ["notify"]
    assert seconds(service, "WatchdogSec") / 3 > state.BEAT


def test_systemd_deals_with_the_main_process_alone(service: Unit, production: Settings) -> None:
    # Workers are the supervisor's business, even if the kernel kills one for its memory.
    assert service["NotifyAccess"] == ["main"]
    assert service["KillMode"] == ["mixed"]
    assert (service.get("OOMPolicy") == ["continue"]) == reloads(production)


def test_bad_settings_are_not_tried_again(service: Unit) -> None:
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == [str(__main__.EXIT_BAD_SETTINGS)]
    assert __main__.EXIT_CANNOT_START != __main__.EXIT_BAD_SETTINGS


def test_restarts_alone_reach_no_limit(service: Unit) -> None:
    most = seconds(service, "StartLimitIntervalSec") / seconds(service, "RestartSec")
    assert seconds(service, "StartLimitBurst") >= most


def test_reload_is_there_where_the_service_reloads(
    service: Unit, production: Settings, readme: list[str]
) -> None:
    command = ["/bin/kill -HUP $MAINPID"]
    assert service.get("ExecReload") == (command if reloads(production) else None)
    assert (f"systemctl reload {SLUG}" in readme) == reloads(production)


def test_paths_are_those_of_the_readme(service: Unit, readme: list[str]) -> None:
    assert service["WorkingDirectory"] == [str(HOME)]
    assert [line for line in readme if line.startswith("git clone ") and line.endswith(f" {HOME}")]
    assert f"cd {HOME}" in readme
    assert "python3 -m venv .venv" in readme
    assert service["ExecStart"] == [str(HOME / ".venv/bin" / SLUG)]


def test_the_settings_are_fed_to_the_service(service: Unit, readme: list[str]) -> None:
    shared, own = service["EnvironmentFile"]
    assert ROOT / Path(shared).relative_to(HOME) == ROOT / "deploy/production.env"
    assert own == f"-/etc/{SLUG}.env"
    # It may hold secrets.
    assert f"install -m 0600 /dev/null {own[1:]}" in readme


def test_all_that_is_installed_is_there(readme: list[str]) -> None:
    installed = [line.split()[3] for line in readme if line.startswith("install -m 0644 ")]
    assert {f"deploy/systemd/{SLUG}.service", f"deploy/systemd/{SLUG}.socket"} <= set(installed)
    assert [name for name in installed if not (ROOT / name).is_file()] == []
    # And nothing is left out that wants installing.
    optional = [f"deploy/nginx/{SLUG}.conf", f"deploy/logrotate/{SLUG}"]
    assert set(installed) >= {name for name in optional if (ROOT / name).exists()}


def test_the_log_has_a_folder_of_its_own(service: Unit, production: Settings) -> None:
    folder = production.log_file.parent if production.log_file else None
    logs = [Path("/var/log", name) for name in service.get("LogsDirectory", [])]
    assert logs == ([folder] if folder else [])
    # What goes to the journal goes there in full.
    assert (service.get("LogRateLimitIntervalSec") == ["0"]) != bool(folder)


def test_the_service_is_nobody_and_may_do_little(service: Unit) -> None:
    assert service["DynamicUser"] == ["yes"]
    assert service["CapabilityBoundingSet"] == [""]
    assert not {"User", "ReadWritePaths"} & service.keys()
