import multiprocessing
import os

import pytest

from {{ cookiecutter.package_name }} import scoreboard as module
from {{ cookiecutter.package_name }}.runtime.workers.scoreboard import (
    ADMIN,
    SILENCE,
    Row,
    Scoreboard,
)
from {{ cookiecutter.package_name }}.runtime.status import BEAT, State, Vitals

from .test_systemd import Clock

fork = multiprocessing.get_context("fork")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, module)


def ready(scoreboard: Scoreboard, slot: int) -> Row:
    row = scoreboard.take(slot)
    row.report(State.READY)
    return row


def test_at_first_nobody_is_there() -> None:
    scoreboard = Scoreboard(2)
    assert list(scoreboard) == []
    assert not scoreboard.stopping
    assert scoreboard.why_not_ready() == ["starting"]


def test_a_row_that_is_taken_is_starting(clock: Clock) -> None:
    scoreboard = Scoreboard(2)
    row = scoreboard.take(3)
    assert (row.taken, row.slot, row.ready, row.answers) == (True, 3, False, False)
    assert (row.in_flight, row.last_beat, row.pid) == (0, clock.now, 0)
    assert [one.slot for one in scoreboard] == [3]


def test_a_beat_says_how_many_requests_are_in_flight(clock: Clock) -> None:
    row = Scoreboard(1).take(0)
    clock.now += 5
    row.beat(17, 0)
    assert (row.in_flight, row.last_beat) == (17, clock.now)


@pytest.mark.parametrize(
    ("state", "ready"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, False)]
)
def test_in_one_state_only_a_row_is_ready(state: State, ready: bool) -> None:
    row = Scoreboard(1).take(0)
    row.report(state)
    assert row.taken
    assert row.ready is ready
    assert row.answers is ready
    assert row.draining is (state is State.DRAINING)


def test_who_has_not_beaten_for_long_does_not_answer(clock: Clock) -> None:
    scoreboard = Scoreboard(1)
    row = ready(scoreboard, 0)
    clock.now += SILENCE - 0.01
    assert row.answers
    clock.now += 0.02
    assert not row.answers
    assert row.ready
    row.beat(0, 0)
    assert row.answers


def test_rows_do_not_touch_each_other(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    rows = [scoreboard.take(slot) for slot in (ADMIN, 0, 1)]
    clock.now += 1
    rows[1].report(State.READY)
    rows[1].beat(5, 0)
    rows[1].sign()
    assert sorted(row.slot for row in scoreboard) == [ADMIN, 0, 1]
    assert [row.slot for row in rows] == [ADMIN, 0, 1]
    assert [row.pid for row in rows] == [0, os.getpid(), 0]
    assert [row.ready for row in rows] == [False, True, False]
    assert [row.in_flight for row in rows] == [0, 5, 0]
    assert [row.last_beat for row in rows] == [clock.now - 1, clock.now, clock.now - 1]
    assert not scoreboard.stopping


def test_a_row_that_is_released_is_the_next_ones_and_as_new(clock: Clock) -> None:
    scoreboard = Scoreboard(2)
    first, second = scoreboard.take(0), scoreboard.take(1)
    first.report(State.READY)
    first.beat(5, 0)
    first.sign()
    scoreboard.release(first)
    assert not first.taken
    assert list(scoreboard) == [second]
    clock.now += 1
    third = scoreboard.take(2)
    assert third is first
    assert (third.slot, third.pid, third.ready, third.in_flight) == (2, 0, False, 0)
    assert third.last_beat == clock.now


def test_a_slot_is_answered_if_one_of_its_processes_answers(clock: Clock) -> None:
    scoreboard = Scoreboard(4)
    ready(scoreboard, 0)
    old, new = ready(scoreboard, 1), scoreboard.take(1)
    assert scoreboard.answers(0)
    assert scoreboard.answers(1)
    assert not scoreboard.answers(2)
    old.report(State.DRAINING)
    assert not scoreboard.answers(1)
    new.report(State.READY)
    assert scoreboard.answers(1)
    clock.now += SILENCE + 0.01
    assert not scoreboard.answers(0)


def test_one_worker_that_answers_is_enough_to_be_ready(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    ready(scoreboard, ADMIN)
    scoreboard.take(0)
    assert scoreboard.why_not_ready() == ["starting"]
    worker = ready(scoreboard, 1)
    assert scoreboard.why_not_ready() == []
    clock.now += SILENCE + 0.01
    assert scoreboard.why_not_ready() == ["no worker answers"]
    worker.beat(0, 0)
    assert scoreboard.why_not_ready() == []
    scoreboard.release(worker)
    assert scoreboard.why_not_ready() == ["starting"]


def test_a_service_that_stops_is_not_ready() -> None:
    scoreboard = Scoreboard(1)
    ready(scoreboard, 0)
    scoreboard.stopping = True
    assert scoreboard.stopping
    assert scoreboard.why_not_ready() == ["draining"]
    scoreboard.stopping = False
    assert scoreboard.why_not_ready() == []


def test_every_worker_has_vitals_from_the_start() -> None:
    scoreboard = Scoreboard(2)
    nobody = [Vitals(slot, 0, False, 0, 0.0, 0) for slot in (0, 1)]
    assert scoreboard.vitals() == nobody
    ready(scoreboard, ADMIN).beat(5, 1.5)
    assert scoreboard.vitals() == nobody


def test_vitals_are_what_the_rows_say(clock: Clock) -> None:
    scoreboard = Scoreboard(3)
    first, second = ready(scoreboard, 0), scoreboard.take(2)
    for row in first, second:
        row.sign()
        row.beat(3, 1.5)
    pid = os.getpid()
    expected = [
        Vitals(0, pid, True, 3, 1.5, 0),
        Vitals(1, 0, False, 0, 0.0, 0),
        Vitals(2, pid, False, 3, 0.0, 0),
    ]
    assert scoreboard.vitals() == expected
    clock.now += SILENCE + 0.01
    assert [one.ready for one in scoreboard.vitals()] == [False, False, False]
    scoreboard.release(first)
    assert scoreboard.vitals()[0] == Vitals(0, 0, False, 0, 0.0, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_of_a_worker_have_vitals_together(order: tuple[int, ...]) -> None:
    scoreboard = Scoreboard(1)
    pids = []
    for one in order:
        row = scoreboard.take(0)
        process = fork.Process(target=row.sign)
        process.start()
        process.join()
        pids.append(process.pid)
        row.report([State.DRAINING, State.READY][one])
        row.beat([2, 3][one], [1.5, 0.5][one])
    # The one that answers is the worker's process.
    expected = Vitals(0, pids[order.index(1)] or 0, True, 5, 1.5, 0)
    assert scoreboard.vitals() == [expected]


def test_a_loop_is_as_late_as_it_says_or_as_it_is_silent(clock: Clock) -> None:
    row = ready(Scoreboard(1), 0)
    row.beat(0, 0.5)
    clock.now += BEAT
    assert row.lag == 0.5
    clock.now += 0.25
    assert row.lag == 0.5
    clock.now += 1
    assert row.lag == pytest.approx(1.25)
    row.beat(0, 1.25)
    assert row.lag == 1.25


@pytest.mark.parametrize(
    ("state", "late"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, True)]
)
def test_a_loop_that_may_not_turn_yet_is_not_late(clock: Clock, state: State, late: bool) -> None:
    row = Scoreboard(1).take(0)
    row.report(state)
    clock.now += 60
    assert bool(row.lag) is late


def test_deaths_count_for_the_slot() -> None:
    scoreboard = Scoreboard(3)

    def restarts() -> list[int]:
        return [one.restarts for one in scoreboard.vitals()]

    for slot in 0, 2, 2, ADMIN, ADMIN:
        scoreboard.count_death(slot)
    assert restarts() == [1, 0, 2]
    for slot in 0, 1, ADMIN:
        scoreboard.release(scoreboard.take(slot))
    assert restarts() == [1, 0, 2]
    assert not scoreboard.stopping
    assert list(scoreboard) == []
    scoreboard.stopping = True
    assert restarts() == [1, 0, 2]


def test_a_worker_has_room_for_a_predecessor_and_a_successor() -> None:
    scoreboard = Scoreboard(2)
    rows = [scoreboard.take(slot) for slot in (ADMIN, 0, 1) for _ in range(3)]
    for row in rows:
        row.sign()
        row.beat(5, 1.5)
        row.report(State.READY)
    scoreboard.count_death(ADMIN)
    assert {row.pid for row in scoreboard} == {os.getpid()}
    assert not scoreboard.stopping
    assert [one.requests_in_flight for one in scoreboard.vitals()] == [15, 15]
    assert [one.restarts for one in scoreboard.vitals()] == [0, 0]


def test_every_process_sees_what_another_writes() -> None:
    scoreboard = Scoreboard(1)
    row = scoreboard.take(0)

    def write() -> None:
        row.sign()
        row.report(State.READY)
        row.beat(7, 0)
        scoreboard.stopping = True

    process = fork.Process(target=write)
    process.start()
    process.join()
    assert row.pid == process.pid != os.getpid()
    assert (row.ready, row.in_flight, scoreboard.stopping) == (True, 7, True)
