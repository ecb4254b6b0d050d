"""Each unexpected exception is reported to the extensions once, wherever it is raised."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from runtime import (
    Application,
    EventStream,
    Extension,
    Handler,
    Problem,
    Route,
    Settings,
    WebSocket,
)
from runtime.http.request import Request
from runtime.testing import Client, Record, serving, wait_until
from tornado.iostream import StreamClosedError
from tornado.simple_httpclient import HTTPStreamClosedError
from tornado.web import stream_request_body
from tornado.websocket import WebSocketClosedError

from ..support.connections import close

ID = "check-17"


class Tracker(Extension):
    """Records what it is told of."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str | None]] = []

    def error_raised(self, error: BaseException, request: Request | None) -> None:
        name = f"{request.method} {request.route} {request.id}" if request else None
        self.failures.append((str(error), name))


class InInitialize(Handler):
    def initialize(self) -> None:
        raise ValueError("initialize")

    def post(self) -> None: ...


class InPrepare(Handler):
    async def prepare(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("prepare")


class InMethod(Handler):
    def post(self) -> None:
        raise ValueError("post")


@stream_request_body
class InData(Handler):
    def data_received(self, chunk: bytes) -> None:
        raise ValueError("data_received")

    def post(self) -> None: ...


class InFinish(Handler):
    def post(self) -> None:
        self.reply()

    def on_finish(self) -> None:
        raise ValueError("on_finish")


class InBackground(Handler):
    def post(self) -> None:
        self.background(fail("background"))


class InAwaitedBackground(Handler):
    async def post(self) -> None:
        await self.background(fail("background"))


class InTask(Handler):
    async def post(self) -> None:
        task = asyncio.create_task(fail("task"))
        await asyncio.wait([task])


class InCallback(Handler):
    def post(self) -> None:
        asyncio.get_running_loop().call_soon(self.call)

    def call(self) -> None:
        raise ValueError("callback")


async def fail(place: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(place)


class InStream(EventStream):
    async def stream(self) -> None:
        await self.send("first")
        raise ValueError("stream")


class InSocket(WebSocket):
    def open(self) -> None:
        self.fail_in("open")

    async def on_message(self, message: str | bytes) -> None:
        self.fail_in("on_message")

    def on_close(self) -> None:
        self.fail_in("on_close")

    def fail_in(self, place: str) -> None:
        if self.get_query_argument("place") == place:
            raise ValueError(place)


class Expected(Handler):
    def post(self) -> None:
        raise Problem(503)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
async def client(tracker: Tracker) -> AsyncIterator[Client]:
    handlers: list[type[Handler]] = [
        *(InInitialize, InPrepare, InMethod, InData, InFinish, InBackground, InAwaitedBackground),
        *(InTask, InCallback, InStream, InSocket, Expected),
    ]
    routes = [Route(f"/{handler.__name__}", handler) for handler in handlers]
    async with serving(Application(Settings(), routes), extensions=[tracker]) as client:
        yield client


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (InInitialize, "initialize"),
        (InPrepare, "prepare"),
        (InMethod, "post"),
        (InData, "data_received"),
        (InFinish, "on_finish"),
        (InBackground, "background"),
        (InAwaitedBackground, "background"),
        (InTask, "task"),
        (InCallback, "callback"),
    ],
)
async def test_each_failure_is_reported_once(
    client: Client,
    tracker: Tracker,
    log_records: list[Record],
    handler: type[Handler],
    expected: str,
) -> None:
    await client.post(f"/{handler.__name__}", b"x", X_Request_ID=ID)
    await wait_until(lambda: tracker.failures)
    await client.post("/Expected", b"")
    request = None if handler in (InTask, InCallback) else f"POST /{handler.__name__} {ID}"
    assert tracker.failures == [(expected, request)]
    messages = [record.get("exception.message") for record in log_records]
    assert expected in messages


async def test_failure_of_a_stream_is_reported(client: Client, tracker: Tracker) -> None:
    with pytest.raises(HTTPStreamClosedError):  # cut off in the middle
        await client.get("/InStream", X_Request_ID=ID)
    assert tracker.failures == [("stream", f"GET /InStream {ID}")]


@pytest.mark.parametrize("place", ["open", "on_message", "on_close"])
async def test_failure_of_a_websocket_is_reported(
    client: Client, tracker: Tracker, place: str
) -> None:
    async with client.websocket(f"/InSocket?place={place}", X_Request_ID=ID) as websocket:
        with suppress(WebSocketClosedError):
            await websocket.write_message("hello")
        await close(websocket)
        await wait_until(lambda: tracker.failures and not client.app.connections.websockets)
    assert tracker.failures == [(place, f"GET /InSocket {ID}")]


async def test_error_object_of_several_requests_is_reported_for_each(tracker: Tracker) -> None:
    error = ConnectionError("the pool is closed")

    class Raises(Handler):
        def get(self) -> None:
            raise error

    async with serving(Application(Settings(), [Route("/", Raises)]), extensions=[tracker]) as c:
        for identifier in "first", "second":
            await c.get("/", X_Request_ID=identifier)
    assert [request for _, request in tracker.failures] == ["GET / first", "GET / second"]


async def test_task_of_the_service_is_reported_without_a_request(
    client: Client, tracker: Tracker
) -> None:
    await asyncio.wait([client.app.background(fail("background"))])
    await wait_until(lambda: tracker.failures)
    assert tracker.failures == [("background", None)]


async def test_client_that_leaves_is_no_failure_of_what_nobody_awaits(
    client: Client, tracker: Tracker
) -> None:
    loop = asyncio.get_running_loop()
    left = StreamClosedError(), WebSocketClosedError()
    for error in (*left, ExceptionGroup("of tasks", left), ValueError("reported")):
        loop.call_exception_handler({"message": "a test", "exception": error})
    loop.call_exception_handler({"message": "without an exception"})
    assert tracker.failures == [("reported", None)]
