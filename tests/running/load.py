"""Keeps a service busy on connections that stay open, and counts what came of every request."""

import asyncio
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .harness import PATIENCE, request, until

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)
# Of the routes of `faults.py`: most answer at once, and some requests are always under way.
MIX = ["/who/0"] * 9 + ["/who/0.01"]
# Requests on one connection.
LIFE = 100

PID = re.compile(rb'"pid": ?(\d+)')


@dataclass(frozen=True)
class Failure:
    """A request that got no answer, or one that says that the service has failed."""

    kind: str
    """refused, reset, cut (closed before the whole answer had come), 5xx or unanswered."""
    pid: int
    """Who had answered on the connection before; 0 if nobody had."""
    path: str
    at: float


class Load:
    """Asks for `paths` in turn, on each connection `pause` seconds after the answer before.

    Runs in a thread with an event loop, from `with` until its end. A connection is replaced when an
    answer says `Connection: close`, and after `LIFE` requests. Answers whose body has a `pid` are
    counted by it. With `again` a request is repeated, as browsers do, if a connection that has
    answered before is closed without a word.
    """

    def __init__(
        self,
        port: int,
        paths: Sequence[str],
        connections: int = 10,
        pause: float = 0,
        *,
        again: bool = False,
    ) -> None:
        self.port = port
        self.answered = 0
        self.by_pid: Counter[int] = Counter()
        self.failures: list[Failure] = []
        self.seconds: list[float] = []
        """How long each answer has taken."""
        self.requests = [(path, request(path)) for path in paths]
        self.pause = pause
        self.again = again
        self.repeated = 0
        self.stopping = False
        self.connections: dict[int, Connection] = {}
        self._count = connections
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Await the answers to what has been asked, and end."""
        self.stopping = True
        self._thread.join()

    def wait_for(self, requests: int) -> None:
        """Wait until so many more have been answered."""
        wanted = self.answered + requests
        until(lambda: self.answered >= wanted, f"{requests} more answers")

    @property
    def in_flight(self) -> int:
        """Requests without an answer so far."""
        return sum(connection.waits for connection in self.connections.values())

    @property
    def pids(self) -> set[int]:
        """Who serves the connections that are open now, as far as they have said."""
        return {connection.pid for connection in self.connections.values()} - {0}

    @property
    def slowest(self) -> float:
        return max(self.seconds, default=0.0)

    def kinds(self) -> Counter[str]:
        """Count the failures."""
        return Counter(failure.kind for failure in self.failures)

    async def _run(self) -> None:
        await asyncio.gather(*(self._keep(number) for number in range(self._count)))

    async def _keep(self, number: int) -> None:
        """Keep a connection open."""
        loop = asyncio.get_running_loop()
        # Not all at the same place in the round.
        requests: Iterator[tuple[str, bytes]]
        requests = itertools.cycle([*self.requests[number:], *self.requests[:number]])
        while not self.stopping:
            connection = self.connections[number] = Connection(self, requests)
            try:
                await loop.create_connection(lambda c=connection: c, "127.0.0.1", self.port)
            except ConnectionRefusedError:
                connection.fail("refused")
                await asyncio.sleep(0.01)
            except ConnectionError:
                connection.fail("reset")
            else:
                await connection.until_closed()
                requests = itertools.chain(connection.unanswered, requests)


class Connection(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self, load: Load, requests: Iterator[tuple[str, bytes]]) -> None:
        self._load = load
        self._requests = requests
        self._path, self._message = next(requests)
        self._sent = time.monotonic()
        self._received = b""
        self._left = LIFE - 1
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self.unanswered: list[tuple[str, bytes]] = []
        """The request that is to be repeated, if there is one."""
        self.waits = True
        self.pid = 0

    async def until_closed(self) -> None:
        patience = PATIENCE
        while not self._closed.done():
            await asyncio.wait([self._closed], timeout=0.1)
            patience -= 0.1 if self._load.stopping else 0
            if patience < 0:
                self.fail("unanswered")
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._transport.write(self._message)

    def _send_next(self) -> None:
        if self._load.stopping:
            self._transport.close()
        if self._transport.is_closing():
            return
        self._left -= 1
        self._path, self._message = next(self._requests)
        self._sent = time.monotonic()
        self._received = b""
        self.waits = True
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = LENGTH.search(head)
        assert length, head
        if len(body) < int(length[1]):
            return
        self.waits = False
        self._count(head, body)
        if self._left == 0 or CLOSE.search(head + end):
            self._transport.close()
        elif self._load.pause:
            self._loop.call_later(self._load.pause, self._send_next)
        else:
            self._send_next()

    def _count(self, head: bytes, body: bytes) -> None:
        self._load.answered += 1
        self._load.seconds.append(time.monotonic() - self._sent)
        if pid := PID.search(body):
            self.pid = int(pid[1])
            self._load.by_pid[self.pid] += 1
        if head.split(b" ", 2)[1].startswith(b"5"):
            self.fail("5xx")

    def connection_lost(self, error: Exception | None) -> None:
        if self.waits and self._load.again and self._left < LIFE - 1 and not self._received:
            self.waits = False
            self._load.repeated += 1
            self.unanswered.append((self._path, self._message))
        elif self.waits:
            self.fail("reset" if error else "cut")
        self._closed.set_result(None)

    def fail(self, kind: str) -> None:
        self.waits = False
        self._load.failures.append(Failure(kind, self.pid, self._path, time.monotonic()))
