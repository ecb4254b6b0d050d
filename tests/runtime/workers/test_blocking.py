"""What a blocked event loop is running, as the supervisor learns it."""

import asyncio
from collections.abc import AsyncIterator
from threading import Thread

import pytest
from runtime import Application, EventStream, Handler, Problem, Route, Settings, WebSocket
from runtime.http1.connections import Connections
from runtime.testing import Client, serving, wait_until
from runtime.workers.blocking import MAX_FIELD_LENGTH, current_work, split_answer

ID = "check-17"


class Observer:
    """Looks at the event loop from another thread, while a function of the loop waits for it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.connections: Connections

    def look(self) -> None:
        """Call this where the event loop would be blocked."""
        loop = asyncio.get_running_loop()
        thread = Thread(target=lambda: self.seen.append(current_work(loop, self.connections)))
        thread.start()
        thread.join()


class Base(Handler):
    def initialize(self, observer: Observer) -> None:
        self.observer = observer

    async def look(self) -> None:
        self.observer.look()


class Plain(Base):
    def get(self, number: str) -> None:
        self.observer.look()


class InPrepare(Base):
    def prepare(self) -> None:
        self.observer.look()
        raise Problem(409)


class InInitialize(Handler):
    def initialize(self, observer: Observer) -> None:
        observer.look()

    def get(self) -> None: ...


class InTaskOfItsOwn(Base):
    async def get(self) -> None:
        await asyncio.gather(asyncio.wait_for(self.look(), 5))


class InBackground(Base):
    async def get(self) -> None:
        await self.background(self.look())


class InTaskOfTheBackground(Base):
    def get(self) -> None:
        self.background(self._gather())

    async def _gather(self) -> None:
        await asyncio.sleep(0)  # the request has ended
        await asyncio.gather(self.look())


class InCallback(Base):
    async def get(self) -> None:
        asyncio.get_running_loop().call_soon(self.observer.look)
        await asyncio.sleep(0)


class Held(Base):
    """Is in flight, too."""

    async def get(self) -> None:
        await self.drain_started()


class InStream(EventStream):
    def initialize(self, observer: Observer) -> None:
        self.observer = observer

    async def stream(self) -> None:
        self.observer.look()


class InTaskOfAStream(EventStream):
    def initialize(self, observer: Observer) -> None:
        self.observer = observer

    async def stream(self) -> None:
        await asyncio.gather(self._look())

    async def _look(self) -> None:
        self.observer.look()


class InMessage(WebSocket):
    def initialize(self, observer: Observer) -> None:
        self.observer = observer

    async def on_message(self, message: str | bytes) -> None:
        await asyncio.sleep(0)
        self.observer.look()
        self.close()


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def client(observer: Observer) -> AsyncIterator[Client]:
    handlers: dict[str, type[Handler]] = {
        "/orders/{number}": Plain,
        "/prepare": InPrepare,
        "/initialize": InInitialize,
        "/task": InTaskOfItsOwn,
        "/background": InBackground,
        "/child": InTaskOfTheBackground,
        "/callback": InCallback,
        "/held": Held,
        "/stream": InStream,
        "/stream-task": InTaskOfAStream,
        "/socket": InMessage,
    }
    routes = [Route(path, handler, observer=observer) for path, handler in handlers.items()]
    async with serving(Application(Settings(), routes)) as client:
        observer.connections = client.app.connections
        yield client


def work_of_request(work: str, route: str) -> dict[str, str]:
    return {"work": work, "http.request.method": "GET", "http.route": route, "request_id": ID}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/orders/7?secret=1", work_of_request("GET /orders/{number}", "/orders/{number}")),
        ("/prepare", work_of_request("GET /prepare", "/prepare")),
        ("/initialize", work_of_request("GET /initialize", "/initialize")),
        ("/task", work_of_request("GET /task", "/task")),
        ("/background", {"work": "task Base.look", "request_id": ID}),
        ("/child", {"request_id": ID}),
        ("/callback", {}),
        ("/stream", work_of_request("GET /stream", "/stream")),
        ("/stream-task", work_of_request("GET /stream-task", "/stream-task")),
    ],
)
async def test_work_of_a_request(
    client: Client, observer: Observer, path: str, expected: dict[str, str]
) -> None:
    other = asyncio.create_task(client.get("/held", X_Request_ID="another"))
    await wait_until(lambda: client.app.connections.requests)
    await client.get(path, X_Request_ID=ID)
    await wait_until(lambda: observer.seen)
    assert observer.seen == [expected]
    client.app.connections.draining.set()
    await other


async def test_work_of_a_websocket(client: Client, observer: Observer) -> None:
    async with client.websocket("/socket", X_Request_ID=ID) as websocket:
        await websocket.write_message("secret")
        assert await websocket.read_message() is None
    assert observer.seen == [work_of_request("WebSocket /socket", "/socket")]


async def test_loop_that_waits_runs_nothing() -> None:
    async def wait() -> None:
        await asyncio.sleep(0)
        loop.call_soon(lambda: seen.append(current_work(loop, Connections())))
        await asyncio.sleep(0)

    seen: list[dict[str, str]] = []
    loop = asyncio.get_running_loop()
    await asyncio.create_task(wait())
    assert seen == [{}]


@pytest.mark.parametrize(
    ("report", "stack", "answer"),
    [
        ("", "", None),
        ("Stack\n  File\n", "Stack\n  File\n", None),
        ('Stack\n  \x1e{"work": "GET /"}\nFile\n', "Stack\n  File\n", {"work": "GET /"}),
        ('Stack\n\x1e{}\n\x1e{"work": "GET /"}\n', "Stack\n", {"work": "GET /"}),
        ('\x1e{"work": "GET /", "url.path": "/x", "level": 7}\n', "", {"work": "GET /"}),
        ('\x1e{"work": ["GET"], "request_id": null}\n', "", {"work": "['GET']"}),
        ('\x1e{"work"\n', "", {}),
        ('\x1e{"work": "GET /"}', '\x1e{"work": "GET /"}', None),
        ("\x1e[]\n\x1e7\n\x1e\n", "", {}),
        (f"\x1e{'[' * 100_000}\n", "", {}),
        (f'\x1e{{"work": "{"x" * 100_000}"}}\n', "", {"work": "x" * MAX_FIELD_LENGTH}),
    ],
)
def test_answer_is_found_in_whatever_a_process_writes(
    report: str, stack: str, answer: dict[str, str] | None
) -> None:
    assert split_answer(report) == (stack, answer)
