"""Nginx and the service agree: on ports, limits, time-outs, and on what they believe."""

import re
from ipaddress import ip_address

import pytest

from {{ cookiecutter.package_name }}.runtime.http import server as connections
from {{ cookiecutter.package_name }}.runtime.http import application as routing
from {{ cookiecutter.package_name }}.runtime.settings import Settings

from ..support import ROOT
from .conftest import ports

NAME = "{{ cookiecutter.project_slug }}.conf"
UNITS = {"": 1, "s": 1, "k": 1024}


@pytest.fixture
def conf() -> str:
    """The configuration without its comments."""
    text = (ROOT / "deploy/nginx" / NAME).read_text()
    return re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)


def values(conf: str, directive: str) -> list[str]:
    """List what a directive is set to, wherever it stands."""
    return re.findall(rf"^ *{directive} (.+);$", conf, re.MULTILINE)


def number(text: str) -> int:
    """Read a size in bytes or a time in seconds."""
    found = re.fullmatch(r"(\d+)([sk]?)", text)
    assert found, text
    return int(found[1]) * UNITS[found[2]]


def upstream(conf: str) -> str:
    found = re.findall(r"^upstream .*?^}", conf, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_nginx_has_a_server_for_each_worker(conf: str, production: Settings) -> None:
    servers = [value.removesuffix(" max_fails=0") for value in values(upstream(conf), "server")]
    [address] = {server.rpartition(":")[0] for server in servers}
    assert servers == [f"{address}:{port}" for port in ports(production)]
    assert production.address.is_unspecified or ip_address(address) == production.address


def test_everything_is_passed_to_these_servers(conf: str) -> None:
    [name] = re.findall(r"^upstream (\w+) {$", conf, re.MULTILINE)
    assert values(conf, "proxy_pass") == [f"http://{name}"]


def test_the_admin_port_is_not_there(conf: str, production: Settings) -> None:
    assert str(production.port) in conf
    assert str(production.admin_port) not in conf


def test_the_service_trusts_nginx_alone(conf: str, production: Settings) -> None:
    [proxy] = production.trusted_proxies
    assert proxy.num_addresses == 1
    assert production.address.is_unspecified or proxy[0] == production.address
    headers = dict(value.split(" ", 1) for value in values(conf, "proxy_set_header"))
    assert headers["X-Forwarded-For"] == "$remote_addr"
    assert headers["X-Forwarded-Proto"] == "$scheme"


def test_both_refuse_bodies_of_the_same_size(conf: str, production: Settings) -> None:
    assert values(conf, "client_max_body_size") == [str(production.max_body_size)]


def test_the_service_takes_the_headers_that_nginx_takes(conf: str) -> None:
    [first] = set(values(conf, "client_header_buffer_size"))
    [more] = set(values(conf, "large_client_header_buffers"))
    count, size = more.split()
    added = 512
    taken = number(first) + int(count) * number(size) + added
    assert taken <= connections.MAX_HEADER_SIZE


@pytest.mark.parametrize(
    "directive",
    ["client_header_timeout", "client_header_buffer_size", "large_client_header_buffers"],
)
def test_both_servers_read_headers_alike(conf: str, directive: str) -> None:
    # The first one reads them for the second, until it has seen the Host.
    first, second = values(conf, directive)
    assert first == second


def test_nginx_is_the_first_to_close_an_idle_connection(conf: str, production: Settings) -> None:
    [seconds] = values(upstream(conf), "keepalive_timeout")
    assert number(seconds) < production.idle_timeout


def test_a_silent_websocket_stays_open(conf: str, production: Settings) -> None:
    [seconds] = values(conf, "proxy_read_timeout")
    application = routing.Application(production, [])
    assert application.settings["websocket_ping_interval"] < number(seconds)


def test_both_accept_the_same_request_ids(conf: str) -> None:
    [pattern] = re.findall(r'^ *"~\^(.+)\$" \$http_x_request_id;$', conf, re.MULTILINE)
    assert pattern == routing._SANE_ID.pattern


def test_every_error_of_nginx_has_a_title(conf: str) -> None:
    # Those with an equals sign are Nginx's own numbers, answered as 400.
    lists = [codes for codes in values(conf, "error_page") if "=400" not in codes]
    errors = {code for codes in lists for code in codes.split()[:-1]}
    titled = re.findall(r'^ *([45]\d\d) ".+";$', conf, re.MULTILINE)
    assert titled == sorted(errors)
