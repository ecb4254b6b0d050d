"""Receives and sends large bodies piece by piece: ``python -m tests.runtime.apps.streaming``."""

import logging
import sys

from runtime import Application, Handler, Route, Service, Settings
from tornado.web import stream_request_body

from ..support.sample_app import until_released

PIECE = bytes(64 * 1024)
SIZE = 100 * 1024 * 1024
"""Bytes of a response."""

logger = logging.getLogger(__name__)


@stream_request_body
class Receive(Handler):
    """Takes the first piece of a body, then waits until the test lets it go on."""

    def prepare(self) -> None:
        self.request.exchange.set_max_body_size(2 * SIZE)
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        if not self.size:
            logger.info("receiving")
            await until_released()
        self.size += len(chunk)

    def put(self) -> None:
        self.reply({"size": self.size})


class Send(Handler):
    """Writes as fast as the client reads."""

    async def get(self) -> None:
        if self.get_query_argument("framing") == "Content-Length":
            self.set_header("Content-Length", SIZE)
        for _ in range(SIZE // len(PIECE)):
            self.write(PIECE)
            await self.flush()
        logger.info("everything is sent")


def make_app(settings: Settings) -> Application:
    return Application(settings, [Route("/receive", Receive), Route("/send", Send)])


service = Service(
    "streaming",
    "1.0",
    settings="runtime.settings:Settings",
    app=f"{__spec__.name}:make_app" if __spec__ else "",
)

if __name__ == "__main__":
    sys.exit(service.main())
