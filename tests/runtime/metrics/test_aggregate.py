"""Aggregation of the samples of several workers."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from runtime.metrics.aggregate import SampleKey, aggregate, parse_key

Triples = list[tuple[SampleKey, int, float]]
"""Key, worker and value, as the pages have them."""


def key(sample: str, kind: str = "counter", mode: str = "", **labels: str) -> SampleKey:
    metric, _, _ = sample.partition("_")
    return SampleKey(metric, kind, f"Help for {metric}.", mode, sample, tuple(labels.items()))


def aggregated(triples: Triples) -> dict[tuple[str, ...], float]:
    """Return the aggregated samples by their names and the values of their labels."""
    samples = [sample for family in aggregate(triples) for sample in family.samples]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def test_no_samples_are_no_metrics() -> None:
    assert aggregated([]) == {}


def test_counters_are_summed_by_labels() -> None:
    tea, milk = key("orders_total", drink="tea"), key("orders_total", drink="milk")
    assert aggregated([(tea, 0, 1), (milk, 0, 10), (tea, 1, 2), (tea, 2, 4), (milk, 2, 20)]) == {
        ("orders_total", "tea"): 7,
        ("orders_total", "milk"): 30,
    }


def test_metrics_stay_apart() -> None:
    triples: Triples = [(key("orders_total"), 0, 1), (key("bills_total"), 0, 2)]
    families = list(aggregate([*triples, *triples]))
    assert [(family.name, family.type, family.documentation) for family in families] == [
        ("orders", "counter", "Help for orders."),
        ("bills", "counter", "Help for bills."),
    ]
    assert [[sample.value for sample in family.samples] for family in families] == [[2], [4]]


def test_changed_help_text_does_not_split_a_counter() -> None:
    before = key("orders_total")
    after = before._replace(help="Another text.")
    assert aggregated([(before, 0, 1), (after, 1, 2)]) == {("orders_total",): 3}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", {("depth", "a", "0"): 3, ("depth", "a", "1"): 5, ("depth", "b", "0"): 7}),
        ("sum", {("depth", "a"): 8, ("depth", "b"): 7}),
        ("max", {("depth", "a"): 5, ("depth", "b"): 7}),
        ("min", {("depth", "a"): 3, ("depth", "b"): 7}),
    ],
)
def test_gauges_are_aggregated_by_mode(mode: str, expected: dict[tuple[str, ...], float]) -> None:
    a, b = (key("depth", "gauge", mode, queue=queue) for queue in ("a", "b"))
    triples: Triples = [(a, 0, 3), (b, 0, 7), (a, 1, 5)]
    assert aggregated(triples) == aggregated(triples[::-1]) == expected


def test_last_process_of_a_worker_determines_its_gauge() -> None:
    depth = key("depth", "gauge", "all")
    assert aggregated([(depth, 0, 3), (depth, 0, 5)]) == {("depth", "0"): 5}


def histogram(worker: int, counts: dict[str, float], total: float, **labels: str) -> Triples:
    """Return what one worker has measured. Its buckets are not cumulative."""
    bucket, sum_ = key("time_bucket", "histogram", **labels), key("time_sum", "histogram", **labels)
    buckets = [
        (bucket._replace(labels=(*bucket.labels, ("le", le))), worker, count)
        for le, count in counts.items()
    ]
    return [(sum_, worker, total), *buckets]


def test_buckets_become_cumulative() -> None:
    triples = [
        *histogram(0, {"0.5": 1, "2.5": 2, "10.0": 4, "+Inf": 8}, 30.5),
        *histogram(1, {"10.0": 40, "+Inf": 80, "0.5": 10, "2.5": 20}, 300),
    ]
    assert aggregated(triples) == {
        ("time_bucket", "0.5"): 11,
        ("time_bucket", "2.5"): 33,
        ("time_bucket", "10.0"): 77,
        ("time_bucket", "+Inf"): 165,
        ("time_count",): 165,
        ("time_sum",): 330.5,
    }


def test_incomplete_histogram_is_left_out() -> None:
    partial = histogram(0, {"0.5": 1, "1.0": 2}, 3.5, path="/")
    complete = histogram(0, {"0.5": 1, "+Inf": 2}, 3.5, path="/long")
    assert {labels[1] for labels in aggregated([*partial, *complete])} == {"/long"}


def test_histograms_with_different_labels_stay_apart() -> None:
    triples = [
        *histogram(0, {"1.0": 1, "+Inf": 2}, 5, route="/b", method="GET"),
        *histogram(0, {"1.0": 10, "+Inf": 20}, 50, route="/a", method="GET"),
        *histogram(1, {"1.0": 100, "+Inf": 200}, 500, route="/b", method="GET"),
    ]
    assert aggregated(triples) == {
        ("time_bucket", "/b", "GET", "1.0"): 101,
        ("time_bucket", "/b", "GET", "+Inf"): 303,
        ("time_count", "/b", "GET"): 303,
        ("time_sum", "/b", "GET"): 505,
        ("time_bucket", "/a", "GET", "1.0"): 10,
        ("time_bucket", "/a", "GET", "+Inf"): 30,
        ("time_count", "/a", "GET"): 30,
        ("time_sum", "/a", "GET"): 50,
    }


def test_count_and_sum_of_a_summary_are_summed() -> None:
    count, total = key("size_count", "summary"), key("size_sum", "summary")
    assert aggregated([(count, 0, 1), (total, 0, 10), (count, 1, 2), (total, 1, 20)]) == {
        ("size_count",): 3,
        ("size_sum",): 30,
    }


class AggregateCollector(Collector):
    def __init__(self, triples: Triples) -> None:
        self._triples = triples

    def collect(self) -> list[Metric]:
        return list(aggregate(self._triples))


def test_aggregate_is_valid_openmetrics() -> None:
    registry = CollectorRegistry()
    triples = [
        *histogram(0, {"1.0": 1, "+Inf": 2}, 5, route="/b"),
        *histogram(0, {"1.0": 10, "+Inf": 20}, 50, route="/a"),
        (key("depth", "gauge", "all", queue="a"), 0, 3),
        (key("depth", "gauge", "all", queue="b"), 0, 4),
        (key("depth", "gauge", "all", queue="a"), 1, 5),
        (key("orders_total", drink='"tea"\\\n'), 0, 7),
    ]
    registry.register(AggregateCollector(triples))
    page = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    families: list[Any] = list(text_string_to_metric_families(page))  # type: ignore[no-untyped-call]
    assert [len(family.samples) for family in families] == [8, 3, 1]
    assert families[2].samples[0].labels == {"drink": '"tea"\\\n'}


def test_key_survives_json() -> None:
    written = key("orders_total", drink='a "cup" of {tea}, \\ 茶 \n', size="big")
    assert parse_key(json.dumps(written).encode()) == written
    assert parse_key(json.dumps(key("orders_total")).encode()) == key("orders_total")
