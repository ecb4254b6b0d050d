"""Nginx and the service agree on addresses, ports, limits and timeouts."""

import re
from ipaddress import ip_address

import pytest

from {{ cookiecutter.package_name }}.settings import Settings

from .files import ROOT, ports

NAME = "{{ cookiecutter.project_slug }}"


@pytest.fixture
def conf() -> str:
    """The configuration without its comments."""
    text = (ROOT / f"deploy/nginx/{NAME}.conf").read_text("utf-8")
    return re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)


def values(conf: str, directive: str) -> list[str]:
    """Return the values of a directive, in all blocks."""
    return re.findall(rf"^ *{directive} (.+);$", conf, re.MULTILINE)


@pytest.fixture
def upstream(conf: str) -> str:
    """The block with the servers."""
    [block] = re.findall(r"^upstream .*?^}", conf, re.MULTILINE | re.DOTALL)
    return str(block)


def test_upstream_has_one_server_per_worker(upstream: str, production: Settings) -> None:
    hosts: dict[str, list[int]] = {}
    for server in values(upstream, "server"):
        host, _, port = server.split()[0].rpartition(":")
        hosts.setdefault(host, []).append(int(port))
    assert list(hosts.values()) == [ports(production)] * len(hosts)
    own = production.address
    assert own.is_unspecified or own in [ip_address(host) for host in hosts]


def test_admin_port_is_not_public(conf: str, production: Settings) -> None:
    assert str(production.port) in conf
    assert str(production.admin_port) not in conf


def test_service_trusts_nginx_only(production: Settings) -> None:
    [proxy] = production.trusted_proxies
    assert proxy.num_addresses == 1
    assert proxy[0] == production.address or not production.address.is_loopback


def test_body_limits_are_equal(conf: str, production: Settings) -> None:
    assert values(conf, "client_max_body_size") == [str(production.max_body_size)]


def test_errors_of_nginx_are_for_the_same_origins(conf: str, production: Settings) -> None:
    [block] = re.findall(r"^map \$http_origin .*?^}", conf, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"(http.+)" \$http_origin;', block) == list(production.cors_origins)


@pytest.mark.parametrize(
    "directive",
    ["client_header_timeout", "client_header_buffer_size", "large_client_header_buffers"],
)
def test_header_limits_are_equal_in_both_servers(conf: str, directive: str) -> None:
    # Nginx uses those of the first server until it has read the Host header.
    first, second = values(conf, directive)
    assert first == second


def test_nginx_closes_idle_connections_first(upstream: str, production: Settings) -> None:
    [timeout] = values(upstream, "keepalive_timeout")
    assert int(timeout.removesuffix("s")) < production.idle_timeout
