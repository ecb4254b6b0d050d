"""The details of a process in shared memory."""

import pytest
from runtime.status import ProcessDetails, ResourceCheck
from runtime.workers import details as module
from runtime.workers.details import decode, encode
from runtime.workers.scoreboard import DETAILS_SIZE, Scoreboard

from tests.runtime.support.clock import FakeClock

DETAILS = ProcessDetails(
    "1.0",
    "g0123456",
    (
        ResourceCheck("orders", True, "", unchanged_for=5.0, checked_ago=2.0),
        ResourceCheck("cache", False, "OSError: \udcff weg", unchanged_for=1.0),
    ),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, module)


@pytest.mark.usefixtures("clock")
def test_details_are_read_as_they_were_written() -> None:
    assert decode(encode(DETAILS, DETAILS_SIZE)) == DETAILS
    assert decode(encode(ProcessDetails(), DETAILS_SIZE)) == ProcessDetails()
    assert decode(b"") == ProcessDetails()


def test_times_are_those_of_reading(clock: FakeClock) -> None:
    text = encode(DETAILS, DETAILS_SIZE)
    clock.now += 3
    passing, unknown = decode(text).checks
    assert (passing.unchanged_for, passing.checked_ago) == (8.0, 5.0)
    assert (unknown.unchanged_for, unknown.checked_ago) == (4.0, None)


@pytest.mark.parametrize("count", [1, 60, 10_000])
def test_checks_that_do_not_fit_are_left_out_those_that_pass_first(count: int) -> None:
    def check(number: int) -> ResourceCheck:
        is_last = number == count - 1
        return ResourceCheck(f"{number:0100}", not is_last, "\N{SNOWMAN}" * 200, 1.0, 1.0)

    row = Scoreboard(1).claim(0)
    row.set_details(ProcessDetails("1.0", checks=tuple(map(check, range(count)))))
    found = row.details
    assert found.version == "1.0"
    assert 1 <= len(found.checks) <= min(count, 12)
    assert not found.checks[0].passing
    assert found.checks[0].resource == f"{count - 1:0100}"
