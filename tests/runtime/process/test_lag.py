import pytest

from runtime import lag as module
from runtime.process.lag import WINDOW, Lag

from .test_systemd import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, module)


def test_at_first_nothing_was_late() -> None:
    assert Lag().maximum == 0.0


def test_the_worst_counts() -> None:
    lag = Lag()
    for seconds in 0.1, 0.4, 0.2:
        lag.record(seconds)
    assert lag.maximum == 0.4


def test_who_comes_too_early_is_not_late() -> None:
    lag = Lag()
    lag.record(-0.001)
    assert lag.maximum == 0.0


def test_whoever_looks_in_time_sees_the_worst_and_later_it_is_forgotten(clock: Clock) -> None:
    # Wherever in a period of the memory it falls.
    for offset in 0.0, 1.0, WINDOW / 2, WINDOW - 0.01:
        lag = Lag()
        clock.now += offset
        lag.record(3.0)
        end = clock.now + WINDOW
        while clock.now < end:
            assert lag.maximum == 3.0
            clock.now += 0.25
            lag.record(0.0)
        while clock.now < end + WINDOW + 0.25:
            clock.now += 0.25
            lag.record(0.0)
        assert lag.maximum == 0.0


def test_a_long_block_is_remembered_like_a_short_one(clock: Clock) -> None:
    lag = Lag()
    clock.now += 4 * WINDOW
    lag.record(4 * WINDOW)
    clock.now += WINDOW
    lag.record(0.0)
    assert lag.maximum == 4 * WINDOW
