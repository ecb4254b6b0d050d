from types import SimpleNamespace

import pytest

from runtime.workers import restarts
from runtime.workers.restarts import (
    MAX_ATTEMPTS,
    INITIAL_DELAY,
    MAX_DELAY,
    CRASH_LOOP_UPTIME,
    CRASH_LOOP_COUNT,
    RestartPolicy,
)
from runtime.workers.scoreboard import ADMIN_SLOT

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


def die(restarts: RestartPolicy, times: int, slot: int = 0, after: float = 0.0) -> None:
    for _ in range(times):
        restarts.crashed(slot, after)


def may_start(restarts: RestartPolicy, *slots: int, serving: bool = True) -> list[bool]:
    return [restarts.may_start(slot, serving) for slot in slots]


@pytest.mark.parametrize("serving", [True, False])
def test_at_first_anybody_may_start(clock: Clock, serving: bool) -> None:
    assert may_start(RestartPolicy(), ADMIN_SLOT, 0, 1, serving=serving) == [True, True, True]
    assert not RestartPolicy().exhausted


def test_who_cannot_start_is_tried_again_after_ever_longer_times(clock: Clock) -> None:
    restarts = RestartPolicy()
    delays = [restarts.failed(0) for _ in range(20)]
    assert delays[:4] == [INITIAL_DELAY * factor for factor in (1, 2, 4, 8)]
    assert delays[-1] == MAX_DELAY
    assert delays == sorted(delays)
    assert restarts.failed(1) == INITIAL_DELAY


def test_it_waits_as_long_as_it_says(clock: Clock) -> None:
    restarts = RestartPolicy()
    delay = restarts.failed(0)
    assert may_start(restarts, 0) == [False]
    clock.now += delay - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_the_times_are_not_the_same_for_all(chance: Chance) -> None:
    chance.factor = 1.1
    assert RestartPolicy().failed(0) == INITIAL_DELAY * 1.1
    assert chance.ranges == {(0.8, 1.2)}


def test_a_worker_that_cannot_start_holds_up_others_as_long_as_nobody_serves(
    clock: Clock,
) -> None:
    restarts = RestartPolicy()
    delay = restarts.failed(0)
    assert may_start(restarts, ADMIN_SLOT, 0, 1, serving=False) == [True, False, False]
    assert may_start(restarts, ADMIN_SLOT, 0, 1, serving=True) == [True, False, True]
    clock.now += delay + 0.01
    assert may_start(restarts, ADMIN_SLOT, 0, 1, serving=False) == [True, True, True]


def test_an_admin_process_that_cannot_start_holds_up_nobody(clock: Clock) -> None:
    restarts = RestartPolicy()
    for _ in range(MAX_ATTEMPTS):
        restarts.failed(ADMIN_SLOT)
    assert may_start(restarts, ADMIN_SLOT, 0, 1, serving=False) == [False, True, True]
    assert not restarts.exhausted


@pytest.mark.parametrize("slots", [[0] * MAX_ATTEMPTS, [*range(MAX_ATTEMPTS)]])
def test_so_many_failures_are_hopeless(clock: Clock, slots: list[int]) -> None:
    restarts = RestartPolicy()
    for slot in slots[1:]:
        restarts.failed(slot)
    assert not restarts.exhausted
    restarts.failed(slots[0])
    assert restarts.exhausted


def test_a_success_gives_new_hope(clock: Clock) -> None:
    restarts = RestartPolicy()
    for _ in range(MAX_ATTEMPTS):
        restarts.failed(0)
    restarts.succeeded(1)
    assert restarts.exhausted
    restarts.succeeded(0)
    assert not restarts.exhausted
    assert restarts.failed(0) == INITIAL_DELAY


def test_in_a_hurry_it_waits_no_longer(clock: Clock) -> None:
    restarts = RestartPolicy()
    restarts.failed(0)
    restarts.reset_delays()
    assert may_start(restarts, 0, 1, serving=False) == [True, True]
    assert may_start(restarts, 0, 1, serving=True) == [True, True]


def test_who_was_ready_is_replaced_at_once(clock: Clock) -> None:
    restarts = RestartPolicy()
    die(restarts, CRASH_LOOP_COUNT)
    assert may_start(restarts, 0) == [True]
    assert not restarts.exhausted


def test_a_death_is_no_reason_to_hold_up_others(clock: Clock) -> None:
    restarts = RestartPolicy()
    restarts.failed(1)
    die(restarts, 1)
    assert may_start(restarts, 0, 1, serving=False) == [True, False]


def test_who_dies_again_and_again_must_wait_ever_longer(clock: Clock) -> None:
    restarts = RestartPolicy()
    die(restarts, CRASH_LOOP_COUNT + 1)
    assert may_start(restarts, 0, 1) == [False, True]
    clock.now += INITIAL_DELAY
    assert may_start(restarts, 0) == [True]
    die(restarts, 1)
    clock.now += 2 * INITIAL_DELAY - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_after_many_deaths_it_waits_the_longest_time(clock: Clock) -> None:
    restarts = RestartPolicy()
    die(restarts, 5000)
    clock.now += MAX_DELAY - 0.01
    assert may_start(restarts, 0) == [False]
    clock.now += 0.02
    assert may_start(restarts, 0) == [True]


def test_who_lived_longer_begins_anew(clock: Clock) -> None:
    restarts = RestartPolicy()
    die(restarts, CRASH_LOOP_COUNT)
    die(restarts, 1, after=CRASH_LOOP_UPTIME)
    die(restarts, CRASH_LOOP_COUNT, after=CRASH_LOOP_UPTIME - 0.1)
    assert may_start(restarts, 0) == [True]
    die(restarts, 1)
    assert may_start(restarts, 0) == [False]


def test_each_slot_has_its_own_count(clock: Clock) -> None:
    restarts = RestartPolicy()
    die(restarts, CRASH_LOOP_COUNT, slot=0)
    die(restarts, CRASH_LOOP_COUNT, slot=1)
    assert may_start(restarts, 0, 1) == [True, True]
