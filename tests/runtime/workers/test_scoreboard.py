"""The shared memory with the state of every process."""

import multiprocessing
import os

import pytest
from runtime.monitor.shared import SharedText
from runtime.status import (
    ADMIN_SLOT,
    HEARTBEAT_INTERVAL,
    ProcessDetails,
    ResourceCheck,
    State,
    Vitals,
    WorkerStatus,
)
from runtime.workers import scoreboard as module
from runtime.workers.scoreboard import HEARTBEAT_TIMEOUT, Row, Scoreboard

from tests.runtime.support.clock import FakeClock

fork = multiprocessing.get_context("fork")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, module)


def ready(scoreboard: Scoreboard, slot: int) -> Row:
    row = scoreboard.claim(slot)
    row.set_state(State.READY)
    return row


def test_scoreboard_is_empty_initially() -> None:
    scoreboard = Scoreboard(2)
    assert list(scoreboard) == []
    assert not scoreboard.stopping
    assert scoreboard.not_ready_reasons() == ["starting"]


def test_claimed_row_is_starting(clock: FakeClock) -> None:
    scoreboard = Scoreboard(2)
    row = scoreboard.claim(3)
    assert (row.in_use, row.slot, row.ready, row.responsive) == (True, 3, False, False)
    assert (row.in_flight, row.last_heartbeat, row.pid) == (0, clock.now, 0)
    assert [row.slot for row in scoreboard] == [3]


def test_heartbeat_records_requests_in_flight(clock: FakeClock) -> None:
    row = Scoreboard(1).claim(0)
    clock.now += 5
    row.heartbeat(Vitals(17, 0))
    assert (row.in_flight, row.last_heartbeat) == (17, clock.now)


@pytest.mark.parametrize(
    ("state", "ready"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, False)]
)
def test_only_one_state_is_ready(state: State, ready: bool) -> None:
    row = Scoreboard(1).claim(0)
    row.set_state(state)
    assert row.in_use
    assert row.ready is ready
    assert row.responsive is ready
    assert row.draining is (state is State.DRAINING)


def test_process_without_heartbeats_is_not_responsive(clock: FakeClock) -> None:
    scoreboard = Scoreboard(1)
    row = ready(scoreboard, 0)
    clock.now += HEARTBEAT_TIMEOUT - 0.01
    assert row.responsive
    clock.now += 0.02
    assert not row.responsive
    assert row.ready
    row.heartbeat(Vitals(0, 0))
    assert row.responsive


def test_rows_are_independent(clock: FakeClock) -> None:
    scoreboard = Scoreboard(3)
    rows = [scoreboard.claim(slot) for slot in (ADMIN_SLOT, 0, 1)]
    clock.now += 1
    rows[1].set_state(State.READY)
    rows[1].heartbeat(Vitals(5, 0))
    rows[1].set_pid()
    assert sorted(row.slot for row in scoreboard) == [ADMIN_SLOT, 0, 1]
    assert [row.slot for row in rows] == [ADMIN_SLOT, 0, 1]
    assert [row.pid for row in rows] == [0, os.getpid(), 0]
    assert [row.ready for row in rows] == [False, True, False]
    assert [row.in_flight for row in rows] == [0, 5, 0]
    assert [row.last_heartbeat for row in rows] == [clock.now - 1, clock.now, clock.now - 1]
    assert not scoreboard.stopping


def test_released_row_is_reused_and_reset(clock: FakeClock) -> None:
    scoreboard = Scoreboard(2)
    first, second = scoreboard.claim(0), scoreboard.claim(1)
    first.set_state(State.READY)
    first.heartbeat(Vitals(5, 0))
    first.set_pid()
    scoreboard.release(first)
    assert not first.in_use
    assert list(scoreboard) == [second]
    clock.now += 1
    third = scoreboard.claim(2)
    assert third is first
    assert (third.slot, third.pid, third.ready, third.in_flight) == (2, 0, False, 0)
    assert third.last_heartbeat == clock.now


def test_slot_is_responsive_if_one_of_its_processes_is(clock: FakeClock) -> None:
    scoreboard = Scoreboard(4)
    ready(scoreboard, 0)
    old, new = ready(scoreboard, 1), scoreboard.claim(1)
    assert scoreboard.responsive_slots == {0, 1}
    old.set_state(State.DRAINING)
    assert scoreboard.responsive_slots == {0}
    new.set_state(State.READY)
    assert scoreboard.responsive_slots == {0, 1}
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert scoreboard.responsive_slots == set()


def test_service_is_ready_with_one_responsive_worker(clock: FakeClock) -> None:
    scoreboard = Scoreboard(3)
    ready(scoreboard, ADMIN_SLOT)
    scoreboard.claim(0)
    assert scoreboard.not_ready_reasons() == ["starting"]
    worker = ready(scoreboard, 1)
    assert scoreboard.not_ready_reasons() == []
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert scoreboard.not_ready_reasons() == ["no worker responds"]
    worker.heartbeat(Vitals(0, 0))
    assert scoreboard.not_ready_reasons() == []
    scoreboard.release(worker)
    assert scoreboard.not_ready_reasons() == ["starting"]


def test_stopping_service_is_not_ready() -> None:
    scoreboard = Scoreboard(1)
    ready(scoreboard, 0)
    scoreboard.stopping = True
    assert scoreboard.stopping
    assert scoreboard.not_ready_reasons() == ["draining"]
    scoreboard.stopping = False
    assert scoreboard.not_ready_reasons() == []


def check(row: Row, passing: bool) -> None:
    """Record the check of a resource."""
    result = ResourceCheck("orders", passing, "" if passing else "OSError", 0.0, 0.0)
    row.set_details(ProcessDetails(checks=(result,)))


def test_service_is_ready_if_all_resources_work_in_one_responsive_worker(clock: FakeClock) -> None:
    scoreboard = Scoreboard(2)
    check(ready(scoreboard, ADMIN_SLOT), True)
    first, second = ready(scoreboard, 0), ready(scoreboard, 1)
    check(first, False)
    check(second, False)
    [reason] = scoreboard.not_ready_reasons()
    assert reason.startswith("resource orders fails: OSError (for ")
    check(second, True)
    assert scoreboard.not_ready_reasons() == []
    assert [status.failing_workers for status in scoreboard.resource_statuses()] == [[0]]
    # Its last result is of no use when it does not respond any more.
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert scoreboard.resource_statuses() == []
    first.heartbeat(Vitals())
    assert len(scoreboard.not_ready_reasons()) == 1
    scoreboard.release(first)
    scoreboard.release(second)
    assert scoreboard.not_ready_reasons() == ["starting"]


def test_check_of_a_new_process_does_not_replace_that_of_its_predecessor() -> None:
    scoreboard = Scoreboard(1)
    old, new = ready(scoreboard, 0), ready(scoreboard, 0)
    check(old, True)
    check(new, False)
    assert scoreboard.not_ready_reasons() == []
    old.set_state(State.DRAINING)
    assert len(scoreboard.not_ready_reasons()) == 1


def test_next_process_of_a_row_has_no_checks() -> None:
    scoreboard = Scoreboard(1)
    row = ready(scoreboard, 0)
    check(row, False)
    assert len(row.details.checks) == 1
    scoreboard.release(row)
    assert ready(scoreboard, 0) is row
    assert row.details == ProcessDetails()
    assert scoreboard.not_ready_reasons() == []


def test_details_that_are_being_written_are_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Scoreboard(1).claim(0)
    check(row, False)
    assert len(row.details.checks) == 1
    monkeypatch.setattr(SharedText, "read", lambda self: b"")
    assert len(row.details.checks) == 1


def test_every_worker_has_a_status_from_the_start() -> None:
    scoreboard = Scoreboard(2)
    idle = [WorkerStatus(slot, 0, False, 0, 0.0, 0) for slot in (0, 1)]
    assert scoreboard.worker_statuses() == idle
    ready(scoreboard, ADMIN_SLOT).heartbeat(Vitals(5, 1.5))
    assert scoreboard.worker_statuses() == idle


def test_status_reflects_the_rows(clock: FakeClock) -> None:
    scoreboard = Scoreboard(3)
    first, second = ready(scoreboard, 0), scoreboard.claim(2)
    for row in first, second:
        row.set_pid()
        row.heartbeat(Vitals(3, 1.5))
    pid = os.getpid()
    expected = [
        WorkerStatus(0, pid, True, 3, 1.5, 0, "ready"),
        WorkerStatus(1, 0, False, 0, 0.0, 0),
        WorkerStatus(2, pid, False, 3, 0.0, 0, "starting"),
    ]
    assert scoreboard.worker_statuses() == expected
    clock.now += HEARTBEAT_TIMEOUT + 0.01
    assert [status.ready for status in scoreboard.worker_statuses()] == [False, False, False]
    scoreboard.release(first)
    assert scoreboard.worker_statuses()[0] == WorkerStatus(0, 0, False, 0, 0.0, 0)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_of_a_slot_have_one_status(order: tuple[int, ...]) -> None:
    scoreboard = Scoreboard(1)
    pids = []
    for index in order:
        row = scoreboard.claim(0)
        process = fork.Process(target=row.set_pid)
        process.start()
        process.join()
        pids.append(process.pid)
        row.set_state([State.DRAINING, State.READY][index])
        row.heartbeat(Vitals([2, 3][index], [1.5, 0.5][index]))
    # The responsive one determines the pid.
    expected = WorkerStatus(0, pids[order.index(1)] or 0, True, 5, 1.5, 0, "ready")
    assert scoreboard.worker_statuses() == [expected]


def test_lag_is_the_reported_one_or_the_silence(clock: FakeClock) -> None:
    row = ready(Scoreboard(1), 0)
    row.heartbeat(Vitals(0, 0.5))
    clock.now += HEARTBEAT_INTERVAL
    assert row.lag == 0.5
    clock.now += 0.25
    assert row.lag == 0.5
    clock.now += 1
    assert row.lag == pytest.approx(1.25)
    row.heartbeat(Vitals(0, 1.25))
    assert row.lag == 1.25


@pytest.mark.parametrize(
    ("state", "has_lag"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, True)]
)
def test_starting_process_has_no_lag(clock: FakeClock, state: State, has_lag: bool) -> None:
    row = Scoreboard(1).claim(0)
    row.set_state(state)
    clock.now += 60
    assert bool(row.lag) is has_lag


def test_restarts_are_counted_for_the_slot() -> None:
    scoreboard = Scoreboard(3)

    def restarts() -> list[int]:
        return [status.restarts for status in scoreboard.worker_statuses()]

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


def test_there_is_room_for_every_worker_and_a_few_more_processes() -> None:
    scoreboard = Scoreboard(2, capacity=4)
    slots = [ADMIN_SLOT, 0, 1, 2, 3, 0, 1, ADMIN_SLOT]
    rows = [scoreboard.claim(slot) for slot in slots]
    assert rows[::-1] == scoreboard.rows
    for row in rows:
        row.set_pid()
        row.heartbeat(Vitals(5, 1.5))
        row.set_state(State.READY)
    scoreboard.count_restart(ADMIN_SLOT)
    assert {row.pid for row in scoreboard} == {os.getpid()}
    assert not scoreboard.stopping
    statuses = scoreboard.worker_statuses()
    assert [status.requests_in_flight for status in statuses] == [10, 10, 5, 5]
    assert [status.restarts for status in statuses] == [0, 0, 0, 0]
    assert scoreboard.workers == 2


def test_statuses_follow_the_number_of_workers_and_include_those_that_end() -> None:
    def workers() -> list[int]:
        return [status.worker for status in scoreboard.worker_statuses()]

    scoreboard = Scoreboard(2, capacity=4)
    scoreboard.claim(ADMIN_SLOT)
    assert workers() == [0, 1]
    rows = [ready(scoreboard, slot) for slot in (3, 2)]
    assert workers() == [0, 1, 2, 3]
    scoreboard.release(rows[1])
    assert workers() == [0, 1, 3]
    scoreboard.workers = 1
    assert workers() == [0, 3]
    for slot in range(4):
        scoreboard.count_restart(slot)
    assert scoreboard.workers == 1
    scoreboard.workers = 4
    assert [status.restarts for status in scoreboard.worker_statuses()] == [1, 1, 1, 1]


def test_memory_is_shared_between_processes() -> None:
    scoreboard = Scoreboard(1)
    row = scoreboard.claim(0)

    def write() -> None:
        row.set_pid()
        row.set_state(State.READY)
        row.heartbeat(Vitals(7, 0))
        scoreboard.stopping = True

    process = fork.Process(target=write)
    process.start()
    process.join()
    assert row.pid == process.pid != os.getpid()
    assert (row.ready, row.in_flight, scoreboard.stopping) == (True, 7, True)
