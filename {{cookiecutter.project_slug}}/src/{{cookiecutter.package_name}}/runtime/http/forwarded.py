"""Client address and scheme from the X-Forwarded-* headers of trusted proxies.

Tornado's own ``xheaders`` trusts these headers from any peer; here they count only if the peer's
address is in APP_TRUSTED_PROXIES. ``Forwarded`` (RFC 7239) is not read: a proxy that sets
X-Forwarded-For passes on whatever ``Forwarded`` its client has sent.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from tornado.httputil import HTTPServerRequest

CACHED_ADDRESSES = 1024

# What some proxies write: with a port, IPv6 then in brackets.
_BRACKETS_OR_PORT = re.compile(r"\[([^\[\]]*)\](?::\d{1,5})?|([\d.]+):\d{1,5}")
_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as a socket of IPv6 shows them."""
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""By what proxies write; some name the scheme of a WebSocket."""


class TrustedProxies:
    """Applies ``X-Forwarded-For`` and ``X-Forwarded-Proto`` if a trusted proxy sent them."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(map(_unmapped, networks))
        self._trusts = lru_cache(maxsize=CACHED_ADDRESSES)(self._look_up)

    def apply(self, request: HTTPServerRequest) -> None:
        """Set the request's ``remote_ip`` and ``protocol`` to what the trusted proxy reports."""
        if not self._networks or not self._trusts(request.remote_ip):
            return
        # The nearest proxy appends, so the list is read from the right, and the first address
        # that is not a trusted proxy is the client. Everything left of it can be spoofed.
        for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            address = _address(hop)
            if address is None:
                break
            request.remote_ip = address
            if not self._trusts(address):
                break
        protocol = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip()
        request.protocol = _SCHEMES.get(protocol.lower(), request.protocol)

    def _look_up(self, address: str) -> bool:
        peer = ip_address(address)
        return any(peer in network for network in self._networks)


@lru_cache(maxsize=CACHED_ADDRESSES)
def _address(text: str) -> str | None:
    """Return the address in an entry of X-Forwarded-For; None if there is none."""
    text = text.strip()
    if match := _BRACKETS_OR_PORT.fullmatch(text):
        text = match[match.lastindex or 0]
    try:
        # A zone, as in fe80::1%eth0, means nothing on another host, and may be any text.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return the network of IPv4 that a network like ::ffff:10.0.0.0/104 means."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = network.network_address.ipv4_mapped
        return ip_network(f"{first}/{network.prefixlen - _MAPPED.prefixlen}")
    return network
