import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from runtime.metrics.aggregate import (
    SampleKey,
    aggregate,
    parse_key,
)

PageWriter = list[tuple[SampleKey, int, float]]


def key(sample: str, kind: str = "counter", mode: str = "", **labels: str) -> SampleKey:
    metric, _, _ = sample.partition("_")
    return SampleKey(metric, kind, f"Help for {metric}.", mode, sample, tuple(labels.items()))


def merged(numbers: PageWriter) -> dict[tuple[str, ...], float]:
    """Return the merged samples by their names and the values of their labels."""
    everything = [one for family in aggregate(numbers) for one in family.samples]
    found = {(one.name, *one.labels.values()): one.value for one in everything}
    assert len(found) == len(everything)
    return found


def test_nothing_makes_nothing() -> None:
    assert merged([]) == {}


def test_counters_are_added_up_label_by_label() -> None:
    tea, milk = key("orders_total", drink="tea"), key("orders_total", drink="milk")
    assert merged([(tea, 0, 1), (milk, 0, 10), (tea, 1, 2), (tea, 2, 4), (milk, 2, 20)]) == {
        ("orders_total", "tea"): 7,
        ("orders_total", "milk"): 30,
    }


def test_metrics_do_not_mix() -> None:
    numbers: PageWriter = [(key("orders_total"), 0, 1), (key("bills_total"), 0, 2)]
    families = list(aggregate([*numbers, *numbers]))
    assert [(one.name, one.type, one.documentation) for one in families] == [
        ("orders", "counter", "Help for orders."),
        ("bills", "counter", "Help for bills."),
    ]
    assert [[sample.value for sample in one.samples] for one in families] == [[2], [4]]


def test_a_text_that_a_reload_has_changed_does_not_divide_a_counter() -> None:
    before = key("orders_total")
    after = before._replace(help="Another text.")
    assert merged([(before, 0, 1), (after, 1, 2)]) == {("orders_total",): 3}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", {("depth", "a", "0"): 3, ("depth", "a", "1"): 5, ("depth", "b", "0"): 7}),
        ("sum", {("depth", "a"): 8, ("depth", "b"): 7}),
        ("max", {("depth", "a"): 5, ("depth", "b"): 7}),
        ("min", {("depth", "a"): 3, ("depth", "b"): 7}),
    ],
)
def test_a_gauge_is_listed_added_up_or_compared(
    mode: str, expected: dict[tuple[str, ...], float]
) -> None:
    a, b = (key("depth", "gauge", mode, queue=queue) for queue in ("a", "b"))
    numbers: PageWriter = [(a, 0, 3), (b, 0, 7), (a, 1, 5)]
    assert merged(numbers) == merged(numbers[::-1]) == expected


def test_of_two_processes_of_a_worker_the_last_says_what_a_listed_gauge_is() -> None:
    depth = key("depth", "gauge", "all")
    assert merged([(depth, 0, 3), (depth, 0, 5)]) == {("depth", "0"): 5}


def histogram(worker: int, counts: dict[str, float], total: float, **labels: str) -> PageWriter:
    """Make what one worker has measured: buckets that count for themselves."""
    bucket, sum_ = key("time_bucket", "histogram", **labels), key("time_sum", "histogram", **labels)
    buckets = [
        (bucket._replace(labels=(*bucket.labels, ("le", le))), worker, count)
        for le, count in counts.items()
    ]
    return [(sum_, worker, total), *buckets]


def test_buckets_include_all_that_are_smaller() -> None:
    numbers = [
        *histogram(0, {"0.5": 1, "2.5": 2, "10.0": 4, "+Inf": 8}, 30.5),
        *histogram(1, {"10.0": 40, "+Inf": 80, "0.5": 10, "2.5": 20}, 300),
    ]
    assert merged(numbers) == {
        ("time_bucket", "0.5"): 11,
        ("time_bucket", "2.5"): 33,
        ("time_bucket", "10.0"): 77,
        ("time_bucket", "+Inf"): 165,
        ("time_count",): 165,
        ("time_sum",): 330.5,
    }


def test_a_histogram_that_found_no_room_for_all_its_buckets_is_not_shown() -> None:
    part = histogram(0, {"0.5": 1, "1.0": 2}, 3.5, path="/")
    whole = histogram(0, {"0.5": 1, "+Inf": 2}, 3.5, path="/long")
    assert {labels[1] for labels in merged([*part, *whole])} == {"/long"}


def test_histograms_with_other_labels_stay_apart() -> None:
    numbers = [
        *histogram(0, {"1.0": 1, "+Inf": 2}, 5, route="/b", method="GET"),
        *histogram(0, {"1.0": 10, "+Inf": 20}, 50, route="/a", method="GET"),
        *histogram(1, {"1.0": 100, "+Inf": 200}, 500, route="/b", method="GET"),
    ]
    assert merged(numbers) == {
        ("time_bucket", "/b", "GET", "1.0"): 101,
        ("time_bucket", "/b", "GET", "+Inf"): 303,
        ("time_count", "/b", "GET"): 303,
        ("time_sum", "/b", "GET"): 505,
        ("time_bucket", "/a", "GET", "1.0"): 10,
        ("time_bucket", "/a", "GET", "+Inf"): 30,
        ("time_count", "/a", "GET"): 30,
        ("time_sum", "/a", "GET"): 50,
    }


def test_the_count_and_the_sum_of_a_summary_are_added_up() -> None:
    count, total = key("size_count", "summary"), key("size_sum", "summary")
    assert merged([(count, 0, 1), (total, 0, 10), (count, 1, 2), (total, 1, 20)]) == {
        ("size_count",): 3,
        ("size_sum",): 30,
    }


class Given(Collector):
    def __init__(self, numbers: PageWriter) -> None:
        self._numbers = numbers

    def collect(self) -> list[Metric]:
        return list(aggregate(self._numbers))


def test_the_strictest_format_can_be_made_of_it() -> None:
    registry = CollectorRegistry()
    numbers = [
        *histogram(0, {"1.0": 1, "+Inf": 2}, 5, route="/b"),
        *histogram(0, {"1.0": 10, "+Inf": 20}, 50, route="/a"),
        (key("depth", "gauge", "all", queue="a"), 0, 3),
        (key("depth", "gauge", "all", queue="b"), 0, 4),
        (key("depth", "gauge", "all", queue="a"), 1, 5),
        (key("orders_total", drink='"tea"\\\n'), 0, 7),
    ]
    registry.register(Given(numbers))
    page = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    families: list[Any] = list(text_string_to_metric_families(page))  # type: ignore[no-untyped-call]
    assert [len(one.samples) for one in families] == [8, 3, 1]
    assert families[2].samples[0].labels == {"drink": '"tea"\\\n'}


def test_a_key_is_what_it_was_when_it_was_written() -> None:
    written = key("orders_total", drink='a "cup" of {tea}, \\ 茶 \n', size="big")
    assert parse_key(json.dumps(written).encode()) == written
    assert parse_key(json.dumps(key("orders_total")).encode()) == key("orders_total")
