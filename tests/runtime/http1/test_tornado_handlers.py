"""What handlers that were written for Tornado's own server use of a connection."""

import asyncio
from http import HTTPStatus

from runtime import Application, Route, Settings
from runtime.testing import serving, wait_until
from tornado.web import RequestHandler, stream_request_body

from ..support.connections import RawConnection

POST = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"


def make_app(handler: type[RequestHandler], **settings: float) -> Application:
    return Application(Settings(**settings), [Route("/", handler)])


async def test_timeout_of_a_body_that_is_set_in_prepare_counts() -> None:
    @stream_request_body
    class Impatient(RequestHandler):
        def prepare(self) -> None:
            self.request.connection.set_body_timeout(0.1)

        def data_received(self, chunk: bytes) -> None:
            pass

    app = make_app(Impatient, body_timeout=3600)
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send(POST.format(1))
        response = await connection.response()
    assert response.status == HTTPStatus.REQUEST_TIMEOUT
    assert response.json()["detail"] == "The body did not arrive within 0.1 s."


async def test_streaming_handler_gets_pieces_of_64_kb() -> None:
    @stream_request_body
    class Upload(RequestHandler):
        sizes: list[int] = []  # noqa: RUF012

        async def prepare(self) -> None:
            await asyncio.sleep(0)

        async def data_received(self, chunk: bytes) -> None:
            self.sizes.append(len(chunk))
            await arrived.wait()

        def post(self) -> None:
            self.write("done")

    arrived = asyncio.Event()
    async with serving(make_app(Upload)) as client, RawConnection(client.port) as connection:
        connection.send(POST.format(200_000) + 200_000 * "a")
        await wait_until(lambda: Upload.sizes)
        arrived.set()
        assert (await connection.response()).body == b"done"
    assert sum(Upload.sizes) == 200_000
    assert max(Upload.sizes) == 64 * 1024
