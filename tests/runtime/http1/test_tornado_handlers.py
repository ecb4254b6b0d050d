"""What handlers that were written for Tornado's own server use of a connection."""

import asyncio
from http import HTTPStatus

import pytest
from runtime import Application, Route, Settings
from runtime.testing import serving, wait_until
from tornado.httputil import HTTPOutputError
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from ..support.connections import RawConnection

POST = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"


def make_app(handler: type[RequestHandler], **settings: float) -> Application:
    return Application(Settings(**settings), [Route("/", handler)])


@pytest.mark.parametrize("leave", [RawConnection.abort, RawConnection.send_eof])
async def test_stream_tells_that_the_client_has_left(leave) -> None:
    class Events(RequestHandler):
        async def get(self) -> None:
            stream = self.request.connection.stream
            assert not stream.closed()
            began.set()
            await wait_until(stream.closed)
            ended.set()

    began, ended = asyncio.Event(), asyncio.Event()
    async with serving(make_app(Events)) as client, RawConnection(client.port) as connection:
        connection.send_get()
        await began.wait()
        leave(connection)
        await ended.wait()


async def test_stream_closes_the_connection() -> None:
    class Closing(RequestHandler):
        async def get(self) -> None:
            stream = self.request.connection.stream
            stream.close()
            assert stream.closed()
            with pytest.raises(StreamClosedError):
                await stream.write(b"too late")
            ended.set()

    ended = asyncio.Event()
    async with serving(make_app(Closing)) as client, RawConnection(client.port) as connection:
        connection.send_get()
        assert await connection.read_to_end() == b""
        await ended.wait()


async def test_stream_sends_an_informational_response() -> None:
    class Hints(RequestHandler):
        async def get(self) -> None:
            stream = self.request.connection.stream
            streams.append(stream)
            await stream.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
            self.write("hello")

    streams = []
    async with serving(make_app(Hints)) as client, RawConnection(client.port) as connection:
        connection.send_get()
        hints = await connection.response()
        assert (hints.status, hints.headers["Link"]) == (HTTPStatus.EARLY_HINTS, "</a.css>")
        assert (await connection.response()).body == b"hello"
        with pytest.raises(HTTPOutputError, match="already ended"):
            streams[0].write(b"too late")


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


async def test_content_length_of_a_response_that_is_no_number_closes() -> None:
    class Faulty(RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Length", "+5")
            self.write("hello")

    async with serving(make_app(Faulty)) as client, RawConnection(client.port) as connection:
        connection.send_get()
        assert await connection.read_to_end() == b""
