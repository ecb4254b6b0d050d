"""The last fifteen minutes, in shared memory."""

import multiprocessing
import random
import sys
from collections import deque
from collections.abc import Iterator

import pytest
from runtime.monitor import history as history_module
from runtime.monitor.history import (
    CLOCK,
    POINT_INTERVAL,
    SECOND,
    SECONDS,
    WINDOW,
    History,
    Ring,
    Second,
    clock,
)
from runtime.monitor.shared import WORD_SIZE
from runtime.monitor.statistics import RequestStatistics
from runtime.process.memory import resident_memory
from runtime.status import WorkerStatus

BEGIN = 1000
"""The first second of a test."""
TIME_OF_DAY = 1_800_000_000.0


class Machine:
    """A service whose clocks a test sets: seconds of the machine, and the time of day."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(BEGIN)
        self.time_of_day = TIME_OF_DAY
        self.counted = RequestStatistics()
        self.workers = [worker()]
        self.last_event = 0
        monkeypatch.setattr(history_module, "clock", lambda: int(self.now * SECOND))
        monkeypatch.setattr(history_module.time, "time_ns", lambda: int(self.time_of_day * SECOND))

    def record(self, history: History) -> int:
        return history.record(self.workers, self.counted.cells, self.last_event)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.time_of_day += seconds

    def respond(self, count: int, status: int = 200, seconds: float = 0.01) -> None:
        for _ in range(count):
            self.counted.record(status, seconds)


def worker(
    number: int = 0, requests: int = 0, in_flight: int = 0, lag: float = 0.0, memory: int = 0
) -> WorkerStatus:
    return WorkerStatus(number, 42, True, in_flight, lag, 0, requests=requests, memory=memory)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def history() -> History:
    return History(slots=2)


def test_second_has_what_happened_since_the_one_before(machine: Machine, history: History) -> None:
    machine.respond(7)  # before the history begins
    machine.record(history)
    machine.pass_time(1.25)
    machine.respond(99, seconds=0.01)
    machine.respond(1, status=503, seconds=2.0)
    machine.workers = [worker(0, in_flight=2), worker(1, in_flight=3)]
    machine.last_event = 17
    last = machine.record(history)
    [second] = history.seconds(0, last)
    assert second.number == BEGIN + 1
    assert second.time == pytest.approx(TIME_OF_DAY + 1.25)
    assert second.elapsed == pytest.approx(1.25)
    assert (second.requests, second.errors, second.requests_in_flight) == (100, 1, 5)
    assert second.p50 == pytest.approx(0.01, rel=0.1)
    assert second.p99 == pytest.approx(0.01, rel=0.1)
    assert second.last_event == 17


def test_second_without_responses_has_no_latency(machine: Machine, history: History) -> None:
    machine.record(history)
    machine.pass_time(1)
    [second] = history.seconds(0, machine.record(history))
    assert (second.requests, second.p50, second.p99) == (0, None, None)


def test_latency_is_that_of_the_last_seconds(machine: Machine, history: History) -> None:
    machine.record(history)
    machine.respond(10, seconds=1.0)
    for _ in range(WINDOW + 1):
        machine.pass_time(1)
        machine.respond(1, seconds=0.01)
        last = machine.record(history)
    latencies = [second.p50 for second in history.seconds(0, last)]
    slow, fast = pytest.approx(1.0, rel=0.1), pytest.approx(0.01, rel=0.1)
    assert latencies == [*[slow] * WINDOW, fast]


def test_seconds_after_one_that_a_reader_has(machine: Machine, history: History) -> None:
    for _ in range(5):
        last = machine.record(history)
        machine.pass_time(1)
        machine.respond(1)
    assert [second.number for second in history.seconds(BEGIN + 2, last)] == [BEGIN + 3, BEGIN + 4]
    assert history.seconds(last, last) == []
    assert history.seconds(last + 10, last) == []


def test_gap_is_a_gap_and_loses_no_response(machine: Machine, history: History) -> None:
    machine.record(history)
    machine.pass_time(10)
    machine.respond(50)
    machine.record(history)
    machine.pass_time(1)
    machine.respond(3)
    seconds = history.seconds(0, machine.record(history))
    assert [second.number for second in seconds] == [BEGIN + 10, BEGIN + 11]
    assert [(second.elapsed, second.requests) for second in seconds] == [
        (pytest.approx(10.0), 50),
        (pytest.approx(1.0), 3),
    ]


def test_two_writers_record_what_one_would(machine: Machine, history: History) -> None:
    # As during a reload: the admin process, which reads at once, and its replacement.
    seconds: list[Second] = []
    for _ in range(20):
        machine.respond(2)
        last = machine.record(history)
        seconds += history.seconds(last - 1, last)
        machine.pass_time(0.4)
        machine.respond(3)
        machine.record(history)
        machine.pass_time(0.6)
    assert [second.number for second in seconds] == list(range(BEGIN + 1, BEGIN + 20))
    assert [second.requests for second in seconds] == [5] * 19
    assert history.seconds(0, last) == seconds


def test_late_writer_with_older_counts_makes_nothing_negative(
    machine: Machine, history: History
) -> None:
    machine.record(history)
    older = RequestStatistics()
    machine.pass_time(1)
    machine.respond(5)
    machine.record(history)
    machine.pass_time(1)
    last = history.record(machine.workers, older.cells, 0)
    assert [second.requests for second in history.seconds(0, last)] == [5, 0]


def test_clock_that_is_set_changes_the_label_only(machine: Machine, history: History) -> None:
    machine.record(history)
    for jump in (-3600.0, 7200.0, 0.0):
        machine.pass_time(1)
        machine.time_of_day += jump
        machine.respond(4)
        last = machine.record(history)
    seconds = history.seconds(0, last)
    assert [second.number for second in seconds] == [BEGIN + 1, BEGIN + 2, BEGIN + 3]
    assert [second.requests for second in seconds] == [4, 4, 4]
    labels = [second.time - TIME_OF_DAY for second in seconds]
    assert labels == pytest.approx([-3599.0, 3602.0, 3603.0])


def test_points_of_a_worker(machine: Machine, history: History) -> None:
    for requests in (100, 150, 10):  # the last one is another process
        machine.workers = [worker(0, requests, in_flight=2, lag=0.125, memory=1 << 26)]
        last = machine.record(history)
        machine.pass_time(POINT_INTERVAL)
    points = history.points(0, 0, last)
    assert [point.number for point in points] == [
        BEGIN + POINT_INTERVAL,
        BEGIN + 2 * POINT_INTERVAL,
    ]
    assert [point.rate for point in points] == pytest.approx([10.0, 2.0])
    assert points[0][2:] == (2, pytest.approx(0.125), 1 << 26)
    assert history.points(0, BEGIN + POINT_INTERVAL, last) == points[1:]
    assert history.points(1, 0, last) == []


def test_worker_without_a_process_has_no_point(machine: Machine, history: History) -> None:
    machine.record(history)
    machine.pass_time(POINT_INTERVAL)
    machine.workers = [WorkerStatus(0, 0, False, 0, 0.0, 1)]
    machine.record(history)
    machine.pass_time(POINT_INTERVAL)
    machine.workers = [worker(requests=20)]
    [point] = history.points(0, 0, machine.record(history))
    assert point.number == BEGIN + 2 * POINT_INTERVAL
    assert point.rate == pytest.approx(2.0)


def test_workers_are_told_apart_by_their_number(machine: Machine, history: History) -> None:
    for requests in (0, 50):
        machine.workers = [worker(1, requests)]
        last = machine.record(history)
        machine.pass_time(POINT_INTERVAL)
    assert history.points(0, 0, last) == []
    assert [point.rate for point in history.points(1, 0, last)] == pytest.approx([10.0])


def test_days_take_no_more_memory_and_show_the_last_fifteen_minutes(
    machine: Machine, history: History
) -> None:
    source = random.Random(7)
    # The first second after the gap of an hour has nothing that it could be compared with.
    expected: deque[tuple[int, int]] = deque(maxlen=SECONDS // 6 - 1)
    resident = []
    for hour in range(3 * 24):
        # Each hour, some minutes of it.
        for _ in range(SECONDS // 6):
            count = source.randrange(4)
            machine.respond(count)
            machine.workers = [worker(requests=hour)]
            last = machine.record(history)
            expected.append((last, count))
            machine.pass_time(1)
        resident.append(resident_memory())
        machine.pass_time(3600 - SECONDS // 6)
    seconds = history.seconds(0, last)
    assert [(s.number, s.requests) for s in seconds] == [*expected]
    assert len(history.points(0, 0, last)) <= SECONDS // POINT_INTERVAL
    assert resident[-1] - resident[4] < 1 << 20


def test_full_ring_has_exactly_fifteen_minutes(machine: Machine, history: History) -> None:
    for _ in range(2 * SECONDS):
        machine.respond(1)
        last = machine.record(history)
        machine.pass_time(1)
    seconds = history.seconds(0, last)
    assert [second.number for second in seconds] == list(range(last - SECONDS + 1, last + 1))
    assert {second.requests for second in seconds} == {1}
    assert len(history.points(0, 0, last)) == SECONDS // POINT_INTERVAL


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_writer_that_is_killed_leaves_what_it_has_recorded(
    machine: Machine, history: History
) -> None:
    def record_and_die() -> None:
        machine.respond(5)
        machine.record(history)
        multiprocessing.current_process().kill()

    machine.record(history)
    machine.pass_time(1)
    process = multiprocessing.get_context("fork").Process(target=record_and_die)
    process.start()
    process.join()
    machine.respond(7)
    machine.pass_time(1)
    seconds = history.seconds(0, machine.record(history))
    assert [second.requests for second in seconds] == [5, 2]


def test_half_written_row_is_no_row() -> None:
    ring = Ring(3, width=2)
    ring.write(5, [1, 2])
    assert ring.read(5) == [1, 2]

    def interrupted() -> Iterator[int]:
        yield 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ring.write(8, interrupted())  # type: ignore[arg-type]
    assert (ring.read(5), ring.read(8)) == (None, None)
    ring.write(8, [3, 4])
    assert ring.read(8) == [3, 4]


def test_size_is_as_documented() -> None:
    assert _size(History(1)) < 0.7 * 2**20
    assert _size(History(2)) - _size(History(1)) < 9 * 2**10


def test_clock_goes_on_while_the_machine_is_suspended() -> None:
    assert clock() > 0
    if sys.platform == "linux":
        assert CLOCK is not None


def _size(history: History) -> int:
    rings = [history._seconds, *history._workers]
    return sum(len(ring._cells) * WORD_SIZE for ring in rings)
