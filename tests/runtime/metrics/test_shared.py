"""Metric values in shared memory: pages, values, and what several processes make of them."""

import itertools
import logging
import math
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, cast

import pytest
from prometheus_client import (
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
    values,
)
from runtime.metrics.aggregate import SampleKey
from runtime.metrics.extension import BUCKETS
from runtime.metrics.shared import PAGE_SIZE, Page, PageWriter, SharedMetrics, SharedValue
from runtime.status import ADMIN_SLOT, State
from runtime.testing import WAIT_TIMEOUT, Record
from runtime.workers.scoreboard import Row, Scoreboard

from ..support.prometheus import DURATION, REQUEST_LABELS
from ..support.waiting import wait_for

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _restore_value_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)


@pytest.fixture
def scoreboard() -> Scoreboard:
    return Scoreboard(2)


@pytest.fixture
def shared(scoreboard: Scoreboard) -> SharedMetrics:
    return SharedMetrics(scoreboard.rows, CollectorRegistry())


def exported(shared: SharedMetrics) -> dict[tuple[str, ...], float]:
    """Return the samples by their names and the values of their labels."""
    samples = [sample for family in shared.collect() for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def become_worker(shared: SharedMetrics, scoreboard: Scoreboard, slot: int) -> Row:
    """Give this process the row of a slot, as if it were a worker that is ready."""
    row = scoreboard.claim(slot)
    shared.attach(row)
    row.set_state(State.READY)
    return row


def write_to(page: Page) -> None:
    """Keep what this process measures, from now on, in a page."""
    values.ValueClass = partial(SharedValue, PageWriter(page))


def make_counter(*labels: str) -> Counter:
    """Return a new counter, as if in a process of its own: it is not registered anywhere."""
    return Counter("orders", "Orders.", labels, registry=None)


def make_gauge(mode: Any = "all") -> Gauge:
    return Gauge("depth", "Depth.", multiprocess_mode=mode, registry=None)


class Workers:
    """Processes that have a row each, and measure."""

    def __init__(self, shared: SharedMetrics) -> None:
        self._shared = shared
        self._processes: list[BaseProcess] = []

    def start(self, row: Row, measure: Callable[[], None]) -> BaseProcess:
        def run() -> None:
            self._shared.attach(row)
            row.set_state(State.READY)
            measure()

        process = fork.Process(target=run)
        process.start()
        self._processes.append(process)
        return process

    def join(self) -> None:
        for process in self._processes:
            process.join(WAIT_TIMEOUT)
            assert process.exitcode == 0

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


@pytest.fixture
def workers(shared: SharedMetrics) -> Iterator[Workers]:
    workers = Workers(shared)
    yield workers
    workers.kill()


# Pages


def test_page_takes_entries_until_it_is_full() -> None:
    page = Page(8 * 8)
    assert list(page) == []
    indexes = [page.add(name) for name in (b"tea", b"12345678", b"too long now", b"")]
    assert indexes == [1, 4, 0, 0]
    assert list(page) == [(b"tea", 1), (b"12345678", 4)]
    page.numbers[1], page.numbers[4] = 1.5, math.inf
    assert list(page) == [(b"tea", 1), (b"12345678", 4)]
    assert [page.numbers[index] for _, index in page] == [1.5, math.inf]


def test_page_can_be_full_to_the_last_word() -> None:
    page = Page(4 * 8)
    assert page.add(b"tea") == 1
    assert page.add(b"") == 0
    assert Page(3 * 8).add(b"tea") == 0


def test_incomplete_entry_is_ignored_and_overwritten() -> None:
    page = Page(256)
    page.add(b"tea")
    page.numbers[4] = 17.0
    with pytest.raises(TypeError):
        page.add(cast(bytes, "killed while it writes the key"))
    assert list(page) == [(b"tea", 1)]
    assert page.add(b"milk") == 4
    assert list(page) == [(b"tea", 1), (b"milk", 4)]
    assert page.numbers[4] == 0.0


def test_next_process_needs_no_more_room() -> None:
    page = Page(1024)
    for _ in range(3):
        write_to(page)
        orders = make_counter("drink")
        orders.labels("tea").inc()
        orders.labels("milk").inc(10)
        make_counter("drink").labels("milk").inc(10)
    assert [page.numbers[index] for _, index in page] == [3, 60]


def test_full_page_is_logged_once_and_values_work_on(log_records: list[Record]) -> None:
    page = Page(1024)
    write_to(page)
    registry = CollectorRegistry()
    orders = Counter("orders", "Orders.", ["number"], registry=registry)
    for number in range(20):
        orders.labels(number).inc(number)
        orders.labels(number).inc()
    assert 0 < len(list(page)) < 20
    for number in range(20):
        assert registry.get_sample_value("orders_total", {"number": str(number)}) == number + 1
    assert [(record["level"], record["message"]) for record in log_records] == [
        (
            "error",
            "shared metrics memory is full: new label values of orders are not counted until a"
            " restart",
        )
    ]


def test_log_handler_can_count_the_record_about_a_full_page(log_records: list[Record]) -> None:
    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.labels(record.levelname).inc()

    write_to(Page(64))
    registry = CollectorRegistry()
    records = Counter("records", "Records.", ["level"], registry=registry)
    logging.getLogger().addHandler(handler := Counting())
    try:
        make_counter().inc()
    finally:
        logging.getLogger().removeHandler(handler)
    assert registry.get_sample_value("records_total", {"level": "ERROR"}) == 1
    assert len(log_records) == 1


def test_page_has_room_for_1500_combinations(log_records: list[Record]) -> None:
    # A quarter of a page takes a quarter of them, in a quarter of the time.
    page = Page(PAGE_SIZE // 4)
    write_to(page)
    duration = Histogram(
        DURATION,
        "Duration of HTTP requests.",
        sorted(REQUEST_LABELS),
        buckets=BUCKETS,
        registry=None,
    )
    for number in range(75):
        for status in 200, 400, 404, 422, 500:
            duration.labels("GET", f"/customers/{number}/orders", status).observe(1)
    assert len(list(page)) == 375 * (len(BUCKETS) + 2)
    assert log_records == []


# One process


def test_values_are_exported_with_labels(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    become_worker(shared, scoreboard, 0)
    orders = make_counter("drink")
    assert exported(shared) == {}
    orders.labels("tea").inc()
    orders.labels("tea").inc(2)
    orders.labels('"milk" {\\ 茶\n').inc(0.5)
    assert exported(shared) == {
        ("orders_total", "tea"): 3,
        ("orders_total", '"milk" {\\ 茶\n'): 0.5,
    }


def test_label_value_that_cannot_be_encoded_is_rejected_at_once(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    become_worker(shared, scoreboard, 0)
    with pytest.raises(UnicodeEncodeError):
        make_counter("drink").labels("\ud800")
    assert exported(shared) == {}


def test_exported_like_in_a_single_process(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    def measure() -> CollectorRegistry:
        registry = CollectorRegistry()
        seconds = Histogram("time", "Time.", ["a"], buckets=(0.5, 2.5, 10), registry=registry)
        for value in 0.4, 0.5, 0.6, 10.0, 11.0:
            seconds.labels("x").observe(value, exemplar={"trace": "17"})
        seconds.labels("y").observe(0.1)
        Counter("orders", "Orders.", registry=registry).inc(3, exemplar={"trace": "17"})
        size = Summary("size", "Size.", registry=registry)
        size.observe(1.5)
        size.observe(2)
        depth = Gauge("depth", "Depth.", multiprocess_mode="sum", registry=registry)
        depth.set(5)
        depth.dec(7)
        return registry

    disable_created_metrics()  # type: ignore[no-untyped-call]
    single = measure()
    become_worker(shared, scoreboard, 0)
    own, aggregated = measure(), CollectorRegistry()
    aggregated.register(shared)
    assert generate_latest(own) == generate_latest(aggregated) == generate_latest(single)


def test_increments_of_several_threads_are_not_lost() -> None:
    class SlowCells(list[float]):
        def __getitem__(self, index: Any) -> Any:
            value = super().__getitem__(index)
            time.sleep(0.001)
            return value

    class FakeWriter:
        lock = threading.Lock()

        def cell(self, key: SampleKey) -> tuple[SlowCells, int]:
            assert self.lock.locked()
            return SlowCells([0.0]), 0

    value = SharedValue(cast(PageWriter, FakeWriter()), "counter", "orders", "orders", (), (), "")
    threads = [threading.Thread(target=value.inc, args=(1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.get() == 20


# Several processes


def test_counters_of_all_processes_are_summed(
    shared: SharedMetrics, scoreboard: Scoreboard, workers: Workers
) -> None:
    def measure(count: int) -> None:
        orders = make_counter("drink")
        for _ in range(count):
            orders.labels("tea").inc()
        orders.labels(f"only of {count}").inc()

    for slot, count in enumerate((2000, 3000)):
        workers.start(scoreboard.claim(slot), partial(measure, count))
    workers.join()
    assert exported(shared) == {
        ("orders_total", "tea"): 5000,
        ("orders_total", "only of 2000"): 1,
        ("orders_total", "only of 3000"): 1,
    }


def test_counters_stay_exact_and_never_fall_when_workers_are_killed(
    shared: SharedMetrics, scoreboard: Scoreboard, workers: Workers
) -> None:
    done = [fork.Value("Q", 0, lock=False) for _ in range(4)]

    def measure(number: int) -> None:
        orders = make_counter()
        while True:
            orders.inc()
            done[number].value += 1

    counts = [0.0]

    def check_count() -> None:
        counts.append(exported(shared).get(("orders_total",), 0))
        assert counts[-1] >= counts[-2]

    def wait_until_busy(number: int) -> None:
        wait_for(lambda: done[number].value > 1000)
        check_count()

    rows = [scoreboard.claim(0), scoreboard.claim(1)]
    first = workers.start(rows[0], partial(measure, 0))
    workers.start(rows[1], partial(measure, 1))
    wait_until_busy(0)
    wait_until_busy(1)
    for successor in 2, 3:
        first.kill()
        first.join()
        check_count()
        scoreboard.release(rows[0])
        check_count()
        assert scoreboard.claim(1) is rows[0]
        check_count()
        first = workers.start(rows[0], partial(measure, successor))
        wait_until_busy(successor)
    workers.kill()
    check_count()
    total = sum(count.value for count in done)
    # Each of them may have been killed between its two increments.
    assert total <= counts[-1] <= total + len(done)


def test_counters_outlive_their_process_and_gauges_do_not(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    row = become_worker(shared, scoreboard, 0)
    make_counter().inc()
    make_gauge().set(5)
    assert exported(shared) == {("orders_total",): 1, ("depth", "0"): 5}
    scoreboard.release(row)
    assert exported(shared) == {("orders_total",): 1}
    # Nor does the next process inherit a gauge, while it starts and when it is ready.
    assert become_worker(shared, scoreboard, 1) is row
    row.set_state(State.STARTING)
    assert exported(shared) == {("orders_total",): 1}
    row.set_state(State.READY)
    assert exported(shared) == {("orders_total",): 1}
    assert make_gauge()
    assert exported(shared) == {("orders_total",): 1, ("depth", "1"): 0}


@pytest.mark.parametrize(
    ("state", "expected"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, True)]
)
def test_gauges_are_exported_while_their_process_serves(
    shared: SharedMetrics, scoreboard: Scoreboard, state: State, expected: bool
) -> None:
    row = become_worker(shared, scoreboard, 0)
    make_gauge().set(5)
    row.set_state(state)
    assert bool(exported(shared)) is expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", {("depth", "0"): 5, ("depth", "1"): 3}),
        ("sum", {("depth",): 8}),
        ("max", {("depth",): 5}),
        ("min", {("depth",): 3}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "live"])
def test_gauges_of_several_workers_follow_their_mode(
    shared: SharedMetrics,
    scoreboard: Scoreboard,
    mode: str,
    prefix: str,
    expected: dict[tuple[str, ...], float],
) -> None:
    for slot, depth in enumerate((5, 3)):
        become_worker(shared, scoreboard, slot)
        make_gauge(prefix + mode).set(depth)
    assert exported(shared) == expected


@pytest.mark.parametrize("mode", ["mostrecent", "livemostrecent"])
def test_mode_mostrecent_is_rejected(
    shared: SharedMetrics, scoreboard: Scoreboard, mode: str
) -> None:
    become_worker(shared, scoreboard, 0)
    with pytest.raises(ValueError, match=f"depth: {mode} is not supported with several workers"):
        make_gauge(mode)
    assert exported(shared) == {}


def test_label_worker_is_reserved_for_gauges_of_each_worker(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    become_worker(shared, scoreboard, 0)
    with pytest.raises(ValueError, match="open: the label 'worker' is reserved"):
        Gauge("open", "Open.", ["worker"], registry=None).labels("a")
    Gauge("sum", "Sum.", ["worker"], multiprocess_mode="sum", registry=None).labels("a").set(3)
    assert exported(shared) == {("sum", "a"): 3}


def test_sum_of_fractions_never_falls(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    rows = [become_worker(shared, scoreboard, slot) for slot in range(3)]
    for row, amount in zip(rows, [0.1, 0.2, 0.3], strict=True):
        shared.attach(row)
        make_counter().inc(amount)
    sums = set()
    for states in itertools.product([State.READY, State.DRAINING], repeat=3):
        for row, state in zip(rows, states, strict=True):
            row.set_state(state)
        sums |= set(exported(shared).values())
    assert len(sums) == 1


def test_metrics_created_before_fork_can_be_created_again(scoreboard: Scoreboard) -> None:
    registry = CollectorRegistry()
    registry.register(PROCESS_COLLECTOR)
    for name in "first", "second", "library":
        Gauge(name, "Created before the workers.", registry=registry)
    shared = SharedMetrics(scoreboard.rows, registry)
    become_worker(shared, scoreboard, 0)
    assert shared.created_before_fork() == ["first", "library", "second"]
    for name in "first", "second":
        Gauge(name, "Created in a worker.", registry=registry, multiprocess_mode="sum").set(1)
    assert shared.created_before_fork() == ["library"]
    assert exported(shared) == {("first",): 1, ("second",): 1}
    registry.unregister(PROCESS_COLLECTOR)  # as some services do


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("mode", "expected"), [("all", 3), ("sum", 8)])
def test_during_a_reload_the_gauge_of_a_worker_is_that_of_its_successor(
    shared: SharedMetrics,
    scoreboard: Scoreboard,
    order: tuple[int, ...],
    mode: str,
    expected: float,
) -> None:
    rows = [become_worker(shared, scoreboard, 0) for _ in range(2)]
    states, depths = [State.DRAINING, State.READY], [5, 3]
    for row, which in zip(rows, order, strict=True):
        shared.attach(row)
        make_gauge(mode).set(depths[which])
        row.set_state(states[which])
    assert [*exported(shared).values()] == [expected]


def test_admin_process_exports_counters_but_no_gauges(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    become_worker(shared, scoreboard, 0)
    make_gauge("min").set(5)
    become_worker(shared, scoreboard, ADMIN_SLOT)
    make_gauge("min")
    make_gauge().set(7)
    make_counter().inc()
    assert exported(shared) == {("depth",): 5, ("orders_total",): 1}


def test_every_row_has_a_page(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    for row in scoreboard.rows:
        shared.attach(row)
        make_counter().inc()
    assert exported(shared) == {("orders_total",): len(scoreboard.rows)}
