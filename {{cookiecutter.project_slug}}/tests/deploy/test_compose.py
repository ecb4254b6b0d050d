"""Docker Compose, the settings of production and Nginx agree with each other."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.runtime import settings

from ..support import ROOT
from .conftest import ports

FOLDER = ROOT / "deploy/docker"
NGINX = ROOT / "deploy/nginx/{{ cookiecutter.project_slug }}.conf"


@pytest.fixture(scope="module")
def compose() -> Any:
    """What compose.yaml says."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture
def in_force(
    compose: Any, production: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> settings.Settings:
    """The settings in the container: those of production, and what compose.yaml says instead."""
    for name, value in compose["services"]["app"]["environment"].items():
        # What comes from outside is not known here.
        if "${" not in str(value):
            monkeypatch.setenv(name, str(value))
    assert settings.unknown_names() == []
    return settings.load()


def published(service: Any) -> list[int]:
    """List the ports of a container that are published to the world."""
    lines = [line for line in service.get("ports", []) if not line.startswith("127.0.0.1:")]
    return [int(line.rpartition(":")[2]) for line in lines]


def mounts(service: Any) -> dict[str, str]:
    """Tell by the paths in a container what is mounted there."""
    pairs = (line.removesuffix(":ro").split(":") for line in service.get("volumes", []))
    return {target: source for source, target in pairs}


def address(compose: Any, service: str) -> str:
    """Tell the fixed address of a service."""
    found = compose["services"][service]["networks"]["default"]["ipv4_address"]
    assert isinstance(found, str)
    return found


def seconds(duration: str) -> int:
    """Read a duration such as `30s`."""
    (number,) = re.findall(r"^(\d+)s$", duration)
    return int(number)


def test_the_image_is_built_from_the_project(compose: Any) -> None:
    assert (FOLDER / compose["services"]["app"]["build"]).resolve() == ROOT
    assert (ROOT / "Dockerfile").is_file()


def test_nginx_is_there_if_it_is_configured(compose: Any) -> None:
    assert ("nginx" in compose["services"]) == NGINX.exists()


def test_only_the_way_in_is_published(compose: Any, in_force: settings.Settings) -> None:
    services = compose["services"]
    found = {name: some for name in services if (some := published(services[name]))}
    if "nginx" in services:
        assert found == {"nginx": [80, 443]}
    else:
        assert found == {"app": ports(in_force)}
    assert in_force.admin_port not in [port for some in found.values() for port in some]


def test_what_takes_requests_starts_by_itself(compose: Any) -> None:
    always = {name for name, one in compose["services"].items() if not one.get("profiles")}
    assert always == {"app", "nginx"} & compose["services"].keys()


def test_nginx_asks_the_service_where_it_listens(compose: Any, in_force: settings.Settings) -> None:
    asked = re.findall(r"^ +server (\S+):(\d+) ", NGINX.read_text(), re.M) if NGINX.exists() else []
    wanted = ports(in_force) if "nginx" in compose["services"] else []
    assert asked == [(address(compose, "app"), str(port)) for port in wanted]


def test_nginx_alone_is_believed(compose: Any, in_force: settings.Settings) -> None:
    proxies = [address(compose, "nginx")] if "nginx" in compose["services"] else []
    assert in_force.trusted_proxies == tuple(map(ip_network, proxies))


def test_addresses_are_in_the_network_and_given_to_nobody_else(compose: Any) -> None:
    if "nginx" in compose["services"]:
        (pool,) = compose["networks"]["default"]["ipam"]["config"]
        network, others = ip_network(pool["subnet"]), ip_network(pool["ip_range"])
        services = [name for name, one in compose["services"].items() if "networks" in one]
        assert services == ["app", "nginx"]
        fixed = {ip_address(address(compose, name)) for name in services}
        assert len(fixed) == len(services)
        assert fixed <= set(network.hosts()) - {ip_address(pool["gateway"])} - set(others)
    else:
        assert "networks" not in compose


def test_nginx_reads_what_its_configuration_includes(compose: Any) -> None:
    if NGINX.exists():
        found = mounts(compose["services"]["nginx"])
        assert found.pop("/etc/nginx/conf.d/default.conf") == f"../nginx/{NGINX.name}"
        included = set(re.findall(r"^ +include (\S+)/\*\.conf;", NGINX.read_text(), re.M))
        assert set(found) == {f"/etc/nginx/{folder}" for folder in included}


def test_what_is_mounted_is_there(compose: Any) -> None:
    volumes = set()
    for service in compose["services"].values():
        for source in mounts(service).values():
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
            else:
                volumes.add(source)
    assert volumes == set(compose.get("volumes", []))


def test_the_log_is_kept_outside_of_the_container(
    compose: Any, in_force: settings.Settings
) -> None:
    folders = [in_force.log_file.parent] if in_force.log_file else []
    assert [Path(target) for target in mounts(compose["services"]["app"])] == folders


def test_docker_waits_longer_than_the_service_drains(
    compose: Any, in_force: settings.Settings
) -> None:
    drain = in_force.drain_delay + in_force.drain_timeout
    for name in {"app", "nginx"} & compose["services"].keys():
        assert seconds(compose["services"][name]["stop_grace_period"]) > drain


def test_somebody_reaps_what_others_leave_behind(compose: Any, in_force: settings.Settings) -> None:
    alone = getattr(in_force, "workers", 1) == 1
    assert compose["services"]["app"].get("init", False) == alone


def test_containers_may_do_as_little_as_possible(compose: Any) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
    assert {name for name, one in compose["services"].items() if "cap_add" in one} <= {"nginx"}


def test_no_container_fills_the_disk_with_its_output(compose: Any) -> None:
    for service in compose["services"].values():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
