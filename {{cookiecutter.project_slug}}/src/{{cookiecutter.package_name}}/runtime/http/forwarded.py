"""Client address and scheme from the X-Forwarded-* headers of trusted proxies.

Tornado's own ``xheaders`` trusts these headers from any peer; here they count only if the peer's
address is in APP_TRUSTED_PROXIES.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address

from tornado.httputil import HTTPServerRequest


class TrustedProxies:
    """Applies ``X-Forwarded-For`` and ``X-Forwarded-Proto`` if a trusted proxy sent them."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._trusts = lru_cache(maxsize=1024)(self._look_up)

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
        if protocol in {"http", "https"}:
            request.protocol = protocol

    def _look_up(self, address: str) -> bool:
        peer = ip_address(address)
        return any(peer in network for network in self._networks)


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return None
