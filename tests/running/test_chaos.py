"""Everything that goes wrong, at once and in random order, leaves nothing over."""

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from ..ports import free_ports
from .harness import (
    PATIENCE,
    Answer,
    Service,
    Starter,
    is_open,
    parse,
    processes_in,
    request,
    until,
)
from .hostile import frame
from .operate import in_flight, reload

CHAOS = Path(__file__).with_name("chaos.py")

REQUESTS = 20_000
CLIENTS = 24
WORKERS = 3
EVENTS = ["kill"] * 6 + ["reload"] * 6 + ["reload and kill"] * 2 + ["stop"] * 3
QUIET_END = 3_000
"""Requests after the last event: whatever they leave over is with the last workers."""

CALLBACKS = [
    "prepare",
    "check_trusted_origin",
    "select_subprotocol",
    "open",
    "on_message",
    "on_ping",
    "on_close",
    "on_connection_close",
    "on_finish",
    "none",
]
CLOSE, PING, TEXT = 8, 9, 1

LAST_LINES = 1.0
"""Seconds before a kill whose lines may be lost: they are collected for a tenth of one, and a busy
machine adds to it."""
SLACK = 0.5
"""Seconds around a kill or a stop in which clients notice it."""


@dataclass
class Sent:
    """What a client knows about a request."""

    id: str
    kind: str
    began: float
    status: int = 0
    """0: there was no whole response."""
    pid: int = 0
    left: bool = False
    """Whether the client has given up."""
    ended: float = 0.0


@dataclass
class Chaos:
    """Clients of a service that lives through kills, reloads and stops."""

    run: Starter
    seed: int
    sent: list[Sent] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    killed: dict[int, float] = field(default_factory=dict)
    """When each worker was killed, by pid."""
    refused: list[float] = field(default_factory=list)
    """When clients could not connect."""
    interrupted: list[tuple[float, float]] = field(default_factory=list)
    """From when to when a worker or the whole service was gone."""

    def __post_init__(self) -> None:
        self.port, self.admin_port = free_ports(2)
        self.start()

    @property
    def service(self) -> Service:
        return self.services[-1]

    def start(self) -> None:
        ports = {"APP_PORT": self.port, "APP_ADMIN_PORT": self.admin_port}
        service = self.run.own(CHAOS.read_text(), APP_WORKERS=WORKERS, **ports)
        service.wait_until_ready()
        service.workers(WORKERS)
        self.services.append(service)

    # Operators

    async def happen(self) -> None:
        events = random.Random(self.seed)
        order = events.sample(EVENTS, len(EVENTS))
        for number, event in enumerate(order, start=1):
            due = number * (REQUESTS - QUIET_END) // len(order)
            slot = events.randrange(WORKERS)
            await asyncio.to_thread(self.interrupt, event, slot, due)

    def interrupt(self, event: str, slot: int, due: int) -> None:
        until(lambda: len(self.sent) >= due, f"request {due}")
        began = time.monotonic()
        before = self.service.processes()
        if event == "reload":
            # No request may notice it.
            reload(self.service)
            return
        if event == "reload and kill":
            self.service.signal(signal.SIGHUP)
        if event == "stop":
            self.service.signal()
            assert self.service.wait() == 0
            self.start()
        else:
            self.killed[before[slot]] = time.monotonic()
            os.kill(before[slot], signal.SIGKILL)
            until(lambda: self.service.processes()[slot] != before[slot], "a successor")
        if event == "reload and kill":
            until(lambda: not set(before.values()) & set(self.service.processes().values()), event)
        self.interrupted.append((began - SLACK, time.monotonic() + SLACK))

    # Clients

    async def clients(self) -> None:
        await asyncio.gather(*(self.client(number) for number in range(CLIENTS)))

    async def client(self, number: int) -> None:
        own = random.Random(f"{self.seed}-{number}")
        acts: list[tuple[Callable[..., Coroutine[object, object, None]], int]]
        acts = [(self.ask, 90), (self.give_up, 6), (self.open_websocket, 4)]
        functions, weights = zip(*acts, strict=True)
        while len(self.sent) < REQUESTS:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionError:
                self.refused.append(time.monotonic())
                await asyncio.sleep(0.02)
                continue
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                [act] = own.choices(functions, weights)
                async with asyncio.timeout(PATIENCE):
                    await act(own, reader, writer)
            writer.close()

    def new(self, kind: str) -> Sent:
        sent = Sent(f"{kind}-{len(self.sent)}", kind, time.monotonic())
        self.sent.append(sent)
        return sent

    async def ask(
        self, own: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send some requests on a connection, as long as it stays open."""
        for _ in range(own.randrange(1, 30)):
            sent = self.new(own.choice(["post", "who"]))
            writer.write(message(sent, own))
            try:
                answer = await read_answer(reader)
            finally:
                sent.ended = time.monotonic()
            sent.status, sent.pid = answer.status, answer.json.get("pid", 0)
            assert sent.pid, answer
            if answer.headers.get("connection") == "close":
                return

    async def give_up(
        self, own: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Leave in the middle of a request, while it is handled, or while the response comes."""
        sent = self.new(own.choice(["post", "post", "large"]))
        sent.left = True
        whole = message(sent, own)
        if sent.kind == "large":
            writer.write(whole)
            await reader.read(own.randrange(1, 300_000))
        else:
            writer.write(whole[: own.randrange(1, len(whole) + 1)])
            await asyncio.sleep(own.choice([0, 0.001, 0.02]))
        if own.random() < 0.5:
            writer.transport.abort()

    async def open_websocket(
        self, own: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Open a WebSocket that fails in one of its callbacks, use it, and close it or leave."""
        sent = self.new("websocket")
        sent.left = True
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "http://elsewhere"}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "chat"}
        headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "X-Request-ID": sent.id}
        writer.write(request(f"/broken/{own.choice(CALLBACKS)}", **headers))
        answer = parse(await reader.readuntil(b"\r\n\r\n"))
        sent.ended = time.monotonic()
        sent.status, sent.pid = answer.status, int(answer.headers.get("pid", 0))
        if answer.status != 101:
            return
        writer.write(frame(TEXT, b"hello") + frame(PING))
        await asyncio.sleep(own.choice([0, 0.001, 0.02, 0.3]))
        if own.random() < 0.5:
            writer.write(frame(CLOSE))
            await reader.read()
        elif own.random() < 0.5:
            writer.transport.abort()

    # What is left

    def was_interrupted(self, start: float, end: float) -> bool:
        """Tell whether something was gone between two moments."""
        return any(first <= end and start <= last for first, last in self.interrupted)

    def unexpected_failures(self) -> list[Sent]:
        """Requests without a response, though nothing was gone and nobody had given up."""
        return [
            sent
            for sent in self.sent
            if not (sent.left or sent.status or self.was_interrupted(sent.began, sent.ended))
        ]

    def lines(self) -> dict[str, list[int]]:
        """The statuses of the access lines of each request. A WebSocket has another at its end."""
        found: dict[str, list[int]] = {}
        for service in self.services:
            for record in service.records():
                if record["logger"] == "access" and "websocket.close_code" not in record:
                    status = record["http.response.status_code"]
                    found.setdefault(record["request_id"], []).append(status)
        return found

    def may_lack_line(self, sent: Sent) -> bool:
        """Tell whether the worker was killed before it had written its last lines."""
        killed = self.killed.get(sent.pid)
        return killed is not None and sent.ended > killed - LAST_LINES


def message(sent: Sent, own: random.Random) -> bytes:
    if sent.kind == "post":
        seconds = own.choice(["0", "0", "0", "0.01", "0.05"])
        body = b"x" * own.choice([1, 10, 5_000])
        return request(f"/ran/{seconds}", "POST", body, X_Request_ID=sent.id)
    return request(f"/{sent.kind}", X_Request_ID=sent.id)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    answer = parse(await reader.readuntil(b"\r\n\r\n"))
    answer.body = await reader.readexactly(int(answer.headers["content-length"]))
    return answer


def open_sockets(pid: int) -> int:
    """Count the sockets that a process has open."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(link).startswith("socket:")
    return count


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


async def test_chaos_leaves_nothing_over(run: Starter) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
    print(f"Again: CHAOS_SEED={seed} .venv/bin/python -m pytest tests/running/test_chaos.py")
    shared_before = shared_memory()
    chaos = await asyncio.to_thread(Chaos, run, seed)
    idle = {open_sockets(pid) for pid in chaos.service.workers(WORKERS)}
    await asyncio.gather(chaos.clients(), chaos.happen())
    service = chaos.service

    # Nothing is left in the workers.
    await asyncio.to_thread(until, lambda: in_flight(service) == 0, "no request in flight")
    workers = service.workers(WORKERS)
    await asyncio.to_thread(
        until, lambda: {open_sockets(pid) for pid in workers} <= idle, "no socket left over"
    )
    service.signal()
    assert await asyncio.to_thread(service.wait) == 0
    messages = [message for service in chaos.services for message in service.messages()]
    assert [m for m in messages if re.search("aborted|dropped|cut", m)] == []

    # Nothing is left behind.
    assert not processes_in(run.folder)
    assert not is_open(chaos.port)
    assert not is_open(chaos.admin_port)
    assert shared_memory() <= shared_before

    # The books of clients, handlers and log agree.
    assert chaos.unexpected_failures() == []
    assert [at for at in chaos.refused if not chaos.was_interrupted(at, at)] == []
    lines = chaos.lines()
    assert {name: found for name, found in lines.items() if len(found) > 1} == {}
    wrong = [s for s in chaos.sent if s.status and lines.get(s.id) != [s.status]]
    assert [s for s in wrong if s.id in lines or not chaos.may_lack_line(s)] == []
    ran = Counter((run.folder / "ran").read_text().split())
    assert set(ran.values()) == {1}
    answered = {s.id for s in chaos.sent if s.kind == "post" and s.status == 200}
    assert answered <= ran.keys()
    assert len(answered) > REQUESTS / 4
