"""A worker that accepts connections for others. Their rows say what a test wants."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
from runtime.settings import Settings
from runtime.status import ADMIN_SLOT, State, Vitals
from runtime.testing import Record
from runtime.workers import worker
from runtime.workers.neighbours import NeighbourAcceptor
from runtime.workers.scoreboard import Scoreboard
from runtime.workers.worker import ScoreboardReporter
from tornado.websocket import websocket_connect

from tests.runtime.support.connections import RawConnection, close
from tests.runtime.support.sample_app import make_app
from tests.runtime.support.workers import ACCEPTING

Sockets = dict[str, socket.socket]
Signals = list[tuple[int, int]]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """The sockets of the workers, and one that does not listen yet."""
    names = "admin", "own", "first", "second"
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    sockets["closed"] = socket.socket()
    sockets["closed"].bind(("127.0.0.1", 0))
    for sock in sockets.values():
        sock.setblocking(False)
    yield sockets
    for sock in sockets.values():
        sock.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Signals:
    """The signals that the worker would send, as pid and number."""
    sent: Signals = []
    everything = vars(os) | {"kill": lambda pid, signum: sent.append((pid, signum))}
    monkeypatch.setattr(worker, "os", SimpleNamespace(**everything))
    return sent


class WorkerHarness:
    """A worker without a process. `names` are the names of the sockets by slot."""

    def __init__(
        self,
        slot: int,
        sockets: Sockets,
        names: dict[int, str],
        *,
        port_per_worker: bool = True,
    ) -> None:
        self.scoreboard = Scoreboard(len(names))
        self.rows = {number: self.scoreboard.claim(number) for number in names}
        self.row = self.rows[slot]
        self.server = make_app(Settings()).create_server()
        listeners = {number: [sockets[name]] for number, name in names.items()}
        neighbours = NeighbourAcceptor(
            slot, listeners, self.scoreboard, self.server, port_per_worker=port_per_worker
        )
        self.reporter = ScoreboardReporter(self.row, neighbours)

    def set(self, state: State, *slots: int) -> None:
        for slot in slots:
            self.rows[slot].set_state(state)

    def heartbeat(self) -> None:
        self.reporter.heartbeat(Vitals(0, 0))

    async def drain(self) -> None:
        self.reporter.state_changed(State.DRAINING)
        await self.server.close_all_connections()


OWN_SOCKETS = {ADMIN_SLOT: "admin", 0: "own", 1: "first", 2: "second"}


@pytest.fixture
async def harness(sockets: Sockets, sent: Signals) -> AsyncIterator[WorkerHarness]:
    """Worker 0 of three, each with a socket of its own, and all of them ready."""
    harness = WorkerHarness(0, sockets, OWN_SOCKETS)
    harness.set(State.READY, ADMIN_SLOT, 1, 2)
    harness.reporter.state_changed(State.READY)
    yield harness
    await harness.drain()


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


async def is_accepted(sock: socket.socket) -> bool:
    """Return whether a connection is accepted by the worker; if not, accept it here."""
    async with RawConnection(port_of(sock)):
        for _ in range(5):
            await asyncio.sleep(0.002)
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return True
        return False


def accepting(log_records: list[Record]) -> list[str]:
    messages = [record["message"] for record in log_records]
    return [message for message in messages if message.startswith(ACCEPTING)]


async def test_nothing_is_accepted_for_responsive_workers(
    harness: WorkerHarness, sockets: Sockets, log_records: list[Record]
) -> None:
    harness.heartbeat()
    for name in "admin", "own", "first", "second":
        assert not await is_accepted(sockets[name])
    assert accepting(log_records) == []


@pytest.mark.parametrize("state", [State.STARTING, State.DRAINING, None])
async def test_connections_are_accepted_for_an_unresponsive_worker(
    harness: WorkerHarness, sockets: Sockets, log_records: list[Record], state: State | None
) -> None:
    if state:
        harness.set(state, 1)
    else:
        harness.scoreboard.release(harness.rows[1])
    harness.scoreboard.count_restart(1)
    harness.heartbeat()
    harness.heartbeat()
    assert accepting(log_records) == [f"{ACCEPTING} 1"]
    async with RawConnection(port_of(sockets["first"])) as connection:
        response = await connection.get("/items/cup")
        assert response.json() == {"name": "cup"}
        # Otherwise a proxy would keep using this worker when the other one is back.
        assert response.headers["Connection"] == "close"
    for name in "admin", "own", "second":
        assert not await is_accepted(sockets[name])


async def test_websockets_are_accepted_as_well(harness: WorkerHarness, sockets: Sockets) -> None:
    harness.set(State.STARTING, 1)
    harness.heartbeat()
    websocket = await websocket_connect(f"ws://127.0.0.1:{port_of(sockets['first'])}/socket")
    await close(websocket)


async def test_accepting_stops_when_the_worker_is_responsive_again(
    harness: WorkerHarness, sockets: Sockets, log_records: list[Record]
) -> None:
    harness.set(State.STARTING, 1, 2)
    for slot in 1, 2:
        harness.scoreboard.count_restart(slot)
    harness.heartbeat()
    harness.set(State.READY, 1)
    assert not await is_accepted(sockets["first"])  # not even before the next heartbeat
    harness.heartbeat()
    assert not await is_accepted(sockets["first"])
    assert await is_accepted(sockets["second"])
    harness.set(State.STARTING, 1)
    harness.heartbeat()
    assert await is_accepted(sockets["first"])
    assert accepting(log_records) == [f"{ACCEPTING} {slot}" for slot in (1, 2, 1)]


async def test_nothing_is_accepted_before_the_worker_itself_is_ready(
    harness: WorkerHarness, sockets: Sockets
) -> None:
    harness.set(State.STARTING, 0, 1)
    harness.heartbeat()
    assert not await is_accepted(sockets["first"])
    harness.set(State.READY, 0)
    harness.heartbeat()
    assert await is_accepted(sockets["first"])


async def test_ready_worker_accepts_for_one_that_has_not_started_yet(
    sockets: Sockets, sent: Signals, log_records: list[Record]
) -> None:
    harness = WorkerHarness(0, sockets, {0: "own", 1: "closed"})
    harness.reporter.state_changed(State.STARTING)
    with pytest.raises(ConnectionRefusedError):
        await is_accepted(sockets["closed"])
    # Without a heartbeat: the admin port says at once that the service is ready.
    harness.reporter.state_changed(State.READY)
    assert await is_accepted(sockets["closed"])
    # That is how each start goes: nothing to tell.
    assert accepting(log_records) == []
    harness.set(State.READY, 1)
    harness.heartbeat()
    assert not await is_accepted(sockets["closed"])
    await harness.drain()


async def test_socket_that_cannot_listen_is_left_to_its_own_worker(
    sockets: Sockets, sent: Signals
) -> None:
    port = port_of(sockets["closed"])
    sockets["closed"].close()
    with socket.socket() as other, socket.socket() as late:
        for sock in other, late:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
        sockets["closed"] = late
        other.listen()
        harness = WorkerHarness(0, sockets, {0: "own", 1: "closed"})
        harness.reporter.state_changed(State.READY)
        harness.heartbeat()
        other.close()
        harness.heartbeat()
        late.setblocking(False)
        assert await is_accepted(late)
        await harness.drain()


@pytest.mark.parametrize(
    ("port_per_worker", "header"), [(True, "close"), (False, None)], ids=["own port", "one port"]
)
async def test_connection_is_kept_only_where_no_worker_is_the_wrong_one(
    sockets: Sockets, sent: Signals, port_per_worker: bool, header: str | None
) -> None:
    harness = WorkerHarness(0, sockets, OWN_SOCKETS, port_per_worker=port_per_worker)
    harness.set(State.STARTING, 1)
    harness.reporter.state_changed(State.READY)
    async with RawConnection(port_of(sockets["first"])) as connection:
        response = await connection.get("/items/cup")
        assert response.headers.get("Connection") == header
    await harness.drain()


async def test_socket_of_a_worker_that_is_one_too_many_is_accepted_from_while_others_need_no_help(
    sockets: Sockets, sent: Signals, log_records: list[Record]
) -> None:
    harness = WorkerHarness(0, sockets, {0: "own", 1: "first", 2: "second", 3: "closed"})
    harness.set(State.READY, 1, 2)
    harness.scoreboard.workers = 2
    harness.reporter.state_changed(State.READY)
    # Its worker has not yet begun to drain: so there is no gap.
    assert await is_accepted(sockets["second"])
    assert not await is_accepted(sockets["first"])
    # Nothing has ever listened on this one, and nobody shall begin to.
    with pytest.raises(ConnectionRefusedError):
        await is_accepted(sockets["closed"])
    # There are more workers again.
    harness.scoreboard.workers = 3
    assert not await is_accepted(sockets["second"])
    harness.heartbeat()
    assert not await is_accepted(sockets["second"])
    assert accepting(log_records) == []
    await harness.drain()


async def test_shared_socket_is_accepted_from_if_no_worker_that_shares_it_is_responsive(
    sockets: Sockets, sent: Signals
) -> None:
    harness = WorkerHarness(0, sockets, {0: "own", 1: "first", 2: "first"})
    harness.reporter.state_changed(State.READY)
    harness.set(State.READY, 2)
    harness.heartbeat()
    assert not await is_accepted(sockets["first"])
    harness.set(State.DRAINING, 2)
    harness.heartbeat()
    assert await is_accepted(sockets["first"])
    await harness.drain()


@pytest.mark.parametrize(
    ("slot", "names"), [(0, {0: "own", 1: "own"}), (ADMIN_SLOT, {ADMIN_SLOT: "admin", 0: "own"})]
)
async def test_own_socket_and_admin_process_have_no_neighbours(
    sockets: Sockets, sent: Signals, slot: int, names: dict[int, str]
) -> None:
    harness = WorkerHarness(slot, sockets, names)
    harness.reporter.state_changed(State.READY)
    harness.heartbeat()
    assert not await is_accepted(sockets["own"])
    await harness.drain()
    assert sockets["own"].fileno() > 0


async def test_draining_worker_closes_the_sockets_of_its_neighbours(
    harness: WorkerHarness, sockets: Sockets
) -> None:
    harness.set(State.STARTING, 1)
    harness.heartbeat()
    harness.reporter.state_changed(State.DRAINING)
    harness.heartbeat()
    assert sockets["first"].fileno() == sockets["second"].fileno() == -1
    assert sockets["own"].fileno() > 0


async def test_draining_worker_stops_accepting_for_its_neighbours(
    harness: WorkerHarness, sockets: Sockets, log_records: list[Record]
) -> None:
    harness.set(State.STARTING, 1)
    harness.heartbeat()
    with sockets["first"].dup() as elsewhere:
        harness.reporter.state_changed(State.DRAINING)
        assert not await is_accepted(elsewhere)
    assert not [record for record in log_records if record["level"] == "error"]


async def test_state_and_heartbeats_are_on_the_scoreboard(
    harness: WorkerHarness, sent: Signals
) -> None:
    assert harness.row.ready
    harness.reporter.heartbeat(Vitals(7, 0))
    assert harness.row.in_flight == 7
    harness.reporter.state_changed(State.DRAINING)
    assert harness.row.draining
    harness.reporter.heartbeat(Vitals(3, 0))
    assert harness.row.in_flight == 3
    assert sent == [(os.getppid(), signal.SIGCHLD)] * 2


async def test_worker_drains_without_a_supervisor(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, signum: int) -> None:
        raise PermissionError

    monkeypatch.setattr(worker, "os", SimpleNamespace(**vars(os) | {"kill": refuse}))
    harness.reporter.state_changed(State.DRAINING)
    assert harness.row.draining
