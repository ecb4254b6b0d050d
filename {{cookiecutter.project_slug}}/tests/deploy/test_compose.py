"""Docker Compose, the production settings and Nginx agree with each other."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.settings import Settings

from .files import ROOT, ports, unknown_settings

FOLDER = ROOT / "deploy/docker"
NGINX = ROOT / "deploy/nginx/{{ cookiecutter.project_slug }}.conf"


@pytest.fixture(scope="module")
def services() -> Any:
    """The services in compose.yaml."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["services"]


@pytest.fixture
def settings(services: Any, production: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings in the container: the production settings with those of compose.yaml."""
    environment = services["app"].get("environment", {})
    assert unknown_settings(environment) == []
    for name, value in environment.items():
        # The value of a secret comes from outside.
        if "${" not in str(value):
            monkeypatch.setenv(name, str(value))
    # Those of `production` are in `.env`.
    return Settings.load()


def published(service: Any) -> list[int]:
    """Return the ports of a container that are public."""
    lines = [line for line in service.get("ports", []) if not line.startswith("127.0.0.1:")]
    return [int(line.rpartition(":")[2]) for line in lines]


def mounts(service: Any) -> dict[str, str]:
    """Return the sources of the mounts by their path in the container."""
    pairs = (line.removesuffix(":ro").split(":") for line in service.get("volumes", []))
    return {target: source for source, target in pairs}


def address(service: Any) -> str:
    """Return the fixed address of a service."""
    return str(service["networks"]["default"]["ipv4_address"])


def test_nginx_runs_if_it_is_configured(services: Any) -> None:
    assert ("nginx" in services) == NGINX.exists()


def test_only_the_entry_point_is_public(services: Any, settings: Settings) -> None:
    public = {name: some for name, service in services.items() if (some := published(service))}
    assert public == ({"nginx": [80, 443]} if "nginx" in services else {"app": ports(settings)})


def test_nginx_connects_to_the_service(services: Any, settings: Settings) -> None:
    if "nginx" in services:
        servers = re.findall(r"^ +server (\S+):(\d+) ", NGINX.read_text("utf-8"), re.MULTILINE)
        app = address(services["app"])
        assert servers == [(app, str(port)) for port in ports(settings)]


def test_service_trusts_nginx_only(services: Any, settings: Settings) -> None:
    proxies = [address(services["nginx"])] if "nginx" in services else []
    assert settings.trusted_proxies == tuple(map(ip_network, proxies))


def test_fixed_addresses_are_reserved(services: Any) -> None:
    fixed = [ip_address(address(service)) for service in services.values() if "networks" in service]
    if fixed:
        networks = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["networks"]
        [pool] = networks["default"]["ipam"]["config"]
        reserved = set(ip_network(pool["subnet"]).hosts()) - set(ip_network(pool["ip_range"]))
        assert len(set(fixed)) == len(fixed)
        assert set(fixed) <= reserved - {ip_address(pool["gateway"])}


def test_mounted_files_and_volumes_exist(services: Any) -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    sources = [source for service in services.values() for source in mounts(service).values()]
    files = [source for source in sources if source.startswith(".")]
    assert [source for source in files if not (FOLDER / source).exists()] == []
    assert set(sources) - set(files) == set(compose.get("volumes", []))


def test_nginx_mounts_the_folder_that_it_includes(services: Any) -> None:
    if NGINX.exists():
        included = set(
            re.findall(r"^ +include (\S+)/\*\.conf;", NGINX.read_text("utf-8"), re.MULTILINE)
        )
        assert {f"/etc/nginx/{folder}" for folder in included} <= mounts(services["nginx"]).keys()


def test_log_is_in_a_volume(services: Any, settings: Settings) -> None:
    folders = [settings.log_file.parent] if settings.log_file else []
    assert [Path(target) for target in mounts(services["app"])] == folders


def test_docker_waits_longer_than_the_service_drains(services: Any, settings: Settings) -> None:
    drain = settings.drain_delay + settings.drain_timeout
    for name in {"app", "nginx"} & services.keys():
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > drain


def test_orphaned_processes_are_reaped(services: Any, settings: Settings) -> None:
    # By the supervisor of several workers, otherwise by Docker's init.
    assert services["app"].get("init", False) == (settings.workers == 1)
