"""The headers of every response."""

from contextlib import AbstractAsyncContextManager

from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.settings import Settings
from runtime.testing import Client, serving
from tornado.web import RedirectHandler, RequestHandler


class OwnHeaders(Handler):
    """Sets headers of its own."""

    def get(self) -> None:
        self.set_header("Cache-Control", "max-age=60")
        self.set_header("X-Request-ID", "mine")
        self.finish()


def serving_one(
    handler: type[RequestHandler], **arguments: object
) -> AbstractAsyncContextManager[Client]:
    return serving(Application(Settings(), [Route("/", handler, **arguments)]))


async def test_handler_cannot_change_the_request_id() -> None:
    async with serving_one(OwnHeaders) as client:
        response = await client.get("/", X_Request_ID="check-17")
        assert response.headers.get_list("X-Request-ID") == ["check-17"]


async def test_responses_have_security_headers(client: Client) -> None:
    for path in "/", "/nowhere":
        headers = (await client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Server" not in headers


async def test_responses_of_plain_tornado_handlers_have_them_too() -> None:
    async with serving_one(RedirectHandler, url="/there") as client:
        response = await client.get("/")
    assert response.code == 301
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Request-ID"]
    assert "Server" not in response.headers


async def test_handler_may_replace_a_security_header() -> None:
    async with serving_one(OwnHeaders) as client:
        headers = (await client.get("/")).headers
    assert headers.get_list("Cache-Control") == ["max-age=60"]
    assert headers["X-Content-Type-Options"] == "nosniff"
