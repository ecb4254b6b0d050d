import asyncio
import itertools
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
    values,
)

from runtime.metrics.aggregate import SampleKey
from runtime.metrics.requests import DURATION
from runtime.workers.scoreboard import (
    ADMIN_SLOT,
    Row,
    Scoreboard,
)
from runtime.metrics.shared import (
    PageWriter,
    Page,
    SharedValue,
    SharedMetrics,
)
from runtime.status import State

from .conftest import ServiceStarter
from .support import WAIT_TIMEOUT, SERVICE, Record, RawConnection, wait_until
from .test_logwriter import wait_for
from .test_metrics import CONTRACT, NAME, labels, samples, scrape
from .test_supervisor import all_ready, failures, ready, service, stop, write_code

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _values_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)


@pytest.fixture
def scoreboard() -> Scoreboard:
    return Scoreboard(2)


@pytest.fixture
def shared(scoreboard: Scoreboard) -> SharedMetrics:
    return SharedMetrics(scoreboard)


def shown(shared: SharedMetrics) -> dict[tuple[str, ...], float]:
    """Return the samples by their names and the values of their labels."""
    everything = [one for family in shared.collect() for one in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in everything}


def begin(shared: SharedMetrics, scoreboard: Scoreboard, slot: int) -> Row:
    """Give this process the row of a slot, as if it were a worker that is ready."""
    row = scoreboard.take(slot)
    shared.attach(row)
    row.report(State.READY)
    return row


def counter(*labels: str) -> Counter:
    """Make a counter as if in a process of its own: it is not registered anywhere."""
    return Counter("orders", "Orders.", labels, registry=None)


def gauge(mode: Any = "all") -> Gauge:
    return Gauge("depth", "Depth.", multiprocess_mode=mode, registry=None)


class Workers:
    """Processes that have a row each, and measure."""

    def __init__(self, shared: SharedMetrics) -> None:
        self._shared = shared
        self.processes: list[BaseProcess] = []

    def __call__(self, row: Row, measure: Callable[[], None]) -> BaseProcess:
        def work() -> None:
            self._shared.attach(row)
            row.report(State.READY)
            measure()

        process = fork.ServiceProcess(target=work)
        process.start()
        self.processes.append(process)
        return process


@pytest.fixture
def start_worker(shared: SharedMetrics) -> Iterator[Workers]:
    workers = Workers(shared)
    yield workers
    for process in workers.processes:
        process.kill()
        process.join()


def end(process: BaseProcess) -> None:
    process.join(WAIT_TIMEOUT)
    assert process.exitcode == 0


# Pages


def test_a_page_has_room_for_numbers_until_it_is_full() -> None:
    page = Page(8 * 8)
    assert list(page) == []
    places = [page.add(name) for name in (b"tea", b"12345678", b"too long now", b"")]
    assert places == [1, 4, 0, 0]
    assert list(page) == [(b"tea", 1), (b"12345678", 4)]
    page.numbers[1], page.numbers[4] = 1.5, math.inf
    assert list(page) == [(b"tea", 1), (b"12345678", 4)]
    assert [page.numbers[place] for _, place in page] == [1.5, math.inf]


def test_a_page_may_be_full_to_the_last_word() -> None:
    page = Page(4 * 8)
    assert page.add(b"tea") == 1
    assert page.add(b"") == 0
    assert Page(3 * 8).add(b"tea") == 0


def test_an_entry_that_was_never_completed_is_not_there() -> None:
    page = Page(256)
    page.add(b"tea")
    page.numbers[4] = 17.0
    with pytest.raises(TypeError):
        page.add(cast(bytes, "dies while it writes the key"))
    assert list(page) == [(b"tea", 1)]
    assert page.add(b"milk") == 4
    assert list(page) == [(b"tea", 1), (b"milk", 4)]
    assert page.numbers[4] == 0.0


# One process


def test_what_a_process_measures_is_shown(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    begin(shared, scoreboard, 0)
    orders = counter("drink")
    assert shown(shared) == {}
    orders.labels("tea").inc()
    orders.labels("tea").inc(2)
    orders.labels('"milk" {\\ 茶\n').inc(0.5)
    assert shown(shared) == {
        ("orders_total", "tea"): 3,
        ("orders_total", '"milk" {\\ 茶\n'): 0.5,
    }


@pytest.fixture
def _without_created() -> Iterator[None]:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    yield
    enable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("_without_created")
def test_it_is_what_one_process_alone_would_show(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
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

    alone = measure()
    begin(shared, scoreboard, 0)
    own, everybody = measure(), CollectorRegistry()
    everybody.register(shared)
    assert generate_latest(own) == generate_latest(everybody) == generate_latest(alone)


def test_what_its_threads_measure_is_not_lost() -> None:
    class Slow(list[float]):
        def __getitem__(self, place: Any) -> Any:
            value = super().__getitem__(place)
            time.sleep(0.001)
            return value

    class Cells:
        lock = threading.Lock()

        def cell(self, key: SampleKey) -> tuple[Slow, int]:
            assert self.lock.locked()
            return Slow([0.0]), 0

    value = SharedValue(cast(PageWriter, Cells()), "counter", "orders", "orders", (), (), "")
    threads = [threading.Thread(target=value.inc, args=(1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.get() == 20


def test_what_finds_no_room_is_told_once_and_works_all_the_same(log_records: list[Record]) -> None:
    page = Page(1024)
    values.ValueClass = partial(SharedValue, PageWriter(page))
    registry = CollectorRegistry()
    orders = Counter("orders", "Orders.", ["number"], registry=registry)
    for number in range(20):
        orders.labels(number).inc(number)
        orders.labels(number).inc()
    assert 0 < len(list(page)) < 20
    for number in range(20):
        assert registry.get_sample_value("orders_total", {"number": str(number)}) == number + 1
    assert [(one["level"], one["message"]) for one in log_records] == [
        ("error", "no room for more labels: new ones, now of orders, do not count before a restart")
    ]


def test_whoever_counts_records_may_count_the_one_that_tells_it(log_records: list[Record]) -> None:
    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.labels(record.levelname).inc()

    values.ValueClass = partial(SharedValue, PageWriter(Page(64)))
    registry = CollectorRegistry()
    records = Counter("records", "Records.", ["level"], registry=registry)
    logging.getLogger().addHandler(handler := Counting())
    try:
        Counter("orders", "Orders.", registry=None).inc()
    finally:
        logging.getLogger().removeHandler(handler)
    assert registry.get_sample_value("records_total", {"level": "ERROR"}) == 1
    assert len(log_records) == 1


def test_what_cannot_be_written_is_refused_where_it_is_made(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    begin(shared, scoreboard, 0)
    with pytest.raises(UnicodeEncodeError):
        counter("drink").labels("\ud800")
    assert shown(shared) == {}


def test_there_is_room_for_the_answers_of_a_large_service(
    shared: SharedMetrics, scoreboard: Scoreboard, log_records: list[Record]
) -> None:
    begin(shared, scoreboard, 0)
    duration = Histogram(
        DURATION._name,
        DURATION._documentation,
        DURATION._labelnames,
        buckets=DURATION._upper_bounds,
        registry=None,
    )
    for number in range(300):
        for status in 200, 400, 404, 422, 500:
            duration.labels("GET", f"/customers/{number}/orders", status).observe(1)
    counts = [value for (name, *_), value in shown(shared).items() if name.endswith("_count")]
    assert counts == [1] * 1500
    assert log_records == []


# Several processes


def test_what_all_processes_count_is_added_up(
    shared: SharedMetrics, scoreboard: Scoreboard, start_worker: Workers
) -> None:
    def measure(count: int) -> None:
        orders = counter("drink")
        for _ in range(count):
            orders.labels("tea").inc()
        orders.labels(f"only of {count}").inc()

    for slot, count in enumerate((2000, 3000)):
        start_worker(scoreboard.take(slot), partial(measure, count))
    for process in start_worker.processes:
        end(process)
    assert shown(shared) == {
        ("orders_total", "tea"): 5000,
        ("orders_total", "only of 2000"): 1,
        ("orders_total", "only of 3000"): 1,
    }


def test_nothing_is_lost_by_death_and_nothing_is_counted_twice(
    shared: SharedMetrics, scoreboard: Scoreboard, start_worker: Workers
) -> None:
    done = [fork.Value("Q", 0, lock=False) for _ in range(4)]

    def measure(number: int) -> None:
        orders = counter()
        while True:
            orders.inc()
            done[number].value += 1

    rows = [scoreboard.take(0), scoreboard.take(1)]
    counts = [0.0]

    def look() -> None:
        counts.append(shown(shared).get(("orders_total",), 0))
        assert counts[-1] >= counts[-2]

    def wait_until_busy(number: int) -> None:
        wait_for(lambda: done[number].value > 1000)
        look()

    first, second = (start_worker(rows[slot], partial(measure, slot)) for slot in (0, 1))
    wait_until_busy(0)
    wait_until_busy(1)
    for successor in 2, 3:
        first.kill()
        first.join()
        look()
        scoreboard.release(rows[0])
        look()
        assert scoreboard.take(1) is rows[0]
        look()
        first = start_worker(rows[0], partial(measure, successor))
        wait_until_busy(successor)
    for process in first, second:
        process.kill()
        process.join()
    look()
    total = sum(one.value for one in done)
    # Each of them may have been killed between the two.
    assert total <= counts[-1] <= total + len(done)


def test_what_has_been_made_before_needs_no_more_room() -> None:
    page = Page(1024)
    for _ in range(3):
        values.ValueClass = partial(SharedValue, PageWriter(page))
        orders = counter("drink")
        orders.labels("tea").inc()
        orders.labels("milk").inc(10)
        counter("drink").labels("milk").inc(10)
    assert [page.numbers[place] for _, place in page] == [3, 60]


def test_counters_of_whoever_is_there_no_more_are_shown_and_gauges_are_not(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    row = begin(shared, scoreboard, 0)
    counter().inc()
    gauge().set(5)
    assert shown(shared) == {("orders_total",): 1, ("depth", "0"): 5}
    scoreboard.release(row)
    assert shown(shared) == {("orders_total",): 1}
    # Nor are they while the next one starts, nor when it is ready and has none.
    assert begin(shared, scoreboard, 1) is row
    row.report(State.STARTING)
    assert shown(shared) == {("orders_total",): 1}
    row.report(State.READY)
    assert shown(shared) == {("orders_total",): 1}
    assert gauge()
    assert shown(shared) == {("orders_total",): 1, ("depth", "1"): 0}


@pytest.mark.parametrize(
    ("state", "expected"), [(State.STARTING, False), (State.READY, True), (State.DRAINING, True)]
)
def test_gauges_are_those_of_processes_that_serve(
    shared: SharedMetrics, scoreboard: Scoreboard, state: State, expected: bool
) -> None:
    row = begin(shared, scoreboard, 0)
    gauge().set(5)
    row.report(state)
    assert bool(shown(shared)) is expected


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
def test_gauges_of_several_workers(
    shared: SharedMetrics,
    scoreboard: Scoreboard,
    mode: str,
    prefix: str,
    expected: dict[tuple[str, ...], float],
) -> None:
    for slot, depth in enumerate((5, 3)):
        begin(shared, scoreboard, slot)
        gauge(prefix + mode).set(depth)
    assert shown(shared) == expected


@pytest.mark.parametrize("mode", ["mostrecent", "livemostrecent"])
def test_which_gauge_was_set_last_nobody_knows(
    shared: SharedMetrics, scoreboard: Scoreboard, mode: str
) -> None:
    begin(shared, scoreboard, 0)
    with pytest.raises(ValueError, match=f"depth: {mode} is not for several workers"):
        gauge(mode)
    assert shown(shared) == {}


def test_a_listed_gauge_has_no_label_worker_of_its_own(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    begin(shared, scoreboard, 0)
    with pytest.raises(ValueError, match="open: the label worker is taken"):
        Gauge("open", "Open.", ["worker"], registry=None).labels("a")
    Gauge("sum", "Sum.", ["worker"], multiprocess_mode="sum", registry=None).labels("a").set(3)
    assert shown(shared) == {("sum", "a"): 3}


def test_a_sum_of_fractions_never_falls(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    rows = [begin(shared, scoreboard, slot) for slot in range(3)]
    for row, amount in zip(rows, [0.1, 0.2, 0.3], strict=True):
        shared.attach(row)
        counter().inc(amount)
    sums = set()
    for states in itertools.product([State.READY, State.DRAINING], repeat=3):
        for row, state in zip(rows, states, strict=True):
            row.report(state)
        sums |= set(shown(shared).values())
    assert len(sums) == 1


def test_what_was_made_too_early_is_told(scoreboard: Scoreboard, log_records: list[Record]) -> None:
    early = Counter("early", "Made before the workers.")
    try:
        SharedMetrics(scoreboard)
    finally:
        REGISTRY.unregister(early)
    assert "metrics made before the workers, so not shown: " in log_records[0]["message"]
    assert "early" in log_records[0]["message"]
    assert "python_info" not in log_records[0]["message"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("mode", "expected"), [("all", 3), ("sum", 8)])
def test_during_a_reload_a_listed_gauge_is_the_successors(
    shared: SharedMetrics, scoreboard: Scoreboard, order: tuple[int, ...], mode: str, expected: float
) -> None:
    rows = [begin(shared, scoreboard, 0) for _ in range(2)]
    states, depths = [State.DRAINING, State.READY], [5, 3]
    for row, one in zip(rows, order, strict=True):
        shared.attach(row)
        gauge(mode).set(depths[one])
        row.report(states[one])
    assert [*shown(shared).values()] == [expected]


def test_the_process_of_the_admin_port_is_no_worker(
    shared: SharedMetrics, scoreboard: Scoreboard
) -> None:
    begin(shared, scoreboard, 0)
    gauge("min").set(5)
    begin(shared, scoreboard, ADMIN_SLOT)
    gauge("min")
    gauge().set(7)
    counter().inc()
    assert shown(shared) == {("depth",): 5, ("orders_total",): 1}


def test_every_row_has_a_page(shared: SharedMetrics, scoreboard: Scoreboard) -> None:
    for row in scoreboard.rows:
        shared.attach(row)
        counter().inc()
    assert shown(shared) == {("orders_total",): len(scoreboard.rows)}


# The service


async def test_all_workers_show_what_one_process_alone_shows(start_service: ServiceStarter) -> None:
    process = start_service(SERVICE, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    async with RawConnection(port) as wire:
        await wire.get("/nowhere")
    families = await scrape(admin_port)
    found = labels(families)
    assert found.items() >= CONTRACT.items()
    assert not [name for name in found if name.endswith("_created") or name[:7] == "python_"]
    for name, names in CONTRACT.items():
        if names == {"worker"}:
            assert set(samples(families, name)) == {("0",), ("1",)}
    assert samples(families, "workers_ready") == {(): 2}
    assert samples(families, "worker_restarts_total") == {("0",): 0, ("1",): 0}
    await stop(process)


FEATURE = """
    from prometheus_client import Counter, Gauge
    Counter("brewed", "{text}").inc()
    Gauge("brewer", "Process.").set(os.getpid())
"""


async def test_metrics_of_a_feature_are_shown(start_service: ServiceStarter, tmp_path: Path) -> None:
    write_code(tmp_path, "first", FEATURE.format(text="Tea."))
    process = start_service(service(tmp_path), workers=2)
    _, admin_port = await process.ports()
    _, *workers = await all_ready(process)
    families = await scrape(admin_port)
    assert samples(families, "brewed_total") == {(): 2}
    assert samples(families, "brewer") == {("0",): workers[0], ("1",): workers[1]}
    write_code(tmp_path, "the second", FEATURE.format(text="Tea and coffee."))
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    _, *workers = await all_ready(process, 2)
    families = await scrape(admin_port)
    assert samples(families, "brewed_total") == {(): 4}
    assert samples(families, "brewer") == {("0",): workers[0], ("1",): workers[1]}
    await stop(process)
    assert failures(process) == []


async def test_every_answer_counts_through_deaths_and_reloads(start_service: ServiceStarter) -> None:
    process = start_service(SERVICE, workers=2)
    port, admin_port = await process.ports()
    await all_ready(process)
    asked = 0

    async def counted() -> float:
        return samples(await scrape(admin_port), f"{NAME}_count").get(("GET", "404", "none"), 0)

    async def ask() -> None:
        nonlocal asked
        for _ in range(30):
            async with RawConnection(port) as wire:
                assert (await wire.get("/nowhere")).status == 404
            asked += 1
        async with asyncio.timeout(WAIT_TIMEOUT):
            while await counted() < asked:
                pass
        assert await counted() == asked

    await ask()
    os.kill(ready(process, "worker 1")[-1], signal.SIGKILL)
    await wait_until(lambda: len(ready(process, "worker 1")) == 2)
    await ask()
    process.signal(signal.SIGHUP)
    await process.logged("reloaded")
    await ask()
    families = await scrape(admin_port)
    assert samples(families, "worker_restarts_total") == {("0",): 0, ("1",): 1}
    assert len(samples(families, f"{NAME}_count")) == 1
    await stop(process)
    assert len(failures(process)) == 1
