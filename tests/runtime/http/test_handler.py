import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from tornado.web import HTTPError

from runtime.http.application import Application
from runtime.settings import Settings
from runtime.http.handler import Handler, Problem

from .support import Client, Record, response_problem, serving, wait_until


class Items(Handler):
    def post(self) -> None:
        self.reply({"length": len(self.request.body)})


class Refuses(Handler):
    def get(self) -> None:
        raise Problem(409, "The door is closed.", errors=[{"pointer": "/door", "detail": "closed"}])


class Waits(Handler):
    def get(self) -> None:
        raise Problem(503, "Not yet.", headers={"Retry-After": "7"})


class Fails(Handler):
    def get(self) -> None:
        raise ValueError("the password is hunter2")


class FailsLate(Handler):
    async def get(self) -> None:
        self.write("half an ans")
        raise ValueError("the password is hunter2")


class Unusual(Handler):
    def get(self) -> None:
        raise HTTPError(499, "the password is hunter2", reason="Client Closed Request")


class Form(Handler):
    """Does what `Body.read` spares other handlers."""

    def get(self) -> None:
        self.reply({"a": None})

    def post(self) -> None:
        self.reply({"a": self.get_body_argument("a")})


class Tagged(Handler):
    def compute_etag(self) -> str:
        return '"7"'

    def get(self) -> None:
        self.reply({"version": 7})


ROUTES = [
    ("/items", Items),
    ("/form", Form),
    ("/refuses", Refuses),
    ("/waits", Waits),
    ("/fails", Fails),
    ("/fails-late", FailsLate),
    ("/unusual", Unusual),
    ("/tagged", Tagged),
]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = Settings(max_body_size=1000)
    async with serving(Application(settings, ROUTES), settings) as client:
        yield client


@pytest.fixture
async def debugged() -> AsyncIterator[Client]:
    settings = Settings(debug=True)
    async with serving(Application(settings, ROUTES), settings) as client:
        yield client


async def test_multipart_is_refused(client: Client) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    media_type = "multipart/form-data; boundary=x"
    response = await client.post("/form", body, Content_Type=media_type)
    assert response.code == 400
    response_problem(response)


async def test_a_plain_form_is_read(client: Client) -> None:
    media_type = "application/x-www-form-urlencoded"
    response = await client.post("/form", b"a=1", Content_Type=media_type)
    assert json.loads(response.body) == {"a": "1"}


async def test_a_body_that_is_too_large_is_a_problem(client: Client) -> None:
    response = await client.post("/items", b"[" + 1000 * b" ")
    assert response.code == 413
    response_problem(response)


async def test_a_body_that_is_too_large_is_answered_once(
    client: Client, log_records: list[Record]
) -> None:
    async with client.wire() as wire:
        wire.send("POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n")
        assert (await wire.answer()).status == 413
        assert await wire.rest() == b""
    assert not [record for record in log_records if record["message"].startswith("Malformed")]


async def test_a_body_at_the_limit_is_read(client: Client) -> None:
    response = await client.post("/items", b"[" + 999 * b" ")
    assert response.code == 200
    assert json.loads(response.body) == {"length": 1000}


async def test_an_unknown_path_is_a_problem(client: Client) -> None:
    response = await client.get("/nowhere")
    assert response.code == 404
    assert response_problem(response)["title"] == "Not Found"


async def test_a_post_from_elsewhere_to_an_unknown_path_is_not_found(client: Client) -> None:
    response = await client.post("/nowhere", {}, Origin="https://elsewhere.example")
    assert response.code == 404
    response_problem(response)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/refuses", "GET, HEAD"), ("GET", "/items", "POST"), ("HEAD", "/items", "POST")],
)
async def test_a_method_that_is_not_there_is_a_problem_that_names_the_others(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = await client.fetch(method, path)
    assert response.code == 405
    assert sorted(response.headers["Allow"].split(", ")) == allowed.split(", ")
    if method != "HEAD":
        response_problem(response)


async def test_only_a_405_names_the_methods(client: Client) -> None:
    assert "Allow" not in (await client.get("/refuses")).headers


async def test_a_method_that_nobody_knows_is_a_problem(client: Client) -> None:
    response = await client.fetch("BREW", "/refuses")
    assert response.code == 405
    response_problem(response)


async def test_head_answers_as_get_does_without_the_body(client: Client) -> None:
    head, get = await client.fetch("HEAD", "/tagged"), await client.get("/tagged")
    assert head.code == 200
    assert head.body == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_a_problem_says_what_the_handler_tells(client: Client) -> None:
    response = await client.get("/refuses")
    assert response.code == 409
    body = response_problem(response)
    assert body["title"] == "Conflict"
    assert body["detail"] == "The door is closed."
    assert body["errors"] == [{"pointer": "/door", "detail": "closed"}]
    assert "Retry-After" not in response.headers


async def test_a_problem_may_have_headers(client: Client) -> None:
    response = await client.get("/waits")
    assert response.headers["Retry-After"] == "7"
    assert response_problem(response)["detail"] == "Not yet."


@pytest.mark.parametrize("path", ["/fails", "/fails-late"])
async def test_a_failure_tells_the_log_and_not_the_client(
    client: Client, log_records: list[Record], path: str
) -> None:
    response = await client.get(path)
    assert response.code == 500
    assert set(response_problem(response)) == {"type", "title", "status", "request_id"}
    [record] = [record for record in log_records if record["message"] == f"GET {path} failed"]
    assert record["level"] == "error"
    assert record["exception.message"] == "the password is hunter2"


async def test_with_debug_a_failure_tells_the_client_as_well(debugged: Client) -> None:
    body = response_problem(await debugged.get("/fails"))
    assert "ValueError: the password is hunter2" in body["traceback"]


async def test_a_problem_raised_on_purpose_is_no_error_in_the_log(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/refuses")
    assert {record["level"] for record in log_records} <= {"debug", "info"}


async def test_a_problem_that_is_our_fault_tells_the_log_what_the_client_was_told(
    client: Client, log_records: list[Record]
) -> None:
    await client.get("/waits")
    errors = [record["message"] for record in log_records if record["level"] == "error"]
    assert errors[0] == "GET /waits: HTTP 503: Service Unavailable (Not yet.)"
    assert [message for message in errors if "Not yet." in message] == errors[:1]


async def test_a_status_that_no_standard_knows_is_a_problem(client: Client) -> None:
    response = await client.get("/unusual")
    assert response.code == 499
    assert "hunter2" not in str(response_problem(response))


async def test_an_answer_has_no_etag(client: Client) -> None:
    response = await client.get("/form")
    assert response.code == 200
    assert "ETag" not in response.headers


async def test_a_handler_may_give_its_version(client: Client) -> None:
    assert (await client.get("/tagged")).headers["ETag"] == '"7"'
    response = await client.get("/tagged", If_None_Match='"7"')
    assert (response.code, response.body) == (304, b"")


@pytest.mark.parametrize(
    ("header", "value"),
    [("Origin", "https://elsewhere.example"), ("Sec_Fetch_Site", "cross-site")],
)
async def test_a_post_from_elsewhere_is_refused(client: Client, header: str, value: str) -> None:
    response = await client.post("/items", {"sizes": []}, **{header: value})
    assert response.code == 403
    response_problem(response)


async def test_a_post_from_here_is_answered(client: Client) -> None:
    origin = f"http://127.0.0.1:{client.port}"
    response = await client.post("/items", {"sizes": []}, Origin=origin)
    assert response.code == 200


@pytest.mark.parametrize(("leaves", "status"), [(True, 499), (False, 200)])
async def test_the_log_tells_who_has_gone_before_the_answer(
    log_records: list[Record], leaves: bool, status: int
) -> None:
    class Answers(Handler):
        async def get(self) -> None:
            waiting.set()
            await go_on.wait()
            self.reply({"done": True})

        def on_connection_close(self) -> None:
            go_on.set()

    def statuses() -> list[int]:
        name = "http.response.status_code"
        return [record[name] for record in log_records if name in record]

    waiting, go_on = asyncio.Event(), asyncio.Event()
    settings = Settings()
    async with serving(Application(settings, [("/", Answers)]), settings) as client:
        async with client.wire() as wire:
            wire.ask("/")
            await waiting.wait()
            if not leaves:
                go_on.set()
                await wire.answer()
        await wait_until(statuses)
    assert statuses() == [status]


async def test_a_client_that_has_gone_is_no_error(log_records: list[Record]) -> None:
    class Streams(Handler):
        async def get(self) -> None:
            waiting.set()
            await gone.wait()
            await self.flush()

        def on_connection_close(self) -> None:
            gone.set()

    waiting, gone = asyncio.Event(), asyncio.Event()
    settings = Settings()
    async with serving(Application(settings, [("/", Streams)]), settings) as client:
        async with client.wire() as wire:
            wire.ask("/")
            await waiting.wait()
        await wait_until(
            lambda: any(one["message"] == "the client has gone" for one in log_records)
        )
    assert {record["level"] for record in log_records} <= {"debug", "info"}


@pytest.mark.parametrize("status", [99, 101, 204, 304, 600, 1000])
def test_a_problem_has_the_status_of_an_error(status: int) -> None:
    with pytest.raises(ValueError, match="is not the status of an error"):
        Problem(status)


async def test_an_error_that_is_none_is_a_failure() -> None:
    class Confused(Handler):
        def get(self) -> None:
            raise HTTPError(204)

    settings = Settings()
    async with serving(Application(settings, [("/", Confused)]), settings) as client:
        response = await client.get("/")
        assert response_problem(response)["status"] == response.code == 500


async def test_there_may_be_nothing_to_say() -> None:
    class Deletes(Handler):
        def delete(self) -> None:
            self.reply(status=204)

    settings = Settings()
    async with serving(Application(settings, [("/", Deletes)]), settings) as client:
        response = await client.fetch("DELETE", "/")
        assert (response.code, response.body) == (204, b"")
        assert "Content-Type" not in response.headers


async def test_half_an_answer_does_not_look_whole(log_records: list[Record]) -> None:
    class Breaks(Handler):
        async def get(self) -> None:
            self.write("half")
            await self.flush()
            raise RuntimeError

    settings = Settings()
    async with serving(Application(settings, [("/", Breaks)]), settings) as client:
        async with client.wire() as wire:
            wire.ask("/")
            received = await wire.rest()
        assert b"half" in received
        assert not received.endswith(b"0\r\n\r\n")
    statuses = [record.get("http.response.status_code") for record in log_records]
    assert 500 in statuses
    assert 200 not in statuses
