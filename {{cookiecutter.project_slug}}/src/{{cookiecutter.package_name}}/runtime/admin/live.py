"""The live page: what goes on in the service, in a browser, without anything else.

It is one HTML file with its style and script in the folder `page`, and a stream of events that
`feed.Feed` makes once a second.
"""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..http.event_stream import EventStream
from ..http.handler import Handler
from ..http.problem import Problem
from ..http.routing import Route
from ..http.static import StaticFiles
from .feed import Feed

FOLDER = Path(__file__).parent / "page"
PAGE = "live.html"

MAX_STREAMS = 100
"""Browsers that may show the page at a time."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline, and nothing from another host: the page shows what clients have sent."""
FOREIGN_NAME = "On this machine the live page opens at http://localhost or an IP address only."
TOO_MANY_STREAMS = f"{MAX_STREAMS} browsers show the live page already. Close one of them."


class LocalPage(Handler):
    """Refuses a foreign name for this machine.

    Otherwise a page of another site could read the live page, in the browser of an operator: its
    name would first resolve to that site, then to 127.0.0.1 (DNS rebinding).
    """

    def prepare(self) -> None:
        if _is_loopback(self.request.exchange.context.address) and not _is_local_name(
            self.request.host_name
        ):
            raise Problem(403, FOREIGN_NAME)


class LiveFiles(StaticFiles, LocalPage):
    """``GET /live/...``: style and script of the page."""

    def set_extra_headers(self, path: str) -> None:
        super().set_extra_headers(path)
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)


class LivePage(LiveFiles):
    """``GET /``: the page."""

    async def get(self, path: str = PAGE, include_body: bool = True) -> None:
        await super().get(path, include_body)

    def head(self, *args: str, **kwargs: str) -> Any:
        return super().head(PAGE)


class LiveUpdates(EventStream, LocalPage):
    """``GET /live/updates``: the history first, then each second.

    A browser goes on after ``Last-Event-ID`` or, if it had to begin anew, after ``?after=``.
    """

    retry = 1.0

    def initialize(self, feed: Feed) -> None:
        self._feed = feed

    def prepare(self) -> None:
        super().prepare()
        if len(self._connections.event_streams) >= MAX_STREAMS:
            raise Problem(503, TOO_MANY_STREAMS)

    async def stream(self, *args: str, **kwargs: str) -> None:
        feed = self._feed
        position = feed.position_of(self.last_event_id or self.get_query_argument("after", ""))
        while True:
            message, position = feed.message(position)
            await self.send(message, id=feed.id_of(position))
            await feed.next_second()


def live_routes(feed: Feed) -> list[Route]:
    """Return the routes of the live page."""
    return [
        Route("/", LivePage, path=str(FOLDER)),
        Route("/live/updates", LiveUpdates, feed=feed),
        Route("/live/{path*}", LiveFiles, path=str(FOLDER)),
    ]


def _is_loopback(address: object) -> bool:
    """Return whether a client is on this machine. `address` is that of its socket."""
    with suppress(ValueError, IndexError, TypeError):
        if isinstance(address, tuple):
            host = ip_address(address[0])
            # A socket for both versions of IP has a client of version 4 as ::ffff:127.0.0.1.
            return bool((getattr(host, "ipv4_mapped", None) or host).is_loopback)
    return False


def _is_local_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        ip_address(name.strip("[]"))
        return True
    return False
