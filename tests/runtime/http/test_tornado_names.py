"""Where the runtime does what Tornado does: these tests fail when Tornado changes it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.request import Request
from runtime.http1.exchange import Exchange, Peer
from runtime.settings import Settings
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import RequestHandler

START_LINE = RequestStartLine("GET", "/a?b=c&b=d&e", "HTTP/1.1")
REQUEST_TIMES = {"_start_time", "_finish_time"}
"""What Tornado's `request_time` reads, which `Request` replaces."""


def exchange() -> Exchange:
    channel = SimpleNamespace(context=Peer("192.0.2.1", None), set_close_callback=lambda call: None)
    return cast(Exchange, channel)


def headers() -> HTTPHeaders:
    return HTTPHeaders({"Host": "Example.com:8000"})


@pytest.fixture
def ours() -> Request:
    return Request(exchange(), "server", START_LINE, headers())


@pytest.fixture
def theirs() -> HTTPServerRequest:
    return HTTPServerRequest(
        connection=exchange(), server_connection="server", start_line=START_LINE, headers=headers()
    )


def test_request_has_every_attribute_of_tornado(ours: Request, theirs: HTTPServerRequest) -> None:
    expected = vars(theirs).keys() - REQUEST_TIMES
    assert vars(ours).keys() - {"exchange", "start_time", "route"} == expected
    for name in expected - {"connection", "headers"}:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert 0 <= ours.request_time() < 60


def test_arguments_are_independent_of_each_other(ours: Request) -> None:
    ours.arguments["b"].append(b"x")
    assert ours.query_arguments == {"b": [b"c", b"d"], "e": [b""]}


def test_body_is_parsed_where_tornado_parses_it(ours: Request) -> None:
    assert "_parse_body" in vars(HTTPServerRequest)
    ours.headers["Content-Type"] = "application/x-www-form-urlencoded"
    ours.body = b"b=f&g=h"
    ours._parse_body()
    assert ours.body_arguments == {"b": [b"f"], "g": [b"h"]}
    assert ours.arguments["b"] == [b"c", b"d", b"f"]


def test_handler_is_cleared_as_by_tornado() -> None:
    def cleared(handler: type[RequestHandler]) -> dict[str, Any]:
        made = handler(
            Application(Settings(), []), Request(exchange(), None, START_LINE, headers())
        )
        made.set_status(404)
        made.set_header("X-Own", "1")
        made.write("text")
        made.clear()
        return vars(made)

    theirs, ours = cleared(RequestHandler), cleared(Handler)
    assert theirs.keys() <= ours.keys()
    names = ("_status_code", "_reason", "_write_buffer", "_headers_written", "_finished")
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    assert dict(ours["_headers"]) == {"Content-Type": "application/json"}
    # The server adds the date itself, and does not tell what it is.
    assert theirs["_headers"].keys() - {"Server", "Date"} == {"Content-Type"}
