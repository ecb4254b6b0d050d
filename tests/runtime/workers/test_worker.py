import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from tornado.websocket import websocket_connect

from runtime.workers import worker
from runtime.http.server import TrackingHTTPServer
from runtime.workers.scoreboard import (
    ADMIN_SLOT,
    Scoreboard,
)
from runtime.settings import Settings
from runtime.status import State
from runtime.workers.worker import WorkerContext, Post

from .conftest import ServiceStarter
from .stand_in import make_app
from .support import Record, RawConnection, close, wait_until
from .test_server import STAND_IN, begin_slow_request, let_go
from .test_supervisor import all_ready, failures, ready, stop

Sockets = dict[str, socket.socket]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """What the workers listen on, and a socket that nobody listens on yet."""
    names = "admin", "own", "first", "second"
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    sockets["closed"] = socket.socket()
    sockets["closed"].bind(("127.0.0.1", 0))
    for one in sockets.values():
        one.setblocking(False)
    yield sockets
    for one in sockets.values():
        one.close()


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that are sent, as pid and number, to nobody."""
    sent: list[tuple[int, int]] = []
    everything = vars(os) | {"kill": lambda pid, signum: sent.append((pid, signum))}
    monkeypatch.setattr(worker, "os", SimpleNamespace(**everything))
    return sent


class Place:
    """The post of a worker; the others are rows that say what a test wants."""

    def __init__(self, slot: int, sockets: Sockets, names: dict[int, str]) -> None:
        self.scoreboard = Scoreboard(len(names))
        self.rows = {number: self.scoreboard.take(number) for number in names}
        self.server = TrackingHTTPServer(make_app(Settings()), Settings())
        job = WorkerContext(
            slot,
            {number: [sockets[name]] for number, name in names.items()},
            self.scoreboard,
            self.rows[slot],
            channel=sockets["admin"],  # which no post uses
            turn=nullcontext(),
            make=make_app,
        )
        self.post = Post(job, self.server)
        self.row = self.rows[slot]

    def set(self, state: State, *slots: int) -> None:
        for slot in slots:
            self.rows[slot].set_state(state)


OWN = {ADMIN_SLOT: "admin", 0: "own", 1: "first", 2: "second"}


@pytest.fixture
async def place(sockets: Sockets, signalled: list[tuple[int, int]]) -> AsyncIterator[Place]:
    """The post of worker 0 of three, which all have sockets of their own and are ready."""
    place = Place(0, sockets, OWN)
    place.set(State.READY, ADMIN_SLOT, 1, 2)
    place.post.set_state(State.READY)
    yield place
    place.post.set_state(State.DRAINING)
    await place.server.close_all_connections()


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


async def is_accepted(one: socket.socket) -> bool:
    """Tell whether somebody accepts a connection; if not, it is accepted here."""
    async with RawConnection(port_of(one)):
        for _ in range(5):
            await asyncio.sleep(0.002)
        try:
            one.accept()[0].close()
        except BlockingIOError:
            return True
        return False


def accepting(log_records: list[Record]) -> list[str]:
    return [
        one["message"] for one in log_records if one["message"].startswith("accepting for worker")
    ]


async def test_who_answers_needs_nobody_to_accept(
    place: Place, sockets: Sockets, log_records: list[Record]
) -> None:
    place.post.heartbeat(0, 0)
    for name in "admin", "own", "first", "second":
        assert not await is_accepted(sockets[name])
    assert accepting(log_records) == []


@pytest.mark.parametrize("state", [State.STARTING, State.DRAINING, None])
async def test_it_accepts_for_a_worker_that_does_not_answer(
    place: Place, sockets: Sockets, log_records: list[Record], state: State | None
) -> None:
    if state:
        place.set(state, 1)
    else:
        place.scoreboard.release(place.rows[1])
    place.post.heartbeat(0, 0)
    place.post.heartbeat(0, 0)
    assert accepting(log_records) == ["accepting for worker 1"]
    async with RawConnection(port_of(sockets["first"])) as wire:
        answer = await wire.get("/items/cup")
        assert answer.json() == {"name": "cup"}
        # Or a proxy would go on asking here, where the other one has long come back.
        assert answer.headers["Connection"] == "close"
    for name in "admin", "own", "second":
        assert not await is_accepted(sockets[name])


async def test_it_accepts_websockets_as_well(place: Place, sockets: Sockets) -> None:
    place.set(State.STARTING, 1)
    place.post.heartbeat(0, 0)
    websocket = await websocket_connect(f"ws://127.0.0.1:{port_of(sockets['first'])}/socket")
    await close(websocket)


async def test_it_accepts_until_the_worker_answers_again(
    place: Place, sockets: Sockets, log_records: list[Record]
) -> None:
    place.set(State.STARTING, 1, 2)
    place.post.heartbeat(0, 0)
    place.set(State.READY, 1)
    place.post.heartbeat(0, 0)
    assert not await is_accepted(sockets["first"])
    assert await is_accepted(sockets["second"])
    place.set(State.STARTING, 1)
    place.post.heartbeat(0, 0)
    assert await is_accepted(sockets["first"])
    assert accepting(log_records) == [f"accepting for worker {slot}" for slot in (1, 2, 1)]


async def test_it_accepts_for_nobody_before_it_is_ready_itself(
    place: Place, sockets: Sockets
) -> None:
    place.set(State.STARTING, 0, 1)
    place.post.heartbeat(0, 0)
    assert not await is_accepted(sockets["first"])
    place.set(State.READY, 0)
    place.post.heartbeat(0, 0)
    assert await is_accepted(sockets["first"])


async def test_it_does_not_accept_where_nobody_has_listened_yet(
    sockets: Sockets, signalled: list[tuple[int, int]], log_records: list[Record]
) -> None:
    place = Place(0, sockets, {0: "own", 1: "closed"})
    place.post.set_state(State.READY)
    place.post.heartbeat(0, 0)
    assert accepting(log_records) == []
    sockets["closed"].listen()
    place.post.heartbeat(0, 0)
    assert accepting(log_records) == ["accepting for worker 1"]
    assert await is_accepted(sockets["closed"])
    place.post.set_state(State.DRAINING)
    await place.server.close_all_connections()


async def test_it_accepts_on_a_shared_socket_if_none_of_those_answers_who_share_it(
    sockets: Sockets, signalled: list[tuple[int, int]]
) -> None:
    place = Place(0, sockets, {0: "own", 1: "first", 2: "first"})
    place.post.set_state(State.READY)
    place.set(State.READY, 2)
    place.post.heartbeat(0, 0)
    assert not await is_accepted(sockets["first"])
    place.set(State.DRAINING, 2)
    place.post.heartbeat(0, 0)
    assert await is_accepted(sockets["first"])
    place.post.set_state(State.DRAINING)
    await place.server.close_all_connections()


@pytest.mark.parametrize(
    ("slot", "names"), [(0, {0: "own", 1: "own"}), (ADMIN_SLOT, {ADMIN_SLOT: "admin", 0: "own"})]
)
async def test_some_have_no_neighbours(
    sockets: Sockets, signalled: list[tuple[int, int]], slot: int, names: dict[int, str]
) -> None:
    place = Place(slot, sockets, names)
    place.post.set_state(State.READY)
    place.post.heartbeat(0, 0)
    assert not await is_accepted(sockets["own"])
    place.post.set_state(State.DRAINING)
    assert sockets["own"].fileno() > 0


async def test_who_drains_leaves_the_sockets_of_the_others(place: Place, sockets: Sockets) -> None:
    place.set(State.STARTING, 1)
    place.post.heartbeat(0, 0)
    place.post.set_state(State.DRAINING)
    place.post.heartbeat(0, 0)
    assert sockets["first"].fileno() == sockets["second"].fileno() == -1
    assert sockets["own"].fileno() > 0


async def test_who_drains_hears_no_more_of_sockets_that_others_have_open(
    place: Place, sockets: Sockets, log_records: list[Record]
) -> None:
    place.set(State.STARTING, 1)
    place.post.heartbeat(0, 0)
    with sockets["first"].dup() as elsewhere:
        place.post.set_state(State.DRAINING)
        assert not await is_accepted(elsewhere)
    assert not [record for record in log_records if record["level"] == "error"]


async def test_the_scoreboard_is_told(place: Place, signalled: list[tuple[int, int]]) -> None:
    assert place.row.ready
    place.post.heartbeat(7, 0)
    assert place.row.in_flight == 7
    place.post.set_state(State.DRAINING)
    assert place.row.draining
    place.post.heartbeat(3, 0)
    assert place.row.in_flight == 3
    assert signalled == [(os.getppid(), signal.SIGCHLD)] * 2


async def test_who_has_no_supervisor_any_more_drains_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, signum: int) -> None:
        raise PermissionError

    monkeypatch.setattr(worker, "os", SimpleNamespace(**vars(os) | {"kill": refuse}))
    place.post.set_state(State.DRAINING)
    assert place.row.draining


def gone(pid: int) -> bool:
    """Tell whether a process has ended, even if nobody has waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """The pids of processes that go by themselves; a test that fails may leave some."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


async def test_without_a_supervisor_all_finish_what_they_have_and_go(
    start_service: ServiceStarter, orphans: list[int]
) -> None:
    process = start_service(STAND_IN, workers=2)
    port, _ = await process.ports()
    orphans += await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        process.signal(signal.SIGKILL)
        await wait_until(lambda: process.messages().count("the supervisor is gone") == 3)
        let_go(process)
        assert (await wire.answer()).status == 200
    await wait_until(lambda: all(map(gone, orphans)))
    assert process.messages().count("stopped") == 3


async def test_without_a_supervisor_nobody_stays_who_is_blocked_or_stands_still(
    start_service: ServiceStarter, orphans: list[int]
) -> None:
    process = start_service(STAND_IN, workers=2)
    port, _ = await process.ports()
    orphans += await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire, "/stuck")
        blocked = (await process.logged("event loop blocked"))["pid"]
        [other] = set(orphans[1:]) - {blocked}
        os.kill(other, signal.SIGSTOP)
        process.signal(signal.SIGKILL)
        assert await wire.rest() == b""
        await wait_until(lambda: all(map(gone, orphans)))


async def test_a_worker_that_is_told_to_go_answers_first_and_is_replaced(
    start_service: ServiceStarter,
) -> None:
    process = start_service(STAND_IN, workers=2)
    port, _ = await process.ports()
    pids = await all_ready(process)
    async with RawConnection(port) as wire:
        await begin_slow_request(process, wire)
        slot = (await process.logged("slow request arrived"))["worker"]
        os.kill(pids[1 + slot], signal.SIGTERM)
        await process.logged("draining, requests in flight: 1")
        let_go(process)
        assert (await wire.answer()).status == 200
    await wait_until(lambda: len(ready(process, f"worker {slot}")) == 2)
    await stop(process)
    assert failures(process) == []
