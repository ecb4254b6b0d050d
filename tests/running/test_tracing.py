"""Traces of the real service with two workers, for a small collector or for one that fails."""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..ports import free_port
from .environments import environment
from .harness import Answer, Service, Starter, get, starter, until
from .load import MIX, Load

SPANS = Path(__file__).with_name("otlp.py")

SENDING = 3.0
"""Seconds that the last spans may take at a stop."""
MARGIN = 4.0

CALLER = """
import os
from tornado.httpclient import AsyncHTTPClient
from tornado_service import app
from tornado_service.runtime import Handler, Route


class Call(Handler):
    async def get(self):
        answer = await AsyncHTTPClient().fetch(os.environ["CALLED"], raise_error=False)
        self.reply({"status": answer.code})


def make_app(values):
    application = app.make_app(values)
    application.wildcard_router.add_rules([Route("/call", Call)])
    return application
"""

Span = dict[str, Any]


@pytest.fixture(scope="module")
def traced(bake_into: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with traces and two workers."""
    return bake_into(tmp_path_factory.mktemp("traced"), tracing=True, workers="2")


@pytest.fixture(scope="module")
def traced_python(traced: Path, shared: Path) -> Path:
    """The Python of an environment with everything that it needs."""
    return environment(traced, shared)


@pytest.fixture
def run(traced_python: Path, traced: Path, tmp_path: Path) -> Iterator[Starter]:
    """Starts services of this project; ends them all."""
    with starter(traced_python, tmp_path, traced / "src") as made:
        yield made


class Collector:
    """The collector, which is a process of its own."""

    def __init__(self, run: Starter, answer: str = "200") -> None:
        self._process = run.spawn(str(SPANS), answer)
        first = until(self._process.records, "a collector")[0]
        self.url = f"http://127.0.0.1:{first['port']}"

    def lines(self) -> list[dict[str, Any]]:
        return self._process.records()[1:]

    def requests(self) -> list[Span]:
        """The spans of requests so far."""
        return [span for span in self.lines() if span["kind"] == "SPAN_KIND_SERVER"]


@pytest.fixture
def collector(run: Starter) -> Collector:
    return Collector(run)


def start(run: Starter, endpoint: str, workers: int = 2, **settings: object) -> Service:
    service = run.faulty(APP_WORKERS=workers, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **settings)
    if workers > 1:
        service.workers(workers)
    return service


def stop(service: Service) -> None:
    service.signal()
    assert service.wait() == 0


async def ask(
    service: Service, paths: list[str], headers: Callable[[int], dict[str, str]] = lambda _: {}
) -> list[Answer]:
    """Ask for each path, twenty at a time. The id of a request is its number."""
    gate = asyncio.Semaphore(20)

    async def one(number: int, path: str) -> Answer:
        async with gate:
            return await get(service.port, path, X_Request_ID=str(number), **headers(number))

    return await asyncio.gather(*(one(number, path) for number, path in enumerate(paths)))


def access(service: Service) -> list[dict[str, Any]]:
    return [record for record in service.records() if record["logger"] == "access"]


def processes(spans: list[Span]) -> set[str]:
    return {span["process"] for span in spans}


def remote(number: int) -> tuple[str, str]:
    """Make the ids of the trace and the span that every other request comes with."""
    return (f"{number + 1:032x}", f"{number + 1:016x}") if number % 2 else ("", "")


def traceparent(number: int) -> dict[str, str]:
    trace, span = remote(number)
    return {"traceparent": f"00-{trace}-{span}-01"} if trace else {}


async def test_every_request_is_one_span(run: Starter, collector: Collector) -> None:
    service = start(run, collector.url)
    kinds = [
        (200, "GET /greetings/{name}", "/greetings/{}"),
        (200, "GET /who/{seconds}", "/who/0.00{}"),
        (200, "GET /plain/{seconds}", "/plain/0.00{}"),
        (404, "GET", "/nowhere/{}"),
        (500, "GET /fail", "/fail"),
    ]
    count = 2000
    expected = [kinds[number % len(kinds)] for number in range(count)]
    paths = [path.format(number) for number, (_, _, path) in enumerate(expected)]
    answers = await ask(service, paths, traceparent)
    assert [answer.status for answer in answers] == [status for status, _, _ in expected]
    await asyncio.to_thread(stop, service)
    spans = collector.requests()
    assert len(spans) == len({span["span"] for span in spans}) == count
    assert len(processes(spans)) == 2
    by_id = {span["span"]: span for span in spans}
    lines = access(service)
    assert len(lines) == count
    differences = []
    for line in lines:
        span = by_id.pop(line["span_id"])
        number = int(line["request_id"])
        status, name, _ = expected[number]
        trace, parent = remote(number)
        assert span["trace"] == line["trace_id"]
        assert span["parent"] == parent
        assert span["trace"] == trace or not trace
        assert span["name"] == name
        assert span["error"] is (status == 500)
        assert span["attributes"]["http.response.status_code"] == status
        assert span["attributes"]["url.path"] == paths[number]
        assert span["service"] == "tornado-service"
        differences.append(abs(span["seconds"] - line["duration_ms"] / 1000))
    assert sorted(differences)[count // 2] < 0.05
    failed = [r for r in service.records() if "exception.type" in r]
    assert len(failed) == count / len(kinds)
    assert all(remote(int(r["request_id"]))[0] in ("", r["trace_id"]) for r in failed)
    others = [r for r in service.records() if r["logger"] != "access" and r not in failed]
    assert {r["level"] for r in others} == {"info"}
    assert not [r for r in others if "trace_id" in r]


def test_stopping_under_load_loses_no_span(run: Starter, collector: Collector) -> None:
    service = start(run, collector.url)
    with Load(service.port, MIX) as load:
        until(lambda: load.answered > 3000, "answers")
        service.signal()
        assert service.wait() == 0
    assert load.answered <= len(access(service)) == len(collector.requests())


def test_reloading_under_load_loses_no_span(run: Starter, collector: Collector) -> None:
    service = start(run, collector.url)
    with Load(service.port, MIX) as load:
        for number in (1, 2):
            until(lambda: load.answered > 1500 * number, "answers")  # noqa: B023
            service.signal(signal.SIGHUP)
            until(lambda: service.messages().count("reloaded") == number, "reloaded")  # noqa: B023
        answered = load.answered
        until(lambda: load.answered > answered + 1500, "answers")
    stop(service)
    assert load.kinds() == {}
    assert len(collector.requests()) == load.answered
    assert len(processes(collector.requests())) == 6


async def test_a_killed_worker_takes_only_what_it_has_not_sent(
    run: Starter, collector: Collector
) -> None:
    service = start(run, collector.url, OTEL_BSP_SCHEDULE_DELAY=100)
    await ask(service, ["/"] * 500)
    await asyncio.to_thread(until, lambda: len(collector.requests()) == 500, "spans")
    victim, _ = service.workers()
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(until, lambda: victim not in service.processes().values(), "another")
    await ask(service, ["/"] * 500)
    await asyncio.to_thread(stop, service)
    assert len(collector.requests()) == 1000
    assert len(processes(collector.requests())) == 3


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("how", "workers"),
    [("refused", 1), ("silence", 2)],
)
async def test_without_a_collector_that_works_all_else_does(
    run: Starter, how: str, workers: int
) -> None:
    refused = f"http://127.0.0.1:{free_port()}"
    service = start(run, refused if how == "refused" else Collector(run, how).url, workers)
    answers = await ask(service, ["/"] * 6000)
    assert {answer.status for answer in answers} == {200}
    signalled = service.signal()
    assert await asyncio.to_thread(service.wait) == 0
    assert time.monotonic() - signalled < SENDING + MARGIN
    told = [r for r in service.records() if r["level"] != "info"]
    # Each worker when that begins, and when it stops.
    assert workers <= len(told) <= 2 * workers
    assert {r["logger"] for r in told} == {"tornado_service.runtime.tracing.exporter"}
    assert {r["level"] for r in told} == {"warning"}
    lost = sum(int(re.findall(r"dropped.*?: (\d+)", r["message"])[0]) for r in told)
    assert lost == 6000
    assert not [r for r in service.records() if "exception.type" in r]
    assert service.errors() == ""


def test_the_supervisor_has_no_thread(run: Starter, collector: Collector) -> None:
    service = start(run, collector.url)
    assert threads(service.process.pid) == 1
    assert threads(service.workers()[0]) > 1


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def test_without_an_endpoint_ids_are_logged_and_nothing_sent(
    run: Starter, collector: Collector
) -> None:
    service = start(run, "")
    await ask(service, ["/"] * 100, traceparent)
    await asyncio.to_thread(stop, service)
    assert collector.lines() == []
    for line in access(service):
        trace, _ = remote(int(line["request_id"]))
        assert line["trace_id"] == trace or not trace


def test_a_call_carries_the_trace_to_the_other_service(run: Starter, collector: Collector) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    called = run.start(**endpoint, OTEL_SERVICE_NAME="called")
    url = f"http://127.0.0.1:{called.port}/greetings/Ada"
    caller = run.own(CALLER, **endpoint, APP_WORKERS=2, CALLED=url).wait_until_ready()
    trace, parent = remote(1)
    assert caller.ask("/call", **traceparent(1)).json == {"status": 200}
    for service in (caller, called):
        stop(service)
    ours, theirs = ("tornado-service", "SPAN_KIND_SERVER"), ("called", "SPAN_KIND_SERVER")
    call = ("tornado-service", "SPAN_KIND_CLIENT")
    spans = {(span["service"], span["kind"]): span for span in collector.lines()}
    assert Counter(spans.keys()) == Counter([ours, call, theirs])
    assert len(collector.lines()) == 3
    assert {span["trace"] for span in spans.values()} == {trace}
    assert spans[ours]["parent"] == parent
    assert spans[call]["parent"] == spans[ours]["span"]
    assert spans[theirs]["parent"] == spans[call]["span"]
    assert spans[call]["attributes"]["url.full"] == url
    assert [line["trace_id"] for line in access(called) + access(caller)] == [trace] * 2
