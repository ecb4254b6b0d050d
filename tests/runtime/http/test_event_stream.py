"""Streams of server-sent events: what clients get, and how a stream ends."""

import asyncio
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from runtime import Application, EventStream, Handler, Problem, Route, Settings
from runtime.http.event_stream import BEGIN_DELAY
from runtime.http.hooks import RequestHooks
from runtime.logs.context import request_id
from runtime.monitor.statistics import errors as server_errors
from runtime.monitor.statistics import responses
from runtime.testing import Client, Event, Record, serving, wait_until
from tornado.httpclient import HTTPClientError
from tornado.iostream import StreamClosedError

from ..support.access import access_lines
from ..support.connections import RawConnection

Stream = Callable[..., Awaitable[None]]


class Scripted(EventStream):
    """A stream that a test has written."""

    def initialize(self, script: Stream) -> None:
        self.script = script

    async def stream(self, *args: str, **kwargs: str) -> None:
        await self.script(self, *args, **kwargs)


def streaming(script: Stream, handler: type[Scripted] = Scripted, **settings: Any) -> Application:
    return Application(Settings(**settings), [Route("/", handler, script=script)])


def errors(records: list[Record]) -> list[str]:
    return [record["message"] for record in records if record["level"] in ("error", "critical")]


async def forever() -> None:
    await asyncio.Event().wait()


async def greet_and_wait(stream: EventStream) -> None:
    await stream.send("hello", id="1")
    await forever()


# What is sent


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("text", "text"),
        ("", ""),
        ({"a": [1, "\n"]}, '{"a":[1,"\\n"]}'),
        (None, "null"),
        (" leading: space", " leading: space"),
        ("lf\ncr\rcrlf\r\n\r\nend\n", "lf\ncr\ncrlf\n\nend\n"),
        ("no line ends: \v \f \x1c \x85 \u2028 \0", "no line ends: \v \f \x1c \x85 \u2028 \0"),
        ("\N{EURO SIGN}", "\N{EURO SIGN}"),
    ],
)
async def test_data_arrives(data: object, received: str) -> None:
    async def script(stream: EventStream) -> None:
        await stream.send(data, event="kind", id="\N{EURO SIGN} 7")

    async with serving(streaming(script)) as client, client.events("/") as events:
        assert await anext(events) == Event(received, "kind", "\N{EURO SIGN} 7")
        assert [event async for event in events] == []


@pytest.mark.parametrize("field", ["id", "event"])
@pytest.mark.parametrize("value", ["a\nb", "a\r", "\0"])
async def test_field_that_is_more_than_a_line_is_refused(field: str, value: str) -> None:
    async def script(stream: EventStream) -> None:
        with pytest.raises(ValueError, match=f"the {field} of an event is one line"):
            await stream.send("data", **{field: value})
        with pytest.raises(TypeError):
            await stream.send(object())
        await stream.send("all right")

    async with serving(streaming(script)) as client, client.events("/") as events:
        assert [event.data async for event in events] == ["all right"]


async def test_head_of_the_response() -> None:
    async with serving(streaming(greet_and_wait)) as client, client.events("/") as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        assert events.headers["Cache-Control"] == "no-store"
        assert events.headers["X-Accel-Buffering"] == "no"
        assert events.headers["X-Request-ID"]
        await anext(events)
        assert events.retry is not None
        assert 1000 <= events.retry <= 2000


async def test_clients_wait_for_different_times() -> None:
    waits = set()
    async with serving(streaming(greet_and_wait)) as client:
        for _ in range(5):
            async with client.events("/") as events:
                await anext(events)
                waits.add(events.retry)
    assert len(waits) > 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("", None), ("7", "7"), ("\N{EURO SIGN}".encode().decode("latin-1"), "\u20ac")],
)
async def test_last_event_id(header: str | None, expected: str | None) -> None:
    seen = []

    async def script(stream: EventStream) -> None:
        seen.append(stream.last_event_id)

    async with serving(streaming(script)) as client, RawConnection(client.port) as connection:
        lines = "" if header is None else f"Last-Event-ID: {header}\r\n"
        connection.send(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1"))
        await connection.read_until(b"0\r\n\r\n")
    assert seen == [expected]


async def test_stream_gets_what_the_route_matches() -> None:
    async def script(stream: EventStream, name: str) -> None:
        await stream.send(name)

    app = Application(Settings(), [Route("/of/{name}", Scripted, script=script)])
    async with serving(app) as client, client.events("/of/Ada") as events:
        assert (await anext(events)).data == "Ada"


async def test_response_begins_although_there_is_no_event() -> None:
    app = streaming(lambda stream: forever())
    async with serving(app) as client, client.events("/"):  # waits for the headers
        assert len(app.connections.event_streams) == 1


async def test_stream_that_ends_without_an_event_is_an_empty_stream() -> None:
    async def script(stream: EventStream) -> None:
        pass

    async with serving(streaming(script)) as client, client.events("/") as events:
        assert [event async for event in events] == []
        assert events.retry


async def test_silent_stream_is_kept_alive() -> None:
    class Impatient(Scripted):
        keep_alive_interval = 0.02

    comments = 0

    async def script(stream: EventStream) -> None:
        await stream.send("first")
        await asyncio.sleep(0.2)
        await stream.send("second")

    async with serving(streaming(script, Impatient)) as client, client.events("/") as events:
        assert [event.data async for event in events] == ["first", "second"]
        comments = events.comments
    assert 1 <= comments <= 10


async def test_stream_with_events_needs_no_comments() -> None:
    class Impatient(Scripted):
        keep_alive_interval = 0.2

    sent_at: list[float] = []

    async def script(stream: EventStream) -> None:
        for number in range(50):
            sent_at.append(asyncio.get_running_loop().time())
            await stream.send(number)
            await asyncio.sleep(0.01)

    async with serving(streaming(script, Impatient)) as client, client.events("/") as events:
        assert len([event async for event in events]) == 50
        # None, unless the machine has stalled.
        pauses = [later - sent for sent, later in itertools.pairwise(sent_at)]
        stalls = [pause for pause in pauses if pause >= Impatient.keep_alive_interval]
        assert events.comments <= len(stalls)


async def test_events_of_several_tasks_do_not_mix() -> None:
    async def script(stream: EventStream) -> None:
        async def send(name: str) -> None:
            for _ in range(50):
                await stream.send("\n".join([name] * 100), event=name)

        await asyncio.gather(*map(send, "abc"))

    async with serving(streaming(script)) as client, client.events("/") as events:
        found = [event async for event in events]
    assert len(found) == 150
    assert {(event.event, event.data) for event in found} == {
        (name, "\n".join([name] * 100)) for name in "abc"
    }


async def test_tasks_of_a_stream_log_its_request_id() -> None:
    async def script(stream: EventStream) -> None:
        ids = [request_id.get(), await asyncio.create_task(current_id())]
        await stream.send(ids)

    async def current_id() -> str | None:
        return request_id.get()

    headers = {"X_Request_ID": "check-17"}
    async with serving(streaming(script)) as client, client.events("/", **headers) as events:
        assert (await anext(events)).json() == ["check-17", "check-17"]


async def test_stream_is_not_compressed() -> None:
    app = Application(
        Settings(), [Route("/", Scripted, script=greet_and_wait)], compress_response=True
    )
    async with serving(app) as client, client.events("/", Accept_Encoding="gzip") as events:
        assert "Content-Encoding" not in events.headers
        assert (await anext(events)).data == "hello"


async def test_head_has_no_stream(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        raise AssertionError("called")

    async with serving(streaming(script)) as client, RawConnection(client.port) as connection:
        connection.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        for _ in range(2):
            head = await connection.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            assert b"Content-Length" not in head
            assert b"Transfer-Encoding" not in head
        assert not client.app.connections.busy
    assert errors(log_records) == []


async def test_old_client_gets_the_events_until_the_connection_closes() -> None:
    async def script(stream: EventStream) -> None:
        await stream.send("hello")

    async with serving(streaming(script)) as client, RawConnection(client.port) as connection:
        connection.send("GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await connection.read_to_end()).partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"chunked" not in head
    assert body.startswith(b"retry: ")
    assert body.endswith(b"\n\ndata: hello\n\n")


# How it ends


async def test_open_stream_is_no_request_in_flight(log_records: list[Record]) -> None:
    app = streaming(greet_and_wait)
    async with serving(app) as client:
        async with client.events("/") as events:
            await anext(events)
            assert not app.connections.requests
            assert list(map(str, app.connections.event_streams)) == ["event stream /"]
            assert app.connections.busy
            assert responses(app.statistics.cells) == 0
        await wait_until(lambda: not app.connections.busy)
        assert not app.connections.event_streams
        assert responses(app.statistics.cells) == 1
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 200
    assert line["http.response.body.size"] > len("data: hello\n\n")
    assert errors(log_records) == []


class Durations(RequestHooks):
    def __init__(self) -> None:
        self.found: list[float] = []
        self.failed: list[BaseException] = []

    def request_finished(self, handler: Any) -> None:
        self.found.append(handler.request.duration)

    def request_failed(self, handler: Any, error: BaseException) -> None:
        self.failed.append(error)


@pytest.mark.parametrize("way", ["event", "silence"])
async def test_duration_for_statistics_ends_when_the_stream_begins(
    way: str, log_records: list[Record]
) -> None:
    async def script(stream: EventStream) -> None:
        if way == "event":
            await stream.send("hello")
        await asyncio.sleep(0.3)

    app, durations = streaming(script), Durations()
    async with serving(app) as client:
        app.hooks = [durations]
        async with client.events("/") as events:
            assert len([event async for event in events]) == (way == "event")
    [line] = access_lines(log_records)
    assert line["duration_ms"] - 1000 * durations.found[0] > 290


@pytest.mark.parametrize("how", ["closes", "resets", "half-closes"])
async def test_stream_is_cancelled_when_its_client_leaves(
    how: str, log_records: list[Record]
) -> None:
    ended = []

    async def script(stream: EventStream) -> None:
        try:
            await greet_and_wait(stream)
        finally:
            ended.append(stream)

    app = streaming(script)
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await connection.read_until(b"data: hello\n\n")
        if how == "half-closes":
            connection.send_eof()
            assert (await connection.read_to_end()).endswith(b"0\r\n\r\n")
        elif how == "resets":
            connection.abort()
        else:
            await connection.__aexit__()
        await wait_until(lambda: not app.connections.busy)
        with pytest.raises(StreamClosedError):
            await ended[0].send("too late")
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 200
    assert errors(log_records) == []


async def leave_early(app: Application, arrived: asyncio.Event) -> None:
    """Send a request, leave when it has arrived, and wait until the service has noticed."""
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await arrived.wait()
        connection.abort()
        await wait_until(lambda: not app.connections.busy)


def ask(port: int) -> socket.socket:
    """Ask for a stream, of which nothing is then read. Return the connection."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return connection


def leave(connection: socket.socket) -> None:
    """Reset a connection, which the service notices when it sends, or in its next turn."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def send_without_end(stream: EventStream) -> None:
    while True:
        await stream.send("x" * 100_000)


async def filled(app: Application) -> None:
    """Wait until the client of the only stream has to read before more can be sent."""

    def is_sending() -> bool:
        opened: list[Any] = list(app.connections.event_streams)
        return bool(opened) and opened[0].request.exchange.is_sending

    await wait_until(is_sending)


@asynccontextmanager
async def ending_well(
    script: Stream, log_records: list[Record], handler: type[Scripted] = Scripted
) -> AsyncIterator[tuple[Client, socket.socket]]:
    """Serve a stream of which nothing is read. Check that its end is not taken for an error."""
    app, hooks = streaming(script, handler), Durations()
    async with serving(app) as client:
        app.hooks = [hooks]
        with ask(client.port) as connection:
            yield client, connection
            await wait_until(lambda: access_lines(log_records))
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 200
    assert server_errors(app.statistics.cells) == 0
    assert hooks.failed == []
    assert errors(log_records) == []


async def test_client_that_leaves_during_a_burst_is_no_error(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        await stream.send("hello")
        leave(connection)
        while True:  # in one turn of the loop, as long as all of it is taken at once
            await stream.send("x" * 1000)

    async with ending_well(script, log_records) as (_, connection):
        pass


async def test_client_that_leaves_before_the_last_event_is_no_error(
    log_records: list[Record],
) -> None:
    async def script(stream: EventStream) -> None:
        try:
            await send_without_end(stream)
        except asyncio.CancelledError:
            leave(connection)
            await stream.send("until soon")
            raise

    async with ending_well(script, log_records) as (client, connection):
        await filled(client.app)
        await drained(client)


async def test_client_that_leaves_tasks_of_a_stream_is_no_error(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            for _ in range(2):
                group.create_task(send_without_end(stream))

    async with ending_well(script, log_records) as (client, connection):
        await filled(client.app)
        leave(connection)


async def test_other_failure_is_one_also_if_the_client_has_left(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(send_without_end(stream))
            try:
                await forever()
            finally:
                raise ZeroDivisionError

    app, hooks = streaming(script), Durations()
    async with serving(app) as client:
        app.hooks = [hooks]
        with ask(client.port):
            await filled(app)
        await wait_until(lambda: access_lines(log_records))
    [error] = hooks.failed
    assert isinstance(error, ExceptionGroup)
    assert any(isinstance(part, ZeroDivisionError) for part in error.exceptions)


async def test_client_that_leaves_before_the_response_begins(log_records: list[Record]) -> None:
    arrived = asyncio.Event()

    async def script(stream: EventStream) -> None:
        arrived.set()
        await forever()

    app = streaming(script)
    await leave_early(app, arrived)
    assert [line["http.response.status_code"] for line in access_lines(log_records)] == [499]
    assert errors(log_records) == []


async def test_client_that_leaves_during_prepare_has_no_stream(log_records: list[Record]) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    class Checked(Scripted):
        async def prepare(self) -> None:
            arrived.set()
            await left.wait()

        def on_connection_close(self) -> None:
            super().on_connection_close()
            left.set()

    async def script(stream: EventStream) -> None:
        raise AssertionError("called")

    app = streaming(script, Checked)
    await leave_early(app, arrived)
    assert [line["http.response.status_code"] for line in access_lines(log_records)] == [499]
    assert errors(log_records) == []


@pytest.mark.parametrize("place", ["prepare", "stream"])
async def test_problem_before_the_first_event_is_the_response(place: str) -> None:
    class Checked(Scripted):
        def prepare(self) -> None:
            if place == "prepare":
                raise Problem(404, "No such order.")

    async def script(stream: EventStream) -> None:
        raise Problem(404, "No such order.")

    async with serving(streaming(script, Checked)) as client:
        response = await client.get("/")
        with pytest.raises(HTTPClientError, match="404"):
            async with client.events("/"):
                pass
    assert response.code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "X-Accel-Buffering" not in response.headers


async def test_reply_before_the_first_event_is_the_response(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        stream.reply(status=204)
        with pytest.raises(StreamClosedError):
            await stream.send("too late")
        await asyncio.sleep(2 * BEGIN_DELAY)

    async with serving(streaming(script)) as client:
        assert (await client.get("/")).code == 204
        await wait_until(lambda: not client.app.connections.busy)
    assert errors(log_records) == []


async def test_response_to_a_post_may_be_a_stream() -> None:
    class Posted(Scripted):
        post = EventStream.get

    async def script(stream: EventStream) -> None:
        await stream.send(stream.request.body.decode())

    async with serving(streaming(script, Posted)) as client:
        response = await client.post("/", {"question": 1})
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.body.endswith(b'data: {"question":1}\n\n')


@pytest.mark.parametrize(
    "error", [ZeroDivisionError, Problem(404), asyncio.CancelledError, StreamClosedError]
)
async def test_stream_that_fails_after_an_event_is_cut(
    error: Exception, log_records: list[Record]
) -> None:
    async def script(stream: EventStream) -> None:
        await stream.send("hello")
        raise error

    app, hooks = streaming(script), Durations()
    async with serving(app) as client:
        app.hooks = [hooks]
        async with client.events("/") as events:
            assert (await anext(events)).data == "hello"
            with pytest.raises(ConnectionError):
                await anext(events)
        await wait_until(lambda: not app.connections.busy)
    [line] = access_lines(log_records)
    if isinstance(error, Problem):
        assert line["http.response.status_code"] == 404
        assert hooks.failed == []
    else:
        assert line["http.response.status_code"] == 500
        assert len(hooks.failed) == 1
        assert [message for message in errors(log_records) if "failed" in message] == [
            "GET / failed"
        ]


async def test_failure_during_the_clean_up_is_logged(log_records: list[Record]) -> None:
    async def script(stream: EventStream) -> None:
        try:
            await greet_and_wait(stream)
        finally:
            raise ZeroDivisionError

    app = streaming(script)
    async with serving(app) as client:
        async with client.events("/") as events:
            await anext(events)
        await wait_until(lambda: not app.connections.busy)
    [failed] = [record for record in log_records if record.get("exception.type")]
    assert failed["exception.type"] == "ZeroDivisionError"


# Slow clients


@pytest.mark.parametrize("sender", ["stream", "another task"])
async def test_client_that_reads_nothing_fills_no_memory_and_is_cut(
    sender: str, log_records: list[Record]
) -> None:
    sent = 0
    seen: list[int] = []

    class Impatient(Scripted):
        keep_alive_interval = 0.02

    async def script(stream: EventStream) -> None:
        async def send() -> None:
            nonlocal sent
            while True:
                await stream.send("x" * 100_000)
                sent += 1

        if sender == "stream":
            await send()
        task = asyncio.create_task(send())
        try:
            await forever()
        finally:
            with pytest.raises(StreamClosedError):
                await task

    # With a short one for bodies time-outs are looked for often.
    app = streaming(script, Impatient, idle_timeout=60, body_timeout=0.2)
    async with serving(app) as client:
        with ask(client.port):
            await wait_until(lambda: app.connections.event_streams and sent)
            [opened] = app.connections.open
            unsent: Callable[[], int] = opened._transport.get_write_buffer_size  # type: ignore[attr-defined]
            await wait_until(
                lambda: seen.append(unsent()) or (len(set(seen[-10:])) == 1 and seen[-1])
            )
            await asyncio.sleep(0.1)
            # The rest of one event: no comments, no further events.
            assert unsent() == seen[-1] <= 110_000
            now = asyncio.get_running_loop().time()
            assert opened.deadline <= now + 60

            def is_cut() -> bool:
                opened.deadline = now  # as if the time had passed
                return not app.connections.busy

            await wait_until(is_cut)
    assert not app.connections.open
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 200
    assert errors(log_records) == []


async def test_time_outs_do_not_end_a_silent_stream() -> None:
    async def script(stream: EventStream) -> None:
        await stream.send("first")
        await asyncio.sleep(0.6)
        await stream.send("second")

    app = streaming(script, idle_timeout=0.1, body_timeout=0.1)
    async with serving(app) as client, client.events("/") as events:
        assert [event.data async for event in events] == ["first", "second"]


# Draining


async def drained(client: Client) -> None:
    """Drain the server, without waiting for requests that may come."""
    async with asyncio.timeout(10):
        await client.server.drain([])


async def test_drain_ends_streams_and_tells_clients_to_come_back(
    log_records: list[Record],
) -> None:
    app = streaming(greet_and_wait)
    async with serving(app) as client, client.events("/") as first, client.events("/") as second:
        for events in first, second:
            await anext(events)
            events.retry = None
        drain = asyncio.create_task(drained(client))
        for events in first, second:
            assert [event async for event in events] == []  # the end, not a cut
            assert events.retry
            assert events.last_event_id == "1"
        await drain
    assert [line["http.response.status_code"] for line in access_lines(log_records)] == [200, 200]
    assert errors(log_records) == []


async def test_many_streams_end_in_order() -> None:
    app = streaming(greet_and_wait)
    number = 250  # more than are ended in a turn of the loop
    async with serving(app) as client:

        async def read() -> list[str]:
            async with client.events("/") as events:
                return [event.data async for event in events]

        readers = [asyncio.create_task(read()) for _ in range(number)]
        await wait_until(lambda: len(app.connections.event_streams) == number)
        await drained(client)
        assert await asyncio.gather(*readers) == [["hello"]] * number


async def test_stream_may_send_a_last_event_at_a_drain() -> None:
    async def script(stream: EventStream) -> None:
        try:
            await greet_and_wait(stream)
        except asyncio.CancelledError:
            if stream.is_draining:
                await stream.send("until soon", event="last")
            raise

    async with serving(streaming(script)) as client, client.events("/") as events:
        await anext(events)
        drain = asyncio.create_task(drained(client))
        assert [event async for event in events] == [Event("until soon", "last", "1")]
        await drain


class Patient(Scripted):
    end_timeout = 60.0


class Hasty(Scripted):
    end_timeout = 0.1


@pytest.mark.parametrize("waits_for", ["more room", "another task", "room for a last event"])
async def test_client_that_reads_nothing_does_not_hold_up_the_drain(
    waits_for: str, log_records: list[Record]
) -> None:
    async def script(stream: EventStream) -> None:
        if waits_for == "another task":
            async with asyncio.TaskGroup() as group:
                group.create_task(send_without_end(stream))
                await forever()
        try:
            await send_without_end(stream)
        except asyncio.CancelledError:
            if waits_for == "room for a last event":
                await stream.send("until soon")
            raise

    async with ending_well(script, log_records, Hasty) as (client, _):
        await filled(client.app)
        await drained(client)
        assert not client.app.connections.open


async def test_client_that_reads_late_gets_all_of_a_stream_that_has_ended() -> None:
    app = streaming(send_without_end, Patient)
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await filled(app)
        drain = asyncio.create_task(drained(client))
        await wait_until(lambda: not app.connections.event_streams)
        assert (await connection.read_to_end()).endswith(b"\n\n\r\n0\r\n\r\n")
        await drain


@pytest.mark.parametrize("cause", ["drain", "client"])
async def test_stream_whose_cancellation_is_lost_is_cancelled_again(
    cause: str, log_records: list[Record]
) -> None:
    async def script(stream: EventStream) -> None:
        # As `asyncio.wait_for` of Python 3.11 does if what it waits for is done in the same turn.
        with suppress(asyncio.CancelledError):
            await greet_and_wait(stream)
        await stream.send("goes on")
        await forever()

    app = streaming(script, Hasty)
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await connection.read_until(b"data: hello\n\n")
        if cause == "drain":
            await drained(client)
            assert (await connection.read_to_end()).endswith(b"0\r\n\r\n")
        else:
            connection.send_eof()
            assert b"data: goes on" in await connection.read_to_end()
        await wait_until(lambda: not app.connections.busy)
    [line] = access_lines(log_records)
    assert line["http.response.status_code"] == 200
    assert errors(log_records) == []


async def test_cancelled_stream_ends_once_although_its_client_leaves_then() -> None:
    ending, released = asyncio.Event(), asyncio.Event()

    async def script(stream: EventStream) -> None:
        try:
            await greet_and_wait(stream)
        except asyncio.CancelledError:
            ending.set()
            await released.wait()
            released.clear()

    app = streaming(script, Patient)
    async with serving(app) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await connection.read_until(b"data: hello\n\n")
        drain = asyncio.create_task(drained(client))
        await ending.wait()
        connection.abort()
        await wait_until(lambda: not app.connections.open)
        assert app.connections.busy
        released.set()
        await drain
    assert not released.is_set()


async def test_stream_that_does_not_end_holds_up_the_drain() -> None:
    released = asyncio.Event()

    async def script(stream: EventStream) -> None:
        await stream.send("hello")
        while not released.is_set():
            with suppress(asyncio.CancelledError):  # as no stream should
                await released.wait()

    app = streaming(script)
    async with serving(app) as client, client.events("/") as events:
        await anext(events)
        drain = asyncio.create_task(drained(client))
        done, _ = await asyncio.wait([drain], timeout=0.7)
        assert not done
        assert list(map(str, app.connections.event_streams)) == ["event stream /"]
        released.set()
        await drain


async def test_stream_that_is_asked_for_during_a_drain_is_sent_away() -> None:
    async def script(stream: EventStream) -> None:
        raise AssertionError("called")

    async with serving(streaming(script)) as client:
        client.app.connections.draining.set()
        async with client.events("/") as events:
            assert events.headers["Connection"] == "close"
            assert [event async for event in events] == []
            assert events.retry


async def test_stream_that_has_not_begun_is_ended_by_a_drain() -> None:
    arrived = asyncio.Event()

    async def script(stream: EventStream) -> None:
        arrived.set()
        await forever()

    async with serving(streaming(script)) as client, RawConnection(client.port) as connection:
        connection.send_get("/")
        await arrived.wait()
        drain = asyncio.create_task(drained(client))
        assert b"retry: " in await connection.read_until(b"0\r\n\r\n")
        await drain


class Poll(Handler):
    """A long poll, which a drain ends early."""

    async def get(self) -> None:
        assert not self.is_draining
        await self.drain_started()
        assert self.is_draining
        self.reply({"changed": False})


async def test_handler_may_wait_for_the_drain() -> None:
    app = Application(Settings(), [Route("/", Poll)])
    async with serving(app) as client:
        poll = asyncio.create_task(client.get("/"))
        await wait_until(lambda: app.connections.requests)
        await drained(client)
        assert (await poll).code == 200
