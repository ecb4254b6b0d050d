"""CORS: what a browser at another origin gets, as the Fetch Standard wants it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from runtime.admin.handlers import make_admin_app
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http.websocket import WebSocket
from runtime.monitor.monitor import Monitor
from runtime.settings import Settings
from runtime.testing import Client, Record, response_problem, serving
from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.web import RequestHandler

from ..apps.pages.app import Broken, Items
from ..support.access import access_lines
from ..support.connections import close
from ..support.fakes import ORDERS, FakeStatus

ORIGIN = "https://app.example"
CROSS_SITE = {"Origin": ORIGIN, "Sec_Fetch_Site": "cross-site"}
PREFLIGHT = {**CROSS_SITE, "Access_Control_Request_Method": "POST"}


class Plain(RequestHandler):
    """One of Tornado's own handlers."""

    def get(self, number: str) -> None:
        self.write("plain")


class OwnOptions(Handler):
    """A handler that responds to OPTIONS itself."""

    def options(self) -> None:
        self.reply({"own": True})


class Large(Handler):
    """A handler that accepts large bodies."""

    max_body_size = 1000

    def post(self) -> None:
        self.reply(status=201)


class OwnHeaders(Handler):
    """A handler with headers of its own that CORS uses as well."""

    def get(self) -> None:
        self.set_header("Vary", "Accept-Language")
        self.set_header("Access-Control-Allow-Origin", "*")
        self.reply()


def make_app(**tornado_settings: Any) -> Application:
    handlers = {"/items": Items, "/broken": Broken, "/own": OwnOptions, "/headers": OwnHeaders}
    routes = [Route(path, handler) for path, handler in handlers.items()]
    routes += [Route("/plain/{number}", Plain), Route("/socket", WebSocket)]
    routes.append(Route("/large", Large))
    settings = Settings(cors_origins=(ORIGIN, "http://localhost:3000"), max_body_size=100)
    return Application(settings, routes, **tornado_settings)


@pytest.fixture
async def api() -> AsyncIterator[Client]:
    async with serving(make_app()) as client:
        yield client


def allowed(response: HTTPResponse) -> str | None:
    """Return which origin may read a response; check that caches are told of it."""
    assert "Origin" in [
        part.strip() for part in ",".join(response.headers.get_list("Vary")).split(",")
    ]
    assert "Access-Control-Allow-Credentials" not in response.headers
    return response.headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
async def test_allowed_origin_may_read_the_response_and_its_id(api: Client, origin: str) -> None:
    response = await api.get("/items", Origin=origin)
    assert response.code == 200
    assert allowed(response) == origin
    assert response.headers["Access-Control-Expose-Headers"] == "X-Request-ID"


@pytest.mark.parametrize(
    "origin",
    [
        "https://elsewhere.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://app.example/",
        "null",
        "*",
        f"{ORIGIN}, {ORIGIN}",
    ],
)
async def test_any_other_origin_may_not(api: Client, origin: str) -> None:
    assert allowed(await api.get("/items", Origin=origin)) is None
    response = await api.fetch("OPTIONS", "/items", **PREFLIGHT | {"Origin": origin})
    assert response.code == 405
    assert allowed(response) is None


async def test_caches_are_told_without_an_origin_as_well(api: Client) -> None:
    assert allowed(await api.get("/items")) is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/items", None, 405),
        ("POST", "/items", b"{", 415),
        ("POST", "/items", 101 * b"x", 413),
        ("GET", "/broken", None, 500),
    ],
)
async def test_allowed_origin_may_read_errors(
    api: Client, method: str, path: str, body: bytes | None, status: int
) -> None:
    response = await api.fetch(method, path, body, **CROSS_SITE)
    assert response_problem(response)["status"] == status
    assert allowed(response) == ORIGIN


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/items", "GET, HEAD, POST"), ("/plain/7", "GET, HEAD"), ("/socket", "GET, HEAD")],
)
async def test_preflight_is_answered_for_each_route(
    api: Client, path: str, methods: str, log_records: list[Record]
) -> None:
    names = "authorization,content-type"
    response = await api.fetch("OPTIONS", path, **PREFLIGHT, Access_Control_Request_Headers=names)
    assert (response.code, response.body) == (204, b"")
    assert allowed(response) == ORIGIN
    assert response.headers["Access-Control-Allow-Methods"] == methods
    assert response.headers["Access-Control-Allow-Headers"] == names
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    [line] = access_lines(log_records)
    assert line["http.route"] == path.replace("7", "{number}")


async def test_preflight_of_a_static_file(tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("hello")
    async with serving(make_app(static_path=tmp_path)) as client:
        response = await client.fetch("OPTIONS", "/static/a.txt", **PREFLIGHT)
    assert response.code == 204
    assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD"


async def test_preflight_without_a_route_is_not_found(api: Client) -> None:
    response = await api.fetch("OPTIONS", "/nowhere", **PREFLIGHT)
    assert response_problem(response)["status"] == 404
    assert allowed(response) == ORIGIN


async def test_handler_may_answer_options_itself(api: Client) -> None:
    response = await api.fetch("OPTIONS", "/own", **PREFLIGHT)
    assert (response.code, response.body) == (200, b'{"own":true}')


async def test_options_that_is_no_preflight_is_as_usual(api: Client) -> None:
    assert (await api.fetch("OPTIONS", "/items", Origin=ORIGIN)).code == 405


@pytest.mark.parametrize("odd", ["", "a\tb", '"', "a;b", "\xe9"])
async def test_odd_header_names_of_a_preflight_are_not_repeated(api: Client, odd: str) -> None:
    response = await api.fetch("OPTIONS", "/items", **PREFLIGHT, Access_Control_Request_Headers=odd)
    assert response.code == 204
    assert "Access-Control-Allow-Headers" not in response.headers


async def test_allowed_origin_may_change_something(api: Client) -> None:
    response = await api.post("/items", {"name": "Ada"}, **CROSS_SITE)
    assert response.code == 201
    assert allowed(response) == ORIGIN
    elsewhere = CROSS_SITE | {"Origin": "https://elsewhere.example"}
    assert (await api.post("/items", {"name": "Ada"}, **elsewhere)).code == 403
    async with api.websocket("/socket", **CROSS_SITE) as websocket:
        await close(websocket)


async def test_cookies_make_a_request_like_that_of_any_other_origin(api: Client) -> None:
    response = await api.post("/items", {"name": "Ada"}, **CROSS_SITE, Cookie="session=1")
    assert response.code == 403
    with pytest.raises(HTTPClientError, match="403"):
        await api.websocket("/socket", **CROSS_SITE, Cookie="session=1").__aenter__()


async def test_preflight_has_no_body_whatever_the_route_accepts(api: Client) -> None:
    response = await api.fetch("OPTIONS", "/large", b"x" * 200, **PREFLIGHT)
    assert response.code == 413
    assert (await api.post("/large", b"x" * 200)).code == 201


async def test_trusted_origins_of_the_service_still_count() -> None:
    partner = "https://partner.example"
    async with serving(make_app(trusted_origins=[partner])) as client:
        for origin in partner, ORIGIN:
            response = await client.post("/items", {"name": "Ada"}, Origin=origin)
            assert response.code == 201
        assert allowed(await client.get("/items", Origin=partner)) is None


async def test_headers_of_the_handler_are_kept(api: Client) -> None:
    response = await api.get("/headers", Origin=ORIGIN)
    assert response.headers.get_list("Access-Control-Allow-Origin") == ["*"]
    assert response.headers.get_list("Vary") == ["Accept-Language", "Origin"]


async def test_nothing_is_allowed_by_default(client: Client) -> None:
    response = await client.get("/", Origin=ORIGIN)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Vary" not in response.headers
    assert (await client.fetch("OPTIONS", "/", **PREFLIGHT)).code == 405


async def test_admin_port_is_for_no_other_origin(status: FakeStatus) -> None:
    settings = Settings(cors_origins=(ORIGIN,))
    async with serving(make_admin_app(settings, status, Monitor(ORDERS))) as client:
        response = await client.get("/livez", Origin=ORIGIN)
    assert response.code == 200
    assert "Access-Control-Allow-Origin" not in response.headers
