"""Pages of a service's own: templates, static files, signed cookies, forms with XSRF tokens."""

import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.routing import Route
from runtime.http.static import StaticFiles
from runtime.settings import Settings
from runtime.testing import Client, Record, response_problem, serving
from tornado.httpclient import HTTPResponse
from tornado.web import RequestHandler

from ..apps.pages.app import FOLDER, make_app
from ..apps.pages.app import Settings as PageSettings
from ..support.access import access_lines

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def pages() -> AsyncIterator[Client]:
    async with serving(make_app(PageSettings())) as client:
        yield client


def cookies(response: HTTPResponse) -> dict[str, str]:
    """Return the cookies that a response sets."""
    found: dict[str, str] = {}
    for line in response.headers.get_list("Set-Cookie"):
        found |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
    return found


def cookie_header(values: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in values.items())


def policy(response: HTTPResponse) -> list[str]:
    """Return the directives of the Content-Security-Policy."""
    return response.headers["Content-Security-Policy"].split("; ")


async def test_page_may_load_what_is_of_its_own_origin_and_nothing_else(pages: Client) -> None:
    response = await pages.get("/name")
    assert response.code == 200
    assert response.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert "default-src 'self'" in policy(response)
    assert "frame-ancestors 'none'" in policy(response)
    assert "unsafe-inline" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    # With no-referrer browsers send `Origin: null` with a form.
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cache-Control"] == "no-store"


class Plain(RequestHandler):
    """A page by one of Tornado's own handlers."""

    def get(self, path: str = "") -> None:
        self.write("<p>hello")


class Upper(Handler):
    """A page that is not rendered, with a media type in capitals."""

    def get(self) -> None:
        self.set_header("Content-Type", "Text/HTML;charset=utf-8")
        self.finish("<p>hello")


@pytest.mark.parametrize("handler", [Plain, Upper])
async def test_policy_follows_the_content_type(handler: type[RequestHandler]) -> None:
    async with serving(Application(Settings(), [Route("/", handler)])) as client:
        page, problem = await client.get("/"), await client.get("/nowhere")
    assert "default-src 'self'" in policy(page)
    assert "default-src 'none'" in policy(problem)
    assert problem.headers["Referrer-Policy"] == "no-referrer"


async def test_static_file_with_a_version_is_cached_for_long(
    pages: Client, log_records: list[Record]
) -> None:
    page = await pages.get("/name")
    [url] = re.findall(r'href="(/static/page\.css\?v=\w+)"', page.body.decode())
    response = await pages.get(url)
    assert response.body == (FOLDER / "static/page.css").read_bytes()
    assert response.headers["Content-Type"] == "text/css"
    assert "max-age=315360000" in response.headers["Cache-Control"]
    assert "no-store" not in response.headers["Cache-Control"]
    assert access_lines(log_records)[-1]["http.route"] == "/static/{path*}"


async def test_static_file_without_a_version_is_revalidated(pages: Client) -> None:
    response = await pages.get("/static/name.js")
    assert response.headers["Cache-Control"] == "no-cache"
    assert "default-src 'self'" in policy(response)  # it may be a web worker
    unchanged = await pages.get("/static/name.js", If_None_Match=response.headers["Etag"])
    assert (unchanged.code, unchanged.body) == (304, b"")
    assert unchanged.headers["Cache-Control"] == "no-cache"
    head = await pages.fetch("HEAD", "/static/name.js")
    assert (head.code, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(response.body))


async def test_static_file_that_has_changed_is_sent_again(tmp_path: Path) -> None:
    file = tmp_path / "a.js"
    async with serving(Application(Settings(), [], static_path=tmp_path)) as client:
        file.write_text("old")
        etag = (await client.get("/static/a.js")).headers["Etag"]
        file.write_text("newer")
        response = await client.get("/static/a.js", If_None_Match=etag)
    assert (response.code, response.body) == (200, b"newer")
    assert response.headers["Etag"] != etag


@pytest.mark.parametrize(
    "path", ["/static/missing.css", "/static/../app.py", "/static/", "/static/a%00.css"]
)
async def test_static_file_that_is_not_there_is_a_problem(pages: Client, path: str) -> None:
    response = await pages.get(path)
    assert response_problem(response)["status"] in (403, 404)
    assert response.headers["Cache-Control"] == "no-store"


async def test_static_files_come_before_a_route_for_every_path(
    tmp_path: Path, log_records: list[Record]
) -> None:
    for name in "a.txt", "favicon.ico":
        (tmp_path / name).write_text(name)
    everything = Route("/{path*}", Plain)
    app = Application(
        Settings(), [everything], static_path=str(tmp_path), static_url_prefix="/files/"
    )
    async with serving(app) as client:
        assert (await client.get("/files/a.txt")).body == b"a.txt"
        assert (await client.get("/favicon.ico")).body == b"favicon.ico"
    routes = [line["http.route"] for line in access_lines(log_records)]
    assert routes == ["/files/{path*}", "/favicon.ico"]


async def test_further_folder_of_static_files(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>hello")
    route = Route("/manuals/{path*}", StaticFiles, path=tmp_path)
    async with serving(Application(Settings(), [route])) as client:
        response = await client.get("/manuals/a.html")
    assert response.body == b"<p>hello"
    assert response.headers["Cache-Control"] == "no-cache"
    assert "default-src 'self'" in policy(response)


async def test_form_with_a_token_sets_a_signed_cookie(pages: Client) -> None:
    page = await pages.get("/name")
    [token] = re.findall(r'name="_xsrf" value="([^"]+)"', page.body.decode())
    form = urlencode({"_xsrf": token, "name": "Ada"}).encode()
    headers = {"Content_Type": FORM, "Cookie": cookie_header(cookies(page))}
    origin = f"http://127.0.0.1:{pages.port}"
    saved = await pages.post("/name", form, **headers, Origin=origin)
    assert (saved.code, saved.headers["Location"]) == (303, "/name")
    value = cookies(saved)["name"]
    assert "Ada" not in value  # but signed, with its time
    shown = await pages.get("/name", Cookie=cookie_header({"name": value}))
    assert b'<p id="name">Ada</p>' in shown.body
    other = value[:-1] + ("1" if value.endswith("0") else "0")
    forged = await pages.get("/name", Cookie=cookie_header({"name": other}))
    assert b'<p id="name"></p>' in forged.body


async def test_form_without_a_token_is_refused(pages: Client) -> None:
    response = await pages.post("/name", b"name=Ada", Content_Type=FORM)
    assert response_problem(response)["status"] == 403
    # The token comes after what is wrong with the request as such.
    response = await pages.post("/nowhere", b"name=Ada", Content_Type=FORM)
    assert response_problem(response)["status"] == 404
    too_large = (pages.app.config.max_body_size + 1) * b"x"
    response = await pages.post("/name", too_large, Content_Type=FORM)
    assert response_problem(response)["status"] == 413


class Feed(Handler):
    """A template that is not HTML."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/atom+xml")
        self.render("feed.xml")


async def test_template_may_be_something_else_than_a_page(tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_text("<feed/>")
    app = Application(Settings(), [Route("/", Feed)], template_path=tmp_path)
    async with serving(app) as client:
        response = await client.get("/")
    assert (response.body, response.headers["Content-Type"]) == (b"<feed/>", "application/atom+xml")
    assert "default-src 'none'" in policy(response)


@pytest.mark.parametrize("debug", [False, True])
async def test_changed_template_and_file_are_seen_while_debugging(
    debug: bool, tmp_path: Path
) -> None:
    template, file = tmp_path / "feed.xml", tmp_path / "a.css"
    template.write_text("{{ static_url('a.css') }}")
    file.write_text("old")
    folders = {"template_path": tmp_path, "static_path": tmp_path}
    app = Application(Settings(debug=debug), [Route("/", Feed)], **folders)
    async with serving(app) as client:
        before = await client.get("/")
        file.write_text("new")
        template.write_text("new {{ static_url('a.css') }}")
        after = await client.get("/")
    assert after.body.startswith(b"new ") is debug
    assert (after.body[-10:] != before.body[-10:]) is debug


async def test_debug_of_tornado_starts_no_autoreload(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []
    monkeypatch.setattr("tornado.autoreload.start", lambda: started.append(True))
    Application(Settings(), [], debug=True)
    assert started == []
    Application(Settings(), [], autoreload=True)
    assert started == [True]
