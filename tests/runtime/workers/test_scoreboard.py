import multiprocessing
import os

import pytest

from runtime import scoreboard as module
from runtime.workers.scoreboard import (
    ADMIN_SLOT,
    HEARTBEAT_TIMEOUT,
    Row,
    Scoreboard,
)
from runtime.status import HEARTBEAT_INTERVAL, State, WorkerStatus

from .test_systemd import Clock

fork = multiprocessing.get_context("fork")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, module)


def ready(scoreboard: Scoreboard, slot: int) -> Row:
    row = scoreboard.claim(slot)
    row.set_state(State.READY)
    return row


def test_at_first_nobody_is_there() -> None:
    scoreboard = Scoreboard(2)
    assert list(scoreboard) == []
    assert not scoreboard.stopping
    assert scoreboard.not_ready_reasons() == ["starting"]


def test_a_row_that_is_taken_is_starting(clock: Clock) -> None:
    scoreboard = Scoreboard(2)
    row = scoreboard.claim(3)
    assert (row.in_use, row.slot, row.ready, row.responsive) == (True, 3, False, False)
    assert (row.in_flight, row.last_heartbeat, row.pid) == (0, clock.now, 0)
    assert [one.slot for one in scoreboard] == [3]


def test_a_beat_says_how_many_requests_are_in_flight(clock: Clock) -> None:
    row = Scoreboard(1).claim(0)
    clock.now += 5
    row.heartbeat(17, 0)
    assert (row.in_flight, row.last_heartbeat) == (17, clock.now)


@pytest.mark.parametrize(
    ("state", "ready"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, False)]
)
def test_in_one_state_only_a_row_is_ready(state: State, ready: bool) -> None:
    row = Scoreboard(1).claim(0)
    row.set_state(state)
    assert row.in_use
    assert row.ready is ready
    assert row.responsive is ready
    assert row.draining is (state is State.DRAINING)


def test_who_has_not_beaten_for_long_does_not_answer(clock: Clock) -> None:
    scoreboard = Scoreboard(1)
    row = ready(scoreboard, 0)
    clock.now += HEARTBEAT_TIMEOUT - 0.01
    assert row.responsive
    clock.now += 0.02
    assert not row.responsive
    assert row.ready
    row.heartbeat(0, 0)
    assert row.responsive


def test_rows_do_not_touch_each_other(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    rows = [scoreboard.claim(slot) for slot in (ADMIN_SLOT, 0, 1)]
    clock.now += 1
    rows[1].set_state(State.READY)
    rows[1].heartbeat(5, 0)
    rows[1].set_pid()
    assert sorted(row.slot for row in scoreboard) == [ADMIN_SLOT, 0, 1]
    assert [row.slot for row in rows] == [ADMIN_SLOT, 0, 1]
    assert [row.pid for row in rows] == [0, os.getpid(), 0]
    assert [row.ready for row in rows] == [False, True, False]
    assert [row.in_flight for row in rows] == [0, 5, 0]
    assert [row.last_heartbeat for row in rows] == [clock.now - 1, clock.now, clock.now - 1]
    assert not scoreboard.stopping


def test_a_row_that_is_released_is_the_next_ones_and_as_new(clock: Clock) -> None:
    scoreboard = Scoreboard(2)
    first, second = scoreboard.claim(0), scoreboard.claim(1)
    first.set_state(State.READY)
    first.heartbeat(5, 0)
    first.set_pid()
    scoreboard.release(first)
    assert not first.in_use
    assert list(scoreboard) == [second]
    clock.now += 1
    third = scoreboard.claim(2)
    assert third is first
    assert (third.slot, third.pid, third.ready, third.in_flight) == (2, 0, False, 0)
    assert third.last_heartbeat == clock.now


def test_a_slot_is_answered_if_one_of_its_processes_answers(clock: Clock) -> None:
    scoreboard = Scoreboard(4)
    ready(scoreboard, 0)
    old, new = ready(scoreboard, 1), scoreboard.claim(1)
    assert scoreboard.responsive(0)
    assert scoreboard.responsive(1)
    assert not scoreboard.responsive(2)
    old.set_state(State.DRAINING)
    assert not scoreboard.responsive(1)
    new.set_state(State.READY)
    assert scoreboard.responsive(1)
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert not scoreboard.responsive(0)


def test_one_worker_that_answers_is_enough_to_be_ready(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    ready(scoreboard, ADMIN_SLOT)
    scoreboard.claim(0)
    assert scoreboard.not_ready_reasons() == ["starting"]
    worker = ready(scoreboard, 1)
    assert scoreboard.not_ready_reasons() == []
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert scoreboard.not_ready_reasons() == ["no worker answers"]
    worker.heartbeat(0, 0)
    assert scoreboard.not_ready_reasons() == []
    scoreboard.release(worker)
    assert scoreboard.not_ready_reasons() == ["starting"]


def test_a_service_that_stops_is_not_ready() -> None:
    scoreboard = Scoreboard(1)
    ready(scoreboard, 0)
    scoreboard.stopping = True
    assert scoreboard.stopping
    assert scoreboard.not_ready_reasons() == ["draining"]
    scoreboard.stopping = False
    assert scoreboard.not_ready_reasons() == []


def test_every_worker_has_vitals_from_the_start() -> None:
    scoreboard = Scoreboard(2)
    nobody = [WorkerStatus(slot, 0, False, 0, 0.0, 0) for slot in (0, 1)]
    assert scoreboard.worker_statuses() == nobody
    ready(scoreboard, ADMIN_SLOT).heartbeat(5, 1.5)
    assert scoreboard.worker_statuses() == nobody


def test_vitals_are_what_the_rows_say(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    first, second = ready(scoreboard, 0), scoreboard.claim(2)
    for row in first, second:
        row.set_pid()
        row.heartbeat(3, 1.5)
    pid = os.getpid()
    expected = [
        WorkerStatus(0, pid, True, 3, 1.5, 0),
        WorkerStatus(1, 0, False, 0, 0.0, 0),
        WorkerStatus(2, pid, False, 3, 0.0, 0),
    ]
    assert scoreboard.worker_statuses() == expected
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert [one.ready for one in scoreboard.worker_statuses()] == [False, False, False]
    scoreboard.release(first)
    assert scoreboard.worker_statuses()[0] == WorkerStatus(0, 0, False, 0, 0.0, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_of_a_worker_have_vitals_together(order: tuple[int, ...]) -> None:
    scoreboard = Scoreboard(1)
    pids = []
    for one in order:
        row = scoreboard.claim(0)
        process = fork.ServiceProcess(target=row.set_pid)
        process.start()
        process.join()
        pids.append(process.pid)
        row.set_state([State.DRAINING, State.READY][one])
        row.heartbeat([2, 3][one], [1.5, 0.5][one])
    # The one that answers is the worker's process.
    expected = WorkerStatus(0, pids[order.index(1)] or 0, True, 5, 1.5, 0)
    assert scoreboard.worker_statuses() == [expected]


def test_a_loop_is_as_late_as_it_says_or_as_it_is_silent(clock: Clock) -> None:
    row = ready(Scoreboard(1), 0)
    row.heartbeat(0, 0.5)
    clock.now += HEARTBEAT_INTERVAL
    assert row.lag == 0.5
    clock.now += 0.25
    assert row.lag == 0.5
    clock.now += 1
    assert row.lag == pytest.approx(1.25)
    row.heartbeat(0, 1.25)
    assert row.lag == 1.25


@pytest.mark.parametrize(
    ("state", "late"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, True)]
)
def test_a_loop_that_may_not_turn_yet_is_not_late(clock: Clock, state: State, late: bool) -> None:
    row = Scoreboard(1).claim(0)
    row.set_state(state)
    clock.now += 60
    assert bool(row.lag) is late


def test_deaths_count_for_the_slot() -> None:
    scoreboard = Scoreboard(3)

    def restarts() -> list[int]:
        return [one.restarts for one in scoreboard.worker_statuses()]

    for slot in 0, 2, 2, ADMIN_SLOT, ADMIN_SLOT:
        scoreboard.count_restart(slot)
    assert restarts() == [1, 0, 2]
    for slot in 0, 1, ADMIN_SLOT:
        scoreboard.release(scoreboard.claim(slot))
    assert restarts() == [1, 0, 2]
    assert not scoreboard.stopping
    assert list(scoreboard) == []
    scoreboard.stopping = True
    assert restarts() == [1, 0, 2]


def test_a_worker_has_room_for_a_predecessor_and_a_successor() -> None:
    scoreboard = Scoreboard(2)
    rows = [scoreboard.claim(slot) for slot in (ADMIN_SLOT, 0, 1) for _ in range(3)]
    for row in rows:
        row.set_pid()
        row.heartbeat(5, 1.5)
        row.set_state(State.READY)
    scoreboard.count_restart(ADMIN_SLOT)
    assert {row.pid for row in scoreboard} == {os.getpid()}
    assert not scoreboard.stopping
    assert [one.requests_in_flight for one in scoreboard.worker_statuses()] == [15, 15]
    assert [one.restarts for one in scoreboard.worker_statuses()] == [0, 0]


def test_every_process_sees_what_another_writes() -> None:
    scoreboard = Scoreboard(1)
    row = scoreboard.claim(0)

    def write() -> None:
        row.set_pid()
        row.set_state(State.READY)
        row.heartbeat(7, 0)
        scoreboard.stopping = True

    process = fork.ServiceProcess(target=write)
    process.start()
    process.join()
    assert row.pid == process.pid != os.getpid()
    assert (row.ready, row.in_flight, scoreboard.stopping) == (True, 7, True)
