"""Several workers under a supervisor: reloaded, killed and stopped, under load.

Each test starts a copy of `faults.py`: lines at its end run in a worker only, where it is imported.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

from ..tools import needs
from .harness import (
    ADMIN,
    FAULTS,
    Service,
    Starter,
    children,
    get,
    parse,
    read_to_end,
    request,
    until,
)
from .load import MIX, Load
from .operate import in_flight, reload, send_requests

MARGIN = 5.0
"""Seconds that a busy machine may add; what is not in time would take a drain time-out longer."""

WAITING_APP = """
import pathlib
_make_app = make_app
def make_app(values):
    while pathlib.Path("hold").exists():
        time.sleep(0.02)
    return _make_app(values)
"""

FAILING_RESOURCE = """
import contextlib
from tornado_service.runtime import Resource
_make_app = make_app
@contextlib.asynccontextmanager
async def pool(settings):
    raise RuntimeError("the pool is empty")
    yield
def make_app(values):
    application = _make_app(values)
    application.declared_resources = [Resource("pool", pool)]
    return application
"""


# For libfaketime, with which `time.sleep` fails.
SPINNING_BLOCK = """
def get(self, seconds):
    logger.info("blocking")
    while True:
        pass
Block.get = get
"""


def script(run: Starter, *lines: str, first: str = "") -> Path:
    """Write the copy of `faults.py` that the service runs, with lines before and behind it."""
    path = run.folder / FAULTS.name
    path.write_text("\n".join([first, FAULTS.read_text(), *lines, ""]))
    return path


def start(run: Starter, *lines: str, first: str = "", **settings: object) -> Service:
    """Start the copy with two workers, both ready."""
    # Byte code is told from that of another version by the second in which it was written.
    defaults = {"APP_WORKERS": 2, "QUIET": 1, "PYTHONDONTWRITEBYTECODE": 1}
    service = run.faulty(script(run, *lines, first=first), **{**defaults, **settings})
    service.workers(2)
    return service


def errors(service: Service) -> list[dict[str, Any]]:
    return [r for r in service.records() if r["level"] in {"error", "critical"}]


def numbers(service: Service, pattern: str) -> list[int]:
    """Find the number in each message that matches as a whole."""
    found = [re.fullmatch(pattern, message) for message in service.messages()]
    return [int(match[1]) for match in found if match]


def alive(pid: int) -> bool:
    """Tell whether a process runs. One that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def post(service: Service, size: int) -> int:
    """Send a body of so many bytes. Returns the status."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.sendall(request("/greetings", "POST", b"x" * size, **headers))
        return parse(read_to_end(connection)).status


def health(service: Service) -> tuple[int, list[str], int]:
    """Ask the admin port: the status and the reasons of readiness, and the status of liveness."""
    ready = service.ask("/readyz", admin=True)
    return ready.status, ready.json.get("reasons", []), service.ask("/livez", admin=True).status


READY = (200, [], 200)


# Reloading


@pytest.mark.parametrize("requests", [2_000, pytest.param(9_000, marks=pytest.mark.exhaustive)])
def test_reloads_under_load_fail_no_request(run: Starter, requests: int) -> None:
    """Reload ten times, with so many requests before each."""
    service = start(run)
    with (
        Load(service.port, MIX) as load,
        # So that the worker that has these is never without a request in flight.
        Load(service.port, ["/who/0.5"], 2) as slow,
        Load(service.admin_port, ["/readyz"], 1, pause=0.01) as probe,
    ):
        for number in range(1, 11):
            load.wait_for(requests)
            before = service.processes()
            drained = len(numbers(service, r"draining, requests in flight: (\d+)"))
            script(run, f"VERSION = {-number}")
            answered, probed, in_flight = load.answered, probe.answered, load.in_flight
            reload(service)
            assert in_flight > 0
            assert load.answered > answered + 100
            assert probe.answered > probed + 10
            assert sum(numbers(service, r"draining, requests in flight: (\d+)")[drained:]) > 0
            assert before.keys() == service.processes().keys()
            assert not set(before.values()) & set(service.processes().values())
            assert service.ask("/who/0").json["version"] == -number
        load.wait_for(requests)
    assert load.kinds() == slow.kinds() == {}
    assert probe.kinds() == {}
    assert errors(service) == []
    service.signal()
    assert service.wait() == 0


def test_changed_code_of_the_service_counts_after_a_reload(run: Starter) -> None:
    run.source = shutil.copytree(run.source, run.folder / "src")
    package = run.source / "tornado_service"
    service = run.start(APP_WORKERS=2, PYTHONDONTWRITEBYTECODE=1)
    service.workers()
    replace(package / "greetings/handlers.py", 'name="world"', 'name="moon"')
    # The supervisor has imported this one.
    line = "    workers: WorkerCount"
    replace(package / "settings.py", line, f"    max_body_size: int = 100\n{line}")
    assert {service.ask("/").json["message"] for _ in range(10)} == {"Hello, world!"}
    assert {post(service, 900) for _ in range(10)} == {400}
    reload(service)
    assert {service.ask("/").json["message"] for _ in range(10)} == {"Hello, moon!"}
    assert {post(service, 900) for _ in range(10)} == {413}


BROKEN = {
    "this is no Python": "SyntaxError",
    "import not_there_at_all": "not_there_at_all",
    FAILING_RESOURCE: "cannot open pool: RuntimeError('the pool is empty')",
}
"""Lines that a reload cannot start with, and what the error must say."""


def test_failed_reloads_under_load_change_nothing(run: Starter) -> None:
    service = start(run)
    before = service.processes()
    with Load(service.port, MIX) as load:
        for count, (broken, reason) in enumerate(BROKEN.items(), start=1):
            answered = load.answered
            until(lambda: load.answered > answered + 500, "requests before the reload")  # noqa: B023
            script(run, broken)
            service.signal(signal.SIGHUP)
            until(lambda: len(errors(service)) == count, "reload failed")  # noqa: B023
            message = errors(service)[-1]["message"]
            assert message.startswith("reload failed")
            assert reason in message
        answered = load.answered
        until(lambda: load.answered > answered + 500, "requests after the reloads")
        assert service.processes() == before
        assert load.pids <= set(before.values())
        assert "reloaded" not in service.messages()
        script(run, "VERSION = 2")
        reload(service)
        assert not set(before.values()) & set(service.processes().values())
        assert service.ask("/who/0").json["version"] == 2
    assert load.kinds() == {}
    assert len(errors(service)) == len(BROKEN)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# Dying


@pytest.mark.seconds
def test_a_killed_worker_costs_its_own_requests_and_is_replaced(run: Starter) -> None:
    service = start(run)
    seconds = []
    hit = 0
    with Load(service.port, MIX) as load:
        until(lambda: load.answered > 500, "requests before the first kill")
        for number in range(20):
            before = service.processes()
            slot = number % 2
            victim = before[slot]
            # Not at a moment when no connection happens to be its own.
            until(lambda: victim in load.pids, "a connection of the worker")  # noqa: B023
            failed = len(load.failures)
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            until(lambda: service.processes()[slot] != victim, "a replacement")  # noqa: B023
            seconds.append(time.monotonic() - killed)
            failures = load.failures[failed:]
            assert len(failures) <= 10
            # Nobody had answered yet on a connection that was new.
            assert {failure.pid for failure in failures} <= {victim, 0}
            assert {failure.kind for failure in failures} <= {"reset", "cut"}
            hit += any(failure.pid == victim for failure in failures)
            assert service.processes() == {**before, slot: service.processes()[slot]}
        until(lambda: load.answered > 3_000, "requests")
    print("failed requests:", load.kinds())
    print("seconds to replace, all:", [round(one, 2) for one in seconds])
    assert hit > 10
    assert sorted(seconds)[10] <= 1
    pattern = (
        r"worker \d, pid \d+: killed by SIGKILL, requests in flight at its last heartbeat: (\d+)"
    )
    assert len(numbers(service, pattern)) == len(errors(service)) == 20


# Not blocked


def test_workers_on_a_busy_machine_are_not_replaced(run: Starter) -> None:
    service = start(run, APP_HANG_TIMEOUT=2)
    before = service.processes()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        with Load(service.port, MIX) as load:
            time.sleep(6)  # three times as long as a worker may hang
        assert load.answered > 100
        assert load.kinds() == {}
    finally:
        for process in busy:
            process.kill()
            process.wait()
    check_that_all_live(service, before)


def test_workers_are_not_replaced_when_the_clock_jumps(run: Starter) -> None:
    faketime = [needs("faketime"), "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
    clock = run.folder / "clock"

    def jump(seconds: int) -> None:
        clock.with_name("new").write_text(f"{seconds:+d}\n")
        clock.with_name("new").rename(clock)

    jump(0)
    service = start(
        run,
        SPINNING_BLOCK,
        APP_HANG_TIMEOUT=2,
        LD_PRELOAD=subprocess.check_output(faketime, text=True).strip(),
        FAKETIME_TIMESTAMP_FILE=clock,
        FAKETIME_NO_CACHE=1,
        # A real jump leaves this clock alone.
        FAKETIME_DONT_FAKE_MONOTONIC=1,
        QUIET="",
    )
    before = service.processes()
    with Load(service.admin_port, ["/readyz"], 1, pause=0.01) as probe:
        # Tornado takes the idle time of a new connection from this clock, in two looks: whoever
        # connects just when it jumps is taken for idle.
        until(lambda: probe.answered, "an answer")
        for seconds in (3600, -3600):
            jump(seconds)
            service.ask(f"/greetings/{seconds}")
            stamp = service.wait_for_message(f"GET /greetings/{seconds} 200")["timestamp"]
            due = time.strftime("%Y-%m-%dT%H:", time.gmtime(time.time() + seconds))
            assert stamp[:14] == due
            check_that_all_live(service, before)
    assert probe.kinds() == {}
    # And who is blocked is still found.
    with send_requests(service.port, "/block/60"):
        service.wait_for_message("blocking")
        until(lambda: service.processes() != before, "a replacement")


def check_that_all_live(service: Service, before: dict[int, int]) -> None:
    """Check that all answer who did before, and that a second later there is nobody new."""
    asked: set[int] = set()

    def all_have_answered() -> bool:
        asked.add(service.ask("/who/0").json["pid"])
        return asked >= {pid for slot, pid in before.items() if slot != ADMIN}

    until(all_have_answered, "answers of all workers")
    time.sleep(1)
    assert service.processes() == before
    assert all(map(alive, before.values()))
    assert service.ask("/readyz", admin=True).status == 200
    assert errors(service) == []


# Without a supervisor


@pytest.mark.seconds
def test_workers_exit_when_the_supervisor_is_killed(run: Starter) -> None:
    service = start(run)
    pids = service.processes().values()
    with send_requests(service.port, "/sleep/60", 20):
        until(lambda: in_flight(service) == 20, "requests in flight")
        service.signal(signal.SIGKILL)
        until(lambda: not any(map(alive, pids)), "the end of all processes", 2 + MARGIN)
        for port in (service.port, service.admin_port):
            until(lambda: can_be_bound(port), "a free port", 2 * MARGIN)  # noqa: B023


def can_be_bound(port: int) -> bool:
    try:
        # Without SO_REUSEPORT.
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


# Stopping


@pytest.mark.seconds
async def test_requests_in_flight_are_answered_when_all_processes_get_sigterm(run: Starter) -> None:
    service = start(run)
    workers = service.workers()
    tasks = [asyncio.create_task(get(service.port, "/who/2")) for _ in range(50)]
    await asyncio.to_thread(until, lambda: in_flight(service) == 50, "requests in flight")
    signalled = service.signal(group=True)
    answers = await asyncio.gather(*tasks)
    code = await asyncio.to_thread(service.wait)
    assert time.monotonic() - signalled < 2 + MARGIN
    assert [answer.status for answer in answers] == [200] * 50
    assert {answer.headers.get("connection") for answer in answers} == {"close"}
    assert {answer.json["pid"] for answer in answers} == set(workers)
    assert code == 0
    draining = [r for r in service.records() if r["message"].startswith("draining")]
    # Without the admin process, which may still answer the last question of this test.
    counts = [int(r["message"].split()[-1]) for r in draining if r["worker"] is not None]
    assert sum(counts) == 50
    assert service.messages()[-1] == "stopped"
    assert not any("aborted" in message for message in service.messages())
    assert errors(service) == []
    assert not any(map(alive, workers))


@pytest.mark.seconds
def test_second_ctrl_c_stops_blocked_workers_immediately(run: Starter) -> None:
    service = start(run)
    pids = service.processes().values()
    with send_requests(service.port, "/block/60", 20):
        until(lambda: service.messages().count("blocking") == 2, "two blocked workers")
        service.signal(signal.SIGINT, group=True)
        service.wait_for_message("SIGINT: stopping")
        assert service.process.poll() is None
        signalled = service.signal(signal.SIGINT, group=True)
        assert service.wait() == 1
    assert time.monotonic() - signalled < MARGIN
    assert not any(map(alive, pids))


async def test_websockets_of_all_workers_are_closed_with_going_away(run: Starter) -> None:
    service = start(run, QUIET="")
    workers = service.workers()
    url = f"ws://127.0.0.1:{service.port}/echo"
    sockets = [await websocket_connect(url) for _ in range(40)]
    signalled = service.signal()
    assert [await one.read_message() for one in sockets] == [None] * 40
    assert [one.close_code for one in sockets] == [1001] * 40
    assert await asyncio.to_thread(service.wait) == 0
    assert time.monotonic() - signalled < 2 + MARGIN
    closed = [r["pid"] for r in service.records() if r.get("websocket.close_code") == 1001]
    assert len(closed) == 40
    assert set(closed) == set(workers)


def test_stopping_under_load_cuts_nothing_that_has_been_accepted(run: Starter) -> None:
    service = start(run)
    with Load(service.port, MIX) as load:
        until(lambda: load.answered > 1_000, "requests before")
        assert load.in_flight > 0
        service.signal()
        assert service.wait() == 0
    cut = [failure for failure in load.failures if failure.kind != "refused"]
    print("reset before they were accepted:", len(cut))
    # The system resets what comes between the last look at the queue and its end.
    assert {(failure.kind, failure.pid) for failure in cut} <= {("reset", 0)}
    assert errors(service) == []


# Health


def test_health_while_workers_are_dead(run: Starter) -> None:
    service = start(run, WAITING_APP)
    first, second = service.workers()
    assert health(service) == READY
    (hold := run.folder / "hold").touch()
    os.kill(first, signal.SIGKILL)
    service.wait_for_message(f"pid {first}: killed by SIGKILL")
    for _ in range(20):
        assert health(service) == READY
    assert service.ask("/who/0").json["pid"] == second
    os.kill(second, signal.SIGKILL)
    until(lambda: health(service) == (503, ["starting"], 200), "not ready")
    service.wait_for_message(f"pid {second}: killed by SIGKILL")
    assert health(service) == (503, ["starting"], 200)
    hold.unlink()
    until(lambda: health(service) == READY, "ready")
    until(lambda: not {first, second} & set(service.workers()), "replacements")


def test_service_is_not_ready_while_all_workers_are_blocked(run: Starter) -> None:
    service = start(run)
    with send_requests(service.port, "/block/60", 20):
        until(lambda: health(service) == (503, ["no worker responds"], 200), "not ready")
        assert errors(service) == []


@pytest.mark.seconds
def test_health_while_all_workers_are_saturated(run: Starter) -> None:
    service = start(run)
    seconds = []
    with Load(service.port, ["/who/0"], connections=50) as load:
        until(lambda: load.answered > 500, "load")
        while load.answered < 10_000:
            asked = time.monotonic()
            assert health(service) == READY
            seconds.append(time.monotonic() - asked)
    assert sorted(seconds)[len(seconds) * 9 // 10] < 1
    assert load.by_pid.keys() == set(service.workers())
    assert load.kinds() == {}


@pytest.mark.seconds
@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_readiness_follows_a_resource_and_requests_do_not(run: Starter, workers: int) -> None:
    service = run.faulty(APP_WORKERS=workers, QUIET=1)
    down = service.log_path.parent / "database-down"
    due = 0.5 + 0.5  # the interval and the time-out of its check

    def is_ready(ready: bool) -> bool:
        return service.ask("/readyz", admin=True).status == (200 if ready else 503)

    with Load(service.port, MIX) as load:
        for fault in ("it raises", "it hangs"):
            load.wait_for(200)
            slowest = load.slowest
            down.write_text(fault)
            until(lambda: is_ready(False), "503", due + MARGIN)
            load.wait_for(200)
            down.unlink()
            until(lambda: is_ready(True), "200", due + MARGIN)
            load.wait_for(200)
            assert load.slowest < slowest + MARGIN
    assert load.kinds() == {}
    assert len(errors(service)) == workers


# Memory and descriptors


def test_a_worker_takes_much_less_memory_than_a_process_that_serves_alone(run: Starter) -> None:
    alone = run.start()
    for _ in range(500):
        assert alone.ask("/greetings/Ada").status == 200
    memory = pss(alone.process.pid)
    alone.signal()
    alone.wait()
    service = run.start(APP_WORKERS=2)
    workers = service.workers()

    def served() -> list[int]:
        pids = [r["pid"] for r in service.records() if r["logger"] == "access"]
        return [pids.count(pid) for pid in workers]

    while min(served()) < 500:
        for _ in range(200):
            assert service.ask("/greetings/Ada").status == 200
    ratios = [pss(pid) / memory for pid in workers]
    print("PSS against a process alone:", ratios)
    assert max(ratios) <= 0.6


def pss(pid: int) -> int:
    """Memory in bytes, where a page that several processes share counts in parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[0]) * 1024


def kill_workers(service: Service, count: int) -> None:
    """Kill so many workers, each as soon as it is ready, and wait for the last to be replaced."""
    killed: set[int] = set()

    def enough() -> bool:
        for slot, pid in service.processes().items():
            if slot != ADMIN and pid not in killed and len(killed) < count:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        return len(killed) == count and not killed & set(service.processes().values())

    until(enough, f"{count} replacements", patience=5 * count)


def reload_so_often(service: Service, count: int) -> None:
    for _ in range(count):
        reload(service)


@pytest.mark.parametrize(
    ("do", "warm_up", "count", "growth"),
    [(kill_workers, 50, 200, 5_000_000), (reload_so_often, 5, 25, 2_500_000)],
    ids=["replacements", "reloads"],
)
def test_the_supervisor_does_not_grow(
    run: Starter,
    do: Callable[[Service, int], None],
    warm_up: int,
    count: int,
    growth: int,
) -> None:
    # Without the delay for what dies again and again, and without waiting for idle connections.
    impatient = "from tornado_service.runtime.http1 import server\nserver.LINGER = 0\n"
    undaunted = (
        "from tornado_service.runtime.workers import restarts\nrestarts.CRASH_LOOP_COUNT = 10**6\n"
    )
    service = start(run, impatient, first=undaunted)
    do(service, warm_up)
    check_children(service)
    descriptors, memory = count_descriptors(service), service.rss()
    do(service, count)
    check_children(service)
    print("growth in bytes:", service.rss() - memory)
    assert count_descriptors(service) == descriptors
    assert service.rss() - memory < growth
    assert service.ask("/who/0").status == 200


def count_descriptors(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def check_children(service: Service) -> None:
    """Check that the supervisor has the children that serve, and neither others nor zombies."""

    def right() -> bool:
        found = children(service.process.pid)
        return set(found) == set(service.processes().values()) and all(map(alive, found))

    until(right, "the right children", patience=5)
