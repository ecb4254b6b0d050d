"""Path templates, and the arguments of handlers."""

from pathlib import Path
from typing import cast

import pytest
from runtime.http.application import Application
from runtime.http.event_stream import EventStream
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.settings import Settings
from runtime.testing import Record, response_json, serving
from tornado.routing import PathMatches, Rule
from tornado.web import RequestHandler, StaticFileHandler, authenticated

from ..support.access import access_lines


class ShowSegments(Handler):
    def get(self, **segments: str) -> None:
        self.reply(segments)


class ShowArguments(Handler):
    def initialize(self, **arguments: object) -> None:
        self._arguments = arguments

    def get(self, **segments: str) -> None:
        self.reply(self._arguments)


def app(*routes: Route) -> Application:
    return Application(Settings(), routes)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/1", {"x": "1"}),
        ("/a/with%20space", {"x": "with space"}),
        ("/a/1%2F2", {"x": "1/2"}),
        ("/a/1/b/2", {"x": "1", "y": "2"}),
        ("/a/1?x=9", {"x": "1"}),
    ],
)
async def test_placeholder_matches_one_segment(path: str, expected: dict[str, str]) -> None:
    routes = [Route("/a/{x}", ShowSegments), Route("/a/{x}/b/{y}", ShowSegments)]
    async with serving(app(*routes)) as client:
        assert response_json(await client.get(path)) == expected


@pytest.mark.parametrize("path", ["/a", "/a/", "/a/1/", "/a/1/b", "/b/a/1", "/A/1"])
async def test_template_matches_nothing_else(path: str) -> None:
    async with serving(app(Route("/a/{x}", ShowSegments))) as client:
        assert (await client.get(path)).code == 404


async def test_placeholder_with_asterisk_matches_the_rest_of_the_path() -> None:
    async with serving(app(Route("/files/{path*}", ShowSegments))) as client:
        assert response_json(await client.get("/files/a/b.txt")) == {"path": "a/b.txt"}


@pytest.mark.parametrize("path", ["/robotsXtxt", "/robots.txt/", "/aab"])
async def test_template_is_not_a_regular_expression(path: str) -> None:
    routes = [Route("/robots.txt", ShowSegments), Route("/a+b", ShowSegments)]
    async with serving(app(*routes)) as client:
        assert (await client.get(path)).code == 404
        assert (await client.get("/robots.txt")).code == 200
        assert (await client.get("/a+b")).code == 200


async def test_first_route_that_matches_counts(log_records: list[Record]) -> None:
    routes = [Route("/a/b", ShowArguments, order=1), Route("/a/{x}", ShowArguments, order=2)]
    async with serving(app(*routes)) as client:
        assert response_json(await client.get("/a/b")) == {"order": 1}
        assert response_json(await client.get("/a/c")) == {"order": 2}
    assert [line["http.route"] for line in access_lines(log_records)] == ["/a/b", "/a/{x}"]


async def test_initialize_gets_the_keyword_arguments_of_any_name() -> None:
    arguments = {"number": 7, "path": "x", "handler": "y", "name": "z"}
    async with serving(app(Route("/", ShowArguments, **arguments))) as client:
        assert response_json(await client.get("/")) == arguments


async def test_handler_of_tornado_serves_files_under_a_route(
    tmp_path: Path, log_records: list[Record]
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    route = Route("/files/{path*}", StaticFileHandler, path=str(tmp_path))
    async with serving(app(route)) as client:
        assert (await client.get("/files/a.txt")).body == b"hello"
    assert [line["http.route"] for line in access_lines(log_records)] == ["/files/{path*}"]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (["/a", "/{x}"], "/a"),
        (["/{x}", "/a"], "/{x}"),
        (["/{x*}", "/a"], "/{x*}"),
        (["/b/{x}", "/a"], "/a"),
        (["/a{x}", "/a"], "/a"),
        (["/a{x*}", "/a{y}", "/a"], "/a{x*}"),
        (["/b", "/a/{x}", "/{x}", "/a"], "/{x}"),
    ],
)
async def test_route_with_a_placeholder_is_not_overtaken(routes: list[str], expected: str) -> None:
    numbered = [Route(path, ShowArguments, number=number) for number, path in enumerate(routes)]
    async with serving(app(*numbered)) as client:
        response = await client.get("/a")
    assert response_json(response) == {"number": routes.index(expected)}


async def test_handlers_of_a_host_come_first() -> None:
    application = app(Route("/", ShowArguments, number=0))
    application.add_handlers("127.0.0.1", [Route("/", ShowArguments, number=1)])
    async with serving(application) as client:
        assert response_json(await client.get("/")) == {"number": 1}


async def test_rule_of_tornado_may_stand_between_routes() -> None:
    rule = Rule(PathMatches("/a.*"), ShowArguments, {"number": 1})
    routes = [Route("/b", ShowArguments, number=0), rule, Route("/{x*}", ShowArguments, number=2)]
    async with serving(Application(Settings(), cast(list[Route], routes))) as client:
        found = [response_json(await client.get(path)) for path in ("/b", "/ab", "/c/d")]
    assert found == [{"number": 0}, {"number": 1}, {"number": 2}]


async def test_route_is_found_among_many(log_records: list[Record]) -> None:
    routes = [Route(f"/r{number}/{{x}}", ShowSegments) for number in range(200)]
    async with serving(app(*routes)) as client:
        assert response_json(await client.get("/r199/1")) == {"x": "1"}
        assert (await client.get("/r200/1")).code == 404
    assert [line["http.route"] for line in access_lines(log_records)] == ["/r199/{x}", "none"]


# Routes that are refused


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/orders/{order-id}", "{order-id} is not {name} or {name*}"),
        ("/orders/{number:int}", "{number:int} is not {name} or {name*}"),
        ("/orders/{1}", "{1} is not {name} or {name*}"),
        ("/orders/{}", "{} is not {name} or {name*}"),
        ("/orders/{a*b}", "{a*b} is not {name} or {name*}"),
        ("/orders/{number}/{number}", "the name number occurs twice"),
        ("/orders/{number", "a brace has no counterpart"),
        ("/orders/number}", "a brace has no counterpart"),
        ("/orders/{{number}}", "a brace has no counterpart"),
        ("orders", "a path begins with /"),
        ("", "a path begins with /"),
        ("/orders?sort={key}", "leave out the query"),
        ("/two words", "percent-encoded"),
        ("/caf\xe9", "percent-encoded"),
    ],
)
def test_route_that_nothing_can_match_is_refused(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^route ") as caught:
        Route(path, ShowSegments)
    assert repr(path) in str(caught.value)
    assert reason in str(caught.value)


async def test_route_with_a_percent_encoded_letter_is_found() -> None:
    async with serving(app(Route("/caf%C3%A9/{\xe9t\xe9}", ShowSegments))) as client:
        assert response_json(await client.get("/caf%C3%A9/1")) == {"\xe9t\xe9": "1"}


@pytest.mark.parametrize(
    ("first", "second"), [("/a", "/a"), ("/a/{x}", "/a/{y}"), ("/a/{x*}", "/a/{y*}")]
)
def test_second_route_for_the_same_paths_is_refused(first: str, second: str) -> None:
    with pytest.raises(ValueError, match="matches the same paths as") as caught:
        app(Route(first, ShowSegments), Route("/b", ShowSegments), Route(second, ShowSegments))
    assert repr(first) in str(caught.value)
    assert repr(second) in str(caught.value)


def test_routes_for_other_paths_are_no_doubles() -> None:
    paths = ["/a", "/a/", "/A", "/{x}", "/{x*}", "/a/{x}", "/a/{x}/{y}"]
    app(*(Route(path, ShowSegments) for path in paths))


class ShowOrder(Handler):
    def get(self, number: str, version: str = "1") -> None:
        self.reply({"number": number, "version": version})

    @authenticated
    def delete(self, number: str) -> None:
        raise NotImplementedError


class Feed(WebSocket):
    def open(self, number: str) -> None:
        raise NotImplementedError


class Changes(EventStream):
    async def stream(self, number: str) -> None:
        raise NotImplementedError


class Helped(RequestHandler):
    def get(self) -> None:
        raise NotImplementedError

    def open(self, path: str) -> None:
        """Not the one that a WebSocket has."""


@pytest.mark.parametrize(
    ("path", "handler", "reason"),
    [
        ("/{order_id}", ShowOrder, "ShowOrder.get does not take .*number"),
        ("/", ShowOrder, "ShowOrder.get does not take .*number"),
        ("/{number}/{other}", ShowOrder, "ShowOrder.get does not take .*other"),
        ("/{number}/{version}", ShowOrder, "ShowOrder.delete does not take .*version"),
        ("/{self}", ShowSegments, "ShowSegments.get does not take .*self"),
        ("/{id}", Feed, "Feed.open does not take .*number"),
        ("/{id}", Changes, "Changes.stream does not take .*number"),
        ("/{id}", Helped, "Helped.get does not take .*id"),
    ],
)
def test_method_that_does_not_take_the_placeholders_is_refused(
    path: str, handler: type[RequestHandler], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Route(path, handler)


def test_method_that_takes_the_placeholders_is_not_refused() -> None:
    Route("/{number}", ShowOrder)
    Route("/{number}", Feed)
    Route("/{number}", Changes)
    Route("/", Helped)
    Route("/{anything}", WebSocket)
