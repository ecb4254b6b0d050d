"""What the tests of a service use: an application in this process, or a real process."""

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from runtime import (
    Application,
    EventStream,
    Extension,
    Handler,
    Resource,
    Route,
    ServiceInfo,
    Settings,
    testing,
)
from runtime.testing import (
    Event,
    Record,
    ServiceStarter,
    response_json,
    response_problem,
    serving,
    wait_until,
)
from tornado.httpclient import HTTPClientError

from .support import SAMPLE_APP
from .support.processes import accepts

CHECKS = Path(__file__).parent / "apps" / "checks.py"

events: list[str] = []
"""What is opened and closed, in its order."""


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


@asynccontextmanager
async def frame(name: str) -> AsyncIterator[str]:
    events.append(f"{name} opened")
    yield name
    events.append(f"{name} closed")


class Framing(Extension):
    """An extension with a lifespan."""

    def lifespan(
        self, service: ServiceInfo, settings: Settings
    ) -> AbstractAsyncContextManager[object]:
        return frame(f"extension of {service.name}")


STORE = Resource[str]("store", lambda settings: frame("store"))
MAILER = Resource[str]("mailer", lambda settings: frame("mailer"))


class ShowResources(Handler):
    def get(self) -> None:
        self.reply([self.resources[STORE], self.resources[MAILER]])

    def post(self) -> None:
        headers = self.request.headers
        self.reply([self.request.body.decode(), headers["Content-Type"], headers.get("X-Own")])


def app() -> Application:
    return Application(Settings(), [Route("/", ShowResources)], resources=[STORE, MAILER])


async def test_resources_are_open_while_an_application_is_served() -> None:
    async with serving(app(), extensions=[Framing()]) as client:
        assert response_json(await client.get()) == ["store", "mailer"]
    assert events == [
        "extension of test opened",
        "store opened",
        "mailer opened",
        "mailer closed",
        "store closed",
        "extension of test closed",
    ]


async def test_fakes_replace_resources_which_are_not_opened() -> None:
    async with serving(app(), resources={STORE: "fake"}) as client:
        assert response_json(await client.get()) == ["fake", "mailer"]
    assert events == ["mailer opened", "mailer closed"]


async def test_port_is_free_again_after_serving() -> None:
    async with serving(app()) as first, serving(app()) as second:
        assert first.port != second.port
        assert accepts(first.port)
    assert not accepts(first.port)


async def test_client_posts_json_or_bytes_with_headers() -> None:
    async with serving(app()) as client:
        response = await client.post("/", {"a": 1}, X_Own="7")
        assert response_json(response) == ['{"a":1}', "application/json", "7"]
        response = await client.post("/", b"{", Content_Type="text/plain")
        assert response_json(response) == ["{", "text/plain", None]


class Numbers(EventStream):
    async def stream(self) -> None:
        first = int(self.last_event_id or 0) + 1
        await self.send({"number": first}, id=str(first))
        await self.send("two\nlines", event="text")
        self.write(
            ": a comment\r\nid:\revent: ignored\n\ndata:x\ndata\nunknown: field\r\n\r\ndata: lost"
        )
        if self.get_query_argument("end") == "cut":
            await self.flush()
            raise ZeroDivisionError


async def test_client_reads_events_as_a_browser_does() -> None:
    app = Application(Settings(), [Route("/", Numbers)])
    async with serving(app) as client, client.events("/?end=", Last_Event_ID="6") as events:
        first = await anext(events)
        assert (first.json(), first.event, first.id) == ({"number": 7}, "message", "7")
        assert [event async for event in events] == [
            Event("two\nlines", "text", "7"),
            Event("x\n", "message", ""),
        ]
        assert (events.comments, events.last_event_id) == (1, "")
        assert events.retry


async def test_cut_stream_and_other_responses_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Application(Settings(), [Route("/", Numbers), Route("/other", ShowResources)])
    async with serving(app) as client:
        async with client.events("/?end=cut") as events:
            with pytest.raises(ConnectionError, match="the stream is cut"):
                [event async for event in events]
        for path in "/nowhere", "/other":
            with pytest.raises(HTTPClientError):
                async with client.events(path):
                    pass


async def test_response_of_another_kind_fails_the_test() -> None:
    async with serving(app()) as client:
        response, problem = await client.get(), await client.get("/nowhere")
    with pytest.raises(AssertionError):
        response_problem(response)
    with pytest.raises(AssertionError):
        response_json(problem)


async def test_waiting_ends_with_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([False, False, True])
    await wait_until(lambda: next(results))
    monkeypatch.setattr(testing, "WAIT_TIMEOUT", 0.02)
    with pytest.raises(AssertionError, match="the condition does not hold"):
        await wait_until(lambda: False)


async def test_waiting_for_a_message_ends_when_the_process_exits(
    start_service: ServiceStarter,
) -> None:
    process = start_service(SAMPLE_APP, port="nonsense")
    with pytest.raises(AssertionError, match=r"exited without 'listening on': (?s:.*)APP_PORT"):
        await process.ports()
    assert await process.exit_code() == 78


def test_log_records_are_those_of_the_log(log_records: list[Record]) -> None:
    logging.getLogger("orders").debug("hello %s", "Ada", extra={"order": 17})
    [record] = log_records
    assert (record["message"], record["level"], record["order"]) == ("hello Ada", "debug", 17)


def test_fixtures_hide_settings_and_end_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "APP_PORT": "8001",
        "app_workers": "2",
        "HTTP_PROXY": "http://proxy.example",
        "all_proxy": "http://proxy.example",
        "NO_PROXY": "localhost",
        "PID_FILE": tmp_path / "pid",
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / ".env").write_text("APP_ADMIN_PORT=9001\n")
    source = os.pathsep.join([str(testing.SOURCE), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", source)
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        f"--rootdir={tmp_path}",
        str(CHECKS),
    ]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
