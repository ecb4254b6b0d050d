"""Nginx under load: balance, workers that die, drain and reload, slow clients, its own reload."""

import asyncio
import contextlib
import http.client
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime.status import HEARTBEAT_INTERVAL
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .harness import PATIENCE, Starter, until
from .hostile import get
from .load import MIX, Load
from .nginx import Front, front
from .operate import reload, renew


class Posts:
    """Posts on a few connections, each time something new, and notes how it ended."""

    def __init__(self, made: Front, connections: int = 4) -> None:
        self.made = made
        self.statuses: dict[str, int] = {}
        self._stopping = False
        numbers = range(connections)
        self._threads = [threading.Thread(target=self._post, args=(n,)) for n in numbers]

    def __enter__(self) -> "Posts":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join()

    def _post(self, thread: int) -> None:
        connection = http.client.HTTPConnection("localhost", self.made.port, timeout=PATIENCE)
        number = 0
        while not self._stopping:
            name, number = f"{thread}-{number}", number + 1
            try:
                connection.request("POST", f"/once/{name}", b"x")
                response = connection.getresponse()
                response.read()
                self.statuses[name] = response.status
            except (OSError, http.client.HTTPException):
                self.statuses[name] = 0
                connection.close()
            time.sleep(0.005)
        connection.close()

    def executed(self) -> Counter[str]:
        """Count how often the service has run each."""
        return Counter((self.made.service.log_path.parent / "executed").read_text().splitlines())

    def check(self, *allowed: int) -> Counter[int]:
        """No post ran twice, and each that was said to have run did. Returns the statuses."""
        executed = self.executed()
        assert max(executed.values()) == 1
        assert {name for name, status in self.statuses.items() if status == 200} <= set(executed)
        counts = Counter(self.statuses.values())
        assert counts.keys() <= set(allowed)
        return counts


def retried(made: Front) -> list[str]:
    """List what Nginx has asked a second worker for, by the first letters of its path."""
    again = [r for r in made.records() if "," in r["upstream.address"]]
    return [record["url.path"][:5] for record in again]


# Balance


@pytest.mark.parametrize(
    ("answers", "workers", "requests"),
    [
        pytest.param({"workers": "2"}, 2, 20_000, marks=pytest.mark.exhaustive),
        ({"workers": "4"}, 4, 8_000),
        ({"workers": "1"}, 1, 1_000),
        ({"processes": "single"}, 1, 1_000),
    ],
    ids=["2", "4", "1", "single"],
)
def test_every_worker_gets_its_share(
    run: Starter, bake: Callable[..., Path], answers: Any, workers: int, requests: int
) -> None:
    made = front(run, bake(**answers), QUIET=1)
    # Not all that the machine can do: then the worker that gets less of it would be asked less.
    with Load(made.port, MIX, 20, pause=0.01) as load:
        until(lambda: load.answered >= requests, f"{requests} requests")
    shares = load.by_pid
    print("requests by worker:", sorted(shares.values()))
    assert load.kinds() == {}
    assert sum(shares.values()) >= requests
    assert len(shares) == workers
    assert min(shares.values()) >= 0.9 * max(shares.values())


# Workers


def wait_between_kills(load: Load) -> None:
    """Wait for requests, and until no worker accepts for the one that was killed last.

    It stops at its next heartbeat. What it has accepted would fall with it.
    """
    answered, began = load.answered, time.monotonic()
    until(
        lambda: (
            load.answered > answered + 300 and time.monotonic() > began + 4 * HEARTBEAT_INTERVAL
        ),
        "requests before the kill",
    )


def test_killed_workers_cost_no_get_and_repeat_no_post(run: Starter, two: Path) -> None:
    made = front(run, two, QUIET=1)
    with Load(made.port, MIX) as load, Posts(made) as posts:
        for number in range(10):
            wait_between_kills(load)
            renew(made.service, number % 2)
        # No server is out of Nginx's rotation for that.
        everybody = set(made.service.workers())
        until(lambda: everybody <= load.by_pid.keys(), "requests to the successor", 20)
        until(lambda: load.answered >= 5_000, "requests")
    counts = posts.check(200, 502)
    again = Counter(retried(made))
    print("GET:", load.answered, "asked again:", again, "POST:", counts)
    assert load.kinds() == {}
    # Some were hit: GETs that another worker answered, and POSTs that nobody may repeat.
    assert again["/who/"] > 0
    assert counts[502] > 0
    assert counts[200] > 100


def test_drained_workers_cost_no_request(run: Starter, two: Path) -> None:
    made = front(run, two, QUIET=1)
    with Load(made.port, MIX) as load, Posts(made) as posts:
        for number in range(6):
            answered = load.answered
            until(lambda: load.answered > answered + 300, "requests before the stop")  # noqa: B023
            renew(made.service, number % 2, signum=signal.SIGTERM)
        until(lambda: load.answered >= 4_000, "requests")
    counts = posts.check(200)
    print("GET:", load.answered, "POST:", counts)
    assert load.kinds() == {}
    assert posts.executed().keys() == posts.statuses.keys()


@pytest.mark.parametrize("requests", [2_000, pytest.param(9_000, marks=pytest.mark.exhaustive)])
def test_reloads_of_the_service_fail_no_request(run: Starter, two: Path, requests: int) -> None:
    """Reload five times, with so many requests before each."""
    made = front(run, two, QUIET=1)
    service = made.service
    with Load(made.port, MIX, 20) as load, Posts(made, 1) as posts:
        for _ in range(5):
            load.wait_for(requests)
            before = service.processes()
            reload(service)
            assert not set(before.values()) & set(service.processes().values())
        load.wait_for(requests)
    print("GET:", load.answered, "POST:", posts.check(200), "asked again:", Counter(retried(made)))
    assert load.kinds() == {}
    assert len(load.by_pid) == 12


# Nginx


async def test_a_reload_of_nginx_keeps_websockets_and_fails_no_request(
    run: Starter, two: Path
) -> None:
    made = front(run, two, QUIET=1)
    url = f"ws://localhost:{made.port}/echo"
    echoes = [await websocket_connect(url) for _ in range(20)]
    # Nginx closes what is idle at that moment, perhaps just when something comes. Clients know.
    with Load(made.port, MIX, again=True) as load:
        for number in range(1, 4):
            answered = load.answered
            await asyncio.to_thread(until, lambda: load.answered > answered + 1_000, "requests")  # noqa: B023
            old = await asyncio.to_thread(made.reload)
            assert await asyncio.gather(*(say(echo, f"{number}") for echo in echoes)) == [True] * 20
        await asyncio.to_thread(until, lambda: load.answered > 5_000, "requests after it")
    print("requests:", load.answered, "repeated by the client:", load.repeated)
    assert load.kinds() == {}
    assert load.repeated <= 3 * 10
    for echo in echoes:
        echo.close()
    # With the last of its WebSockets each old process goes.
    await asyncio.to_thread(until, lambda: not any(Path(f"/proc/{p}").exists() for p in old), "end")


async def say(echo: WebSocketClientConnection, text: str) -> bool:
    """Tell whether an echo still comes."""
    await echo.write_message(text)
    return await echo.read_message() == text


# Slow clients

TIMEOUT = 3.0
"""Seconds instead of the ten of the configuration."""

GRACE = 4.0

SLOW = {
    "headers that trickle": (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ", b"a"),
    "headers that stop": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b""),
    "nothing": (b"", b""),
    "a body that stops": (
        get("Content-Length: 1000", method="POST", target="/size", end=b"x"),
        b"",
    ),
    "a body that trickles": (get("Content-Length: 1000", method="POST", target="/size"), b"x"),
}
UNENDING = "a body that trickles"
"""To Nginx a client that sends a byte now and then is alive, so this one is never cut."""


async def dawdle(made: Front, source: str, at_once: bytes, slowly: bytes) -> float:
    """Be slow on a connection for a while. Returns after how many seconds it was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, local_addr=(source, 0))
    started = time.monotonic()
    writer.write(at_once)
    end = asyncio.create_task(reader.read())
    while not end.done() and time.monotonic() - started < TIMEOUT + 2 * GRACE:
        with contextlib.suppress(ConnectionError):
            writer.write(slowly)
        await asyncio.wait([end], timeout=0.5)
    seconds = time.monotonic() - started
    writer.close()
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        end.cancel()
        await end
    return seconds


@pytest.mark.seconds
async def test_slow_clients_harm_nobody_and_are_cut(run: Starter, two: Path) -> None:
    shorter = {f"client_{part}_timeout 10s;": f"client_{part}_timeout {TIMEOUT:g}s;"
               for part in ("header", "body")}  # fmt: skip
    made = front(run, two, shorter)

    async def dawdle_hundredfold(number: int, kind: str) -> list[float]:
        sources = [f"127.0.{10 + number}.{1 + n % 25}" for n in range(100)]
        return await asyncio.gather(*(dawdle(made, source, *SLOW[kind]) for source in sources))

    # Slow enough to stay below the limits, which are as they are.
    with Load(made.port, ["/who/0"], 4, pause=0.05) as load:
        seconds = await asyncio.gather(
            *(dawdle_hundredfold(number, kind) for number, kind in enumerate(SLOW))
        )
        during = len(load.seconds)
    cut = {kind: max(found) for kind, found in zip(SLOW, seconds, strict=True)}
    p95 = sorted(load.seconds)[int(len(load.seconds) * 0.95)]
    print("good requests:", load.answered, "p95:", p95, "slowest:", load.slowest)
    print("cut after at most:", cut, "at least:", min(map(min, seconds)))
    assert during > 200
    assert load.kinds() == {}
    assert p95 <= 0.5
    assert min(map(min, seconds)) > TIMEOUT - 1
    assert max(longest for kind, longest in cut.items() if kind != UNENDING) < TIMEOUT + GRACE
    # What has not arrived as a whole has not come to the service.
    assert {r["http.route"] for r in made.service.records() if r["logger"] == "access"} == {
        "/who/{seconds}"
    }
