"""Responses of handlers: JSON, errors, and clients that disconnect."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

import pytest
from runtime.http.application import Application
from runtime.http.handler import Handler
from runtime.http.problem import Problem
from runtime.http.routing import Route
from runtime.settings import Settings
from runtime.testing import (
    Client,
    Record,
    response_json,
    response_problem,
    serving,
    wait_until,
)
from tornado.httputil import ParseMultipartConfig
from tornado.web import HTTPError

from ..support.access import access_lines
from ..support.connections import RawConnection

SECRET = "the password is hunter2"


URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
END = "--x--\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\nSIZE\r\n{1}\r\n0\r\n\r\n"


def part(name: str, value: str, filename: str | None = None) -> str:
    """Return a part of a multipart form."""
    file = f'; filename="{filename}"' if filename else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{value}\r\n'


class Items(Handler):
    def post(self) -> None:
        self.reply({"length": len(self.request.body)})


class Conflict(Handler):
    def get(self) -> None:
        raise Problem(
            409, "The order is closed.", errors=[{"pointer": "/order", "detail": "closed"}]
        )


class Unavailable(Handler):
    def get(self) -> None:
        raise Problem(503, "Try again later.", headers={"Retry-After": "7"})


class Fails(Handler):
    def get(self) -> None:
        raise ValueError(SECRET)


class FailsLate(Handler):
    async def get(self) -> None:
        self.write("half a resp")
        raise ValueError(SECRET)


class Unusual(Handler):
    def get(self) -> None:
        raise HTTPError(499, SECRET, reason="Client Closed Request")


class Form(Handler):
    """Reads a form, as Tornado parses it."""

    def get(self) -> None:
        self.reply({"a": None})

    def post(self) -> None:
        self.reply({"a": self.get_body_argument("a")})


class Upload(Handler):
    """Accepts a multipart form that is larger than other bodies may be."""

    max_body_size = 2000
    multipart = ParseMultipartConfig(max_parts=2, max_part_header_size=200)

    def post(self) -> None:
        [file] = self.request.files["file"]
        size = len(file.body)
        self.reply({"name": file.filename, "size": size, "a": self.get_body_argument("a")})


class Tagged(Handler):
    def compute_etag(self) -> str:
        return '"7"'

    def get(self) -> None:
        self.reply({"version": 7})


ROUTES = [
    Route("/items", Items),
    Route("/form", Form),
    Route("/protected", Form),
    Route("/upload", Upload),
    Route("/conflict", Conflict),
    Route("/unavailable", Unavailable),
    Route("/fails", Fails),
    Route("/fails-late", FailsLate),
    Route("/unusual", Unusual),
    Route("/tagged", Tagged),
]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(Application(Settings(max_body_size=1000), ROUTES)) as client:
        yield client


@pytest.fixture
async def debugged() -> AsyncIterator[Client]:
    async with serving(Application(Settings(debug=True), ROUTES)) as client:
        yield client


async def test_urlencoded_form_is_parsed(client: Client) -> None:
    response = await client.post("/form", b"a=1", Content_Type=URLENCODED)
    assert response_json(response) == {"a": "1"}


@pytest.mark.parametrize("framing", ["Content-Length: {}\r\n\r\n{}", CHUNKED])
async def test_multipart_form_is_parsed_if_its_handler_accepts_it(
    client: Client, framing: str
) -> None:
    body = part("file", 1000 * "x", filename="a.txt") + part("a", "1") + END
    if framing is CHUNKED:
        framing = framing.replace("SIZE", f"{len(body):x}")
    async with RawConnection(client.port) as connection:
        connection.send(
            f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: {MULTIPART}\r\n"
            + framing.format(len(body), body)
        )
        response = await connection.response()
    assert response.json() == {"name": "a.txt", "size": 1000, "a": "1"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (3 * part("a", "1"), 400, "too many parts"),
        (part("a" * 300, "1"), 400, "part header too large"),
        (part("a", 3000 * "1"), 413, "at most 2000 bytes"),
        (part("a", "1").replace("form-data", "file"), 400, "Invalid multipart/form-data"),
    ],
)
async def test_multipart_form_over_a_limit_is_refused(
    client: Client, body: str, status: int, reason: str
) -> None:
    response = await client.post("/upload", (body + END).encode(), Content_Type=MULTIPART)
    assert response.code == status
    assert reason in response_problem(response)["detail"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        (
            "/form",
            part("a", "1") + END,
            {"Content_Type": MULTIPART},
            415,
            "This path does not accept multipart/form-data.",
        ),
        ("/form", "b=1", {"Content_Type": URLENCODED}, 400, "Missing argument a"),
        ("/form", "a=%ff", {"Content_Type": URLENCODED}, 400, "The argument a is not valid UTF-8."),
        (
            "/form",
            1001 * "a&",
            {"Content_Type": URLENCODED},
            400,
            "The form cannot be read: Invalid x-www-form-urlencoded body: Max number of fields",
        ),
        ("/form", "a=1", {"Origin": "https://a.example"}, 403, "Origin 'https://a.example' not"),
        ("/form", "a=1", {"Sec_Fetch_Site": "cross-site"}, 403, "Sec-Fetch-Site cross-site"),
        ("/protected", "a=1", {}, 403, "'_xsrf' argument missing from POST"),
    ],
)
async def test_reason_of_a_refusal_is_in_the_response_and_in_the_log(
    log_records: list[Record],
    path: str,
    body: str,
    headers: dict[str, str],
    status: int,
    reason: str,
) -> None:
    app = Application(Settings(), ROUTES, xsrf_cookies=path == "/protected")
    async with serving(app) as client:
        response = await client.post(path, body.encode(), **headers)
    assert response.code == status
    problem = response_problem(response)
    assert problem["detail"].startswith(reason)
    [line] = [record for record in log_records if record["level"] == "info"]
    assert line["reason"].startswith(reason)
    assert line["request_id"] == problem["request_id"]


async def test_message_of_an_http_error_of_the_service_is_for_the_log_only(
    client: Client, log_records: list[Record]
) -> None:
    response = await client.get("/unusual")
    assert SECRET not in response.body.decode()
    [line] = access_lines(log_records)
    assert line["reason"] == SECRET


@pytest.mark.parametrize("media_type", [MULTIPART, URLENCODED])
async def test_form_to_an_unknown_path_is_not_found(
    client: Client, log_records: list[Record], media_type: str
) -> None:
    response = await client.post("/nowhere", b"%", Content_Type=media_type)
    assert response.code == 404
    [line] = access_lines(log_records)
    assert line["reason"] == "No route matches this path."


async def test_access_line_of_a_success_has_no_reason(
    client: Client, log_records: list[Record]
) -> None:
    assert (await client.get("/form")).code == 200
    [line] = access_lines(log_records)
    assert "reason" not in line


async def test_body_over_the_limit_gets_a_problem(client: Client) -> None:
    response = await client.post("/items", b"[" + 1000 * b" ")
    assert response.code == 413
    response_problem(response)


async def test_body_over_the_limit_gets_one_response_and_is_not_read(
    client: Client, log_records: list[Record]
) -> None:
    async with RawConnection(client.port) as connection:
        connection.send("POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n")
        assert (await connection.response()).status == 413
        assert await connection.read_to_end() == b""
    assert not [record for record in log_records if record["message"].startswith("Malformed")]


async def test_body_at_the_limit_is_read(client: Client) -> None:
    response = await client.post("/items", b"[" + 999 * b" ")
    assert response.code == 200
    assert response_json(response) == {"length": 1000}


async def test_unknown_path_gets_a_problem(client: Client) -> None:
    response = await client.get("/nowhere")
    assert response.code == 404
    assert response_problem(response)["title"] == "Not Found"


async def test_cross_origin_post_to_an_unknown_path_is_not_found(client: Client) -> None:
    response = await client.post("/nowhere", {}, Origin="https://elsewhere.example")
    assert response.code == 404
    response_problem(response)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/conflict", "GET, HEAD"), ("GET", "/items", "POST"), ("HEAD", "/items", "POST")],
)
async def test_unsupported_method_gets_the_allowed_ones(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = await client.fetch(method, path)
    assert response.code == 405
    assert sorted(response.headers["Allow"].split(", ")) == allowed.split(", ")
    if method != "HEAD":
        response_problem(response)


async def test_only_405_has_an_allow_header(client: Client) -> None:
    assert "Allow" not in (await client.get("/conflict")).headers


async def test_unknown_method_gets_a_problem(client: Client) -> None:
    response = await client.fetch("BREW", "/conflict")
    assert response.code == 405
    response_problem(response)


async def test_head_is_get_without_the_body(client: Client) -> None:
    head, get = await client.fetch("HEAD", "/tagged"), await client.get("/tagged")
    assert head.code == 200
    assert head.body == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_problem_contains_what_the_handler_gives(client: Client) -> None:
    response = await client.get("/conflict")
    assert response.code == 409
    body = response_problem(response)
    assert body["title"] == "Conflict"
    assert body["detail"] == "The order is closed."
    assert body["errors"] == [{"pointer": "/order", "detail": "closed"}]
    assert "Retry-After" not in response.headers


async def test_problem_may_have_headers(client: Client) -> None:
    response = await client.get("/unavailable")
    assert response.headers["Retry-After"] == "7"
    assert response_problem(response)["detail"] == "Try again later."


@pytest.mark.parametrize("path", ["/fails", "/fails-late"])
async def test_unexpected_error_is_in_the_log_and_not_in_the_response(
    client: Client, log_records: list[Record], path: str
) -> None:
    response = await client.get(path)
    assert response.code == 500
    assert set(response_problem(response)) == {"type", "title", "status", "detail", "request_id"}
    assert SECRET not in response.body.decode()
    [record] = [record for record in log_records if record["message"] == f"GET {path} failed"]
    assert record["level"] == "error"
    assert record["exception.message"] == SECRET


async def test_response_has_the_traceback_in_debug_mode(debugged: Client) -> None:
    body = response_problem(await debugged.get("/fails"))
    assert "ValueError: the password is hunter2" in body["traceback"]


async def test_problem_below_500_is_not_logged_as_an_error(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/conflict")
    assert {record["level"] for record in log_records} <= {"debug", "info"}


async def test_problem_of_500_and_above_is_logged_once_with_its_detail(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/unavailable")
    errors = [record["message"] for record in log_records if record["level"] == "error"]
    assert errors[0] == "GET /unavailable: HTTP 503: Service Unavailable (Try again later.)"
    assert [message for message in errors if "Try again later." in message] == errors[:1]


async def test_nonstandard_status_gets_a_problem(client: Client) -> None:
    response = await client.get("/unusual")
    assert response.code == 499
    assert "hunter2" not in str(response_problem(response))


async def test_response_has_no_etag(client: Client) -> None:
    response = await client.get("/form")
    assert response.code == 200
    assert "ETag" not in response.headers


async def test_handler_may_compute_an_etag(client: Client) -> None:
    assert (await client.get("/tagged")).headers["ETag"] == '"7"'
    response = await client.get("/tagged", If_None_Match='"7"')
    assert (response.code, response.body) == (304, b"")


@pytest.mark.parametrize(
    ("header", "value"),
    [("Origin", "https://elsewhere.example"), ("Sec_Fetch_Site", "cross-site")],
)
async def test_cross_origin_post_is_rejected(client: Client, header: str, value: str) -> None:
    response = await client.post("/items", {"sizes": []}, **{header: value})
    assert response.code == 403
    response_problem(response)


async def test_same_origin_post_is_accepted(client: Client) -> None:
    origin = f"http://127.0.0.1:{client.port}"
    response = await client.post("/items", {"sizes": []}, Origin=origin)
    assert response.code == 200


@pytest.mark.parametrize(("disconnects", "status"), [(True, 499), (False, 200)])
async def test_access_line_has_499_if_the_client_disconnects_first(
    log_records: list[Record], disconnects: bool, status: int
) -> None:
    class Waits(Handler):
        async def get(self) -> None:
            arrived.set()
            await released.wait()
            self.reply({"done": True})

        def on_connection_close(self) -> None:
            released.set()

    def statuses() -> list[int]:
        return [line["http.response.status_code"] for line in access_lines(log_records)]

    arrived, released = asyncio.Event(), asyncio.Event()
    async with serving(Application(Settings(), [Route("/", Waits)])) as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/")
            await arrived.wait()
            if not disconnects:
                released.set()
                await connection.response()
        await wait_until(statuses)
    assert statuses() == [status]


@pytest.mark.parametrize("tasks", [0, 2])
async def test_client_that_disconnects_is_not_an_error(
    tasks: int, log_records: list[Record]
) -> None:
    class Streams(Handler):
        async def get(self) -> None:
            arrived.set()
            await closed.wait()
            if not tasks:
                await self.fill()
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(self.fill())

        async def fill(self) -> None:
            while True:
                self.write(bytes(100_000))
                await self.flush()

        def on_connection_close(self) -> None:
            closed.set()

    arrived, closed = asyncio.Event(), asyncio.Event()
    async with serving(Application(Settings(), [Route("/", Streams)])) as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/")
            await arrived.wait()
        await wait_until(
            lambda: "client disconnected" in [record["message"] for record in log_records]
        )
    assert {record["level"] for record in log_records} <= {"debug", "info"}


@pytest.mark.parametrize("status", [99, 101, 204, 304, 600, 1000])
def test_problem_must_have_the_status_of_an_error(status: int) -> None:
    with pytest.raises(ValueError, match="is not the status of an error"):
        Problem(status)


async def test_http_error_with_another_status_becomes_500() -> None:
    class NotAnError(Handler):
        def get(self) -> None:
            raise HTTPError(204)

    async with serving(Application(Settings(), [Route("/", NotAnError)])) as client:
        response = await client.get("/")
        assert response_problem(response)["status"] == response.code == 500


async def test_reply_without_a_body_has_no_content_type() -> None:
    class Delete(Handler):
        def delete(self) -> None:
            self.reply(status=204)

    async with serving(Application(Settings(), [Route("/", Delete)])) as client:
        response = await client.fetch("DELETE", "/")
        assert (response.code, response.body) == (204, b"")
        assert "Content-Type" not in response.headers


async def test_truncated_response_does_not_look_complete(log_records: list[Record]) -> None:
    class Truncated(Handler):
        async def get(self) -> None:
            self.write("half")
            await self.flush()
            raise RuntimeError

    async with serving(Application(Settings(), [Route("/", Truncated)])) as client:
        async with RawConnection(client.port) as connection:
            connection.send_get("/")
            received = await connection.read_to_end()
        assert b"half" in received
        assert not received.endswith(b"0\r\n\r\n")
    lines = access_lines(log_records)
    assert [line["http.response.status_code"] for line in lines] == [500]


async def test_reply_serialises_what_orjson_does() -> None:
    @dataclass
    class Order:
        number: int
        day: date

    class Show(Handler):
        def get(self) -> None:
            self.reply([Order(7, date(2026, 1, 2)), None, 0.5])

    async with serving(Application(Settings(), [Route("/", Show)])) as client:
        response = await client.get("/")
    assert response_json(response) == [{"number": 7, "day": "2026-01-02"}, None, 0.5]
