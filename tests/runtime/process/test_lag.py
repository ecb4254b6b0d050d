import pytest
from runtime.process import lag as lag_module
from runtime.process.lag import WINDOW, Lag

from ..support.clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, lag_module)


def test_initial_lag_is_zero() -> None:
    assert Lag().maximum == 0.0


def test_maximum_is_reported() -> None:
    lag = Lag()
    for seconds in 0.1, 0.4, 0.2:
        lag.record(seconds)
    assert lag.maximum == 0.4


def test_early_callback_is_no_lag() -> None:
    lag = Lag()
    lag.record(-0.001)
    assert lag.maximum == 0.0


@pytest.mark.parametrize("offset", [0.0, 1.0, WINDOW / 2, WINDOW - 0.01])
def test_peak_is_visible_for_one_to_two_windows(clock: FakeClock, offset: float) -> None:
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


def test_block_longer_than_the_window_is_visible_for_a_window(clock: FakeClock) -> None:
    lag = Lag()
    clock.now += 4 * WINDOW
    lag.record(4 * WINDOW)
    clock.now += WINDOW
    lag.record(0.0)
    assert lag.maximum == 4 * WINDOW
