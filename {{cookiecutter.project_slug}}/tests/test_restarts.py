from types import SimpleNamespace

import pytest

from {{ cookiecutter.package_name }}.runtime.workers import restarts
from {{ cookiecutter.package_name }}.runtime.workers.restarts import (
    ATTEMPTS,
    FIRST_DELAY,
    LONGEST_DELAY,
    QUICK,
    QUICK_DEATHS,
    Restarts,
)
from {{ cookiecutter.package_name }}.runtime.workers.scoreboard import ADMIN

from .test_systemd import Clock


class Chance:
    """Stands for chance, which a test takes away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factor = 1.0
        self.ranges: set[tuple[float, float]] = set()
        monkeypatch.setattr(restarts, "random", SimpleNamespace(uniform=self._uniform))

    def _uniform(self, low: float, high: float) -> float:
        self.ranges.add((low, high))
        return self.factor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, restarts)


@pytest.fixture(autouse=True)
def chance(monkeypatch: pytest.MonkeyPatch) -> Chance:
    return Chance(monkeypatch)


def die(restarts: Restarts, times: int, slot: int = 0, after: float = 0.0) -> None:
    for _ in range(times):
        restarts.died(slot, after)


def may_start(restarts: Restarts, *slots: int, serving: bool = True) -> list[bool]:
    return [restarts.may_start(slot, serving) for slot in slots]


@pytest.mark.parametrize("serving", [True, False])
def test_at_first_anybody_may_start(clock: Clock, serving: bool) -> None:
    assert may_start(Restarts(), ADMIN, 0, 1, serving=serving) == [True, True, True]
    assert not Restarts().hopeless


def test_who_cannot_start_is_tried_again_after_ever_longer_times(clock: Clock) -> None:
    restarts = Restarts()
    delays = [restarts.failed(0) for _ in range(20)]
    assert delays[:4] == [FIRST_DELAY * factor for factor in (1, 2, 4, 8)]
    assert delays[-1] == LONGEST_DELAY
    assert delays == sorted(delays)
    assert restarts.failed(1) == FIRST_DELAY


def test_it_waits_as_long_as_it_says(clock: Clock) -> None:
    restarts = Restarts()
    delay = restarts.failed(0)
    assert may_start(restarts, 0) == [False]
    clock.now += delay - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_the_times_are_not_the_same_for_all(chance: Chance) -> None:
    chance.factor = 1.1
    assert Restarts().failed(0) == FIRST_DELAY * 1.1
    assert chance.ranges == {(0.8, 1.2)}


def test_a_worker_that_cannot_start_holds_up_others_as_long_as_nobody_serves(
    clock: Clock,
) -> None:
    restarts = Restarts()
    delay = restarts.failed(0)
    assert may_start(restarts, ADMIN, 0, 1, serving=False) == [True, False, False]
    assert may_start(restarts, ADMIN, 0, 1, serving=True) == [True, False, True]
    clock.now += delay + 0.01
    assert may_start(restarts, ADMIN, 0, 1, serving=False) == [True, True, True]


def test_an_admin_process_that_cannot_start_holds_up_nobody(clock: Clock) -> None:
    restarts = Restarts()
    for _ in range(ATTEMPTS):
        restarts.failed(ADMIN)
    assert may_start(restarts, ADMIN, 0, 1, serving=False) == [False, True, True]
    assert not restarts.hopeless


@pytest.mark.parametrize("slots", [[0] * ATTEMPTS, [*range(ATTEMPTS)]])
def test_so_many_failures_are_hopeless(clock: Clock, slots: list[int]) -> None:
    restarts = Restarts()
    for slot in slots[1:]:
        restarts.failed(slot)
    assert not restarts.hopeless
    restarts.failed(slots[0])
    assert restarts.hopeless


def test_a_success_gives_new_hope(clock: Clock) -> None:
    restarts = Restarts()
    for _ in range(ATTEMPTS):
        restarts.failed(0)
    restarts.succeeded(1)
    assert restarts.hopeless
    restarts.succeeded(0)
    assert not restarts.hopeless
    assert restarts.failed(0) == FIRST_DELAY


def test_in_a_hurry_it_waits_no_longer(clock: Clock) -> None:
    restarts = Restarts()
    restarts.failed(0)
    restarts.hurry()
    assert may_start(restarts, 0, 1, serving=False) == [True, True]
    assert may_start(restarts, 0, 1, serving=True) == [True, True]


def test_who_was_ready_is_replaced_at_once(clock: Clock) -> None:
    restarts = Restarts()
    die(restarts, QUICK_DEATHS)
    assert may_start(restarts, 0) == [True]
    assert not restarts.hopeless


def test_a_death_is_no_reason_to_hold_up_others(clock: Clock) -> None:
    restarts = Restarts()
    restarts.failed(1)
    die(restarts, 1)
    assert may_start(restarts, 0, 1, serving=False) == [True, False]


def test_who_dies_again_and_again_must_wait_ever_longer(clock: Clock) -> None:
    restarts = Restarts()
    die(restarts, QUICK_DEATHS + 1)
    assert may_start(restarts, 0, 1) == [False, True]
    clock.now += FIRST_DELAY
    assert may_start(restarts, 0) == [True]
    die(restarts, 1)
    clock.now += 2 * FIRST_DELAY - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_after_many_deaths_it_waits_the_longest_time(clock: Clock) -> None:
    restarts = Restarts()
    die(restarts, 5000)
    clock.now += LONGEST_DELAY - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_who_lived_longer_begins_anew(clock: Clock) -> None:
    restarts = Restarts()
    die(restarts, QUICK_DEATHS)
    die(restarts, 1, after=QUICK)
    die(restarts, QUICK_DEATHS, after=QUICK - 0.1)
    assert may_start(restarts, 0) == [True]
    die(restarts, 1)
    assert may_start(restarts, 0) == [False]


def test_each_slot_has_its_own_count(clock: Clock) -> None:
    restarts = Restarts()
    die(restarts, QUICK_DEATHS, slot=0)
    die(restarts, QUICK_DEATHS, slot=1)
    assert may_start(restarts, 0, 1) == [True, True]
