"""Client address and scheme behind trusted proxies."""

from ipaddress import ip_network

import pytest
from runtime.http.forwarded import TrustedProxies
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

PROXIES = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def request(peer: str, *forwarded_for: str, protocol: str | None = None) -> HTTPServerRequest:
    headers = HTTPHeaders({"Host": "localhost"})
    for value in forwarded_for:
        headers.add("X-Forwarded-For", value)
    if protocol is not None:
        headers.add("X-Forwarded-Proto", protocol)
    start_line = RequestStartLine("GET", "/", "HTTP/1.1")
    request = HTTPServerRequest(headers=headers, start_line=start_line)
    request.remote_ip = peer
    request.protocol = "http"
    return request


def client_of(request: HTTPServerRequest, proxies: TrustedProxies = PROXIES) -> str:
    proxies.apply(request)
    return str(request.remote_ip)


def test_client_address_is_taken_from_a_trusted_proxy() -> None:
    assert client_of(request("10.0.0.1", "203.0.113.5")) == "203.0.113.5"


def test_header_of_an_untrusted_peer_is_ignored() -> None:
    assert client_of(request("192.0.2.1", "203.0.113.5")) == "192.0.2.1"


def test_header_is_ignored_without_trusted_proxies() -> None:
    assert client_of(request("10.0.0.1", "203.0.113.5"), TrustedProxies([])) == "10.0.0.1"


def test_proxy_without_the_header_is_the_client() -> None:
    assert client_of(request("10.0.0.1")) == "10.0.0.1"


def test_client_is_the_rightmost_untrusted_address() -> None:
    assert client_of(request("10.0.0.1", "203.0.113.5, 10.9.9.9, 10.1.1.1")) == "203.0.113.5"


def test_addresses_left_of_the_client_are_ignored() -> None:
    assert client_of(request("10.0.0.1", "198.51.100.7, 203.0.113.5, 10.1.1.1")) == "203.0.113.5"


def test_several_headers_are_one_list() -> None:
    assert client_of(request("10.0.0.1", "198.51.100.7", "203.0.113.5,10.1.1.1")) == "203.0.113.5"


def test_leftmost_address_counts_if_all_are_trusted() -> None:
    assert client_of(request("10.0.0.1", "10.3.3.3, 10.2.2.2")) == "10.3.3.3"


@pytest.mark.parametrize(
    "malformed",
    ["unknown", "_hidden", "203.0.113.5:", "203.0.113.5:x", "[::1", "[]", "<script>", "%eth0", ""],
)
def test_malformed_address_ends_the_list(malformed: str) -> None:
    assert client_of(request("10.0.0.1", f"203.0.113.5, {malformed}, 10.2.2.2")) == "10.2.2.2"


def test_ipv6_addresses_are_supported() -> None:
    assert client_of(request("fd00::1", "2001:DB8::5")) == "2001:db8::5"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.5:443", "203.0.113.5"),
        ("[203.0.113.5]:443", "203.0.113.5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:443", "2001:db8::5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("[::FFFF:203.0.113.5]:443", "203.0.113.5"),
        ("::ffff:cb00:7105", "203.0.113.5"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        ("fe80::1%<script>", "fe80::1"),
    ],
)
def test_address_is_understood_however_it_is_written(written: str, address: str) -> None:
    assert client_of(request("10.0.0.1", f"192.0.2.9, {written}")) == address


@pytest.mark.parametrize("hop", ["::ffff:10.1.1.1", "10.1.1.1:80", "[fd00::2]:80"])
def test_trusted_proxy_is_recognised_however_it_is_written(hop: str) -> None:
    assert client_of(request("10.0.0.1", f"203.0.113.5, {hop}")) == "203.0.113.5"


@pytest.mark.parametrize(
    ("network", "peer"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.9.9.9"),
        ("fe80::/10", "fe80::1%eth0"),
    ],
)
def test_proxy_is_trusted_however_its_network_is_written(network: str, peer: str) -> None:
    proxies = TrustedProxies([ip_network(network)])
    assert client_of(request(peer, "203.0.113.5"), proxies) == "203.0.113.5"
    assert client_of(request("11.0.0.1", "203.0.113.5"), proxies) == "11.0.0.1"


def test_other_headers_of_proxies_are_not_read() -> None:
    spoofed = request("10.0.0.1", "203.0.113.5")
    spoofed.headers["Forwarded"] = "for=192.0.2.7;proto=https"
    spoofed.headers["X-Real-IP"] = "192.0.2.7"
    assert client_of(spoofed) == "203.0.113.5"
    assert spoofed.protocol == "http"


@pytest.mark.parametrize(
    ("peer", "header", "protocol"),
    [
        ("10.0.0.1", "HTTPS", "https"),
        ("10.0.0.1", "wss", "https"),
        ("10.0.0.1", "ws", "http"),
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "https, http", "http"),
        ("10.0.0.1", "http,https", "https"),
        ("10.0.0.1", "gopher", "http"),
        ("10.0.0.1", None, "http"),
        ("192.0.2.1", "https", "http"),
    ],
)
def test_scheme_is_taken_from_a_trusted_proxy_only(
    peer: str, header: str | None, protocol: str
) -> None:
    forwarded = request(peer, protocol=header)
    PROXIES.apply(forwarded)
    assert forwarded.protocol == protocol
