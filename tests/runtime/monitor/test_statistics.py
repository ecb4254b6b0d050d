"""Responses and their durations."""

import random
from statistics import quantiles

import pytest
from runtime.monitor.statistics import (
    BOUNDS,
    SIZE,
    RequestStatistics,
    errors,
    quantile,
    responses,
)


def test_nothing_is_counted_initially() -> None:
    cells = RequestStatistics().cells
    assert len(cells) == SIZE
    assert (responses(cells), errors(cells), quantile(cells, 0.5)) == (0, 0, None)


def test_responses_and_errors_are_counted() -> None:
    statistics = RequestStatistics()
    for status in (101, 200, 204, 304, 404, 499, 500, 503, 999):
        statistics.record(status, 0.01)
    assert responses(statistics.cells) == 9
    assert errors(statistics.cells) == 3


def test_next_process_goes_on_counting_in_the_same_cells() -> None:
    first = RequestStatistics()
    first.record(200, 0.1)
    second = RequestStatistics(first.cells)
    second.record(200, 0.1)
    assert responses(second.cells) == 2


@pytest.mark.parametrize("seconds", [0.0, 1e-9, BOUNDS[0], BOUNDS[30], 0.02, 3.0, BOUNDS[-1]])
@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_duration_that_all_have_is_found(seconds: float, count: int, share: float) -> None:
    statistics = RequestStatistics()
    for _ in range(count):
        statistics.record(200, seconds)
    assert quantile(statistics.cells, share) == pytest.approx(seconds, rel=0.1, abs=BOUNDS[0])


def test_duration_beyond_all_buckets_is_the_last_bound() -> None:
    statistics = RequestStatistics()
    statistics.record(200, 1e9)
    assert quantile(statistics.cells, 0.99) == BOUNDS[-1]


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_quantiles_of_many_durations(share: float) -> None:
    statistics = RequestStatistics()
    durations = [random.Random(number).lognormvariate(-4, 1) for number in range(5_000)]
    for seconds in durations:
        statistics.record(200, seconds)
    exact = quantiles(durations, n=100)[round(100 * share) - 1]
    assert quantile(statistics.cells, share) == pytest.approx(exact, rel=0.1)
