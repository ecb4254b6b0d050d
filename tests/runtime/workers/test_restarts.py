"""The delays of restarts."""

from types import SimpleNamespace

import pytest
from runtime.status import ADMIN_SLOT
from runtime.workers import restarts
from runtime.workers.restarts import (
    CRASH_LOOP_COUNT,
    CRASH_LOOP_UPTIME,
    INITIAL_DELAY,
    MAX_ATTEMPTS,
    MAX_DELAY,
    RestartPolicy,
)

from tests.runtime.support.clock import FakeClock


class FakeJitter:
    """The factor of the delays, as a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factor = 1.0
        self.ranges: set[tuple[float, float]] = set()
        monkeypatch.setattr(restarts, "random", SimpleNamespace(uniform=self._uniform))

    def _uniform(self, low: float, high: float) -> float:
        self.ranges.add((low, high))
        return self.factor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch, restarts)


@pytest.fixture(autouse=True)
def jitter(monkeypatch: pytest.MonkeyPatch) -> FakeJitter:
    return FakeJitter(monkeypatch)


def crash(policy: RestartPolicy, times: int, slot: int = 0, uptime: float = 0.0) -> None:
    for _ in range(times):
        policy.crashed(slot, uptime)


def fail(policy: RestartPolicy, slot: int) -> float:
    return policy.failed(slot, has_ready_worker=False)


def may_start(policy: RestartPolicy, *slots: int, has_ready_worker: bool = True) -> list[bool]:
    return [policy.may_start(slot, has_ready_worker) for slot in slots]


@pytest.mark.parametrize("has_ready_worker", [True, False])
def test_start_is_allowed_initially(clock: FakeClock, has_ready_worker: bool) -> None:
    assert may_start(RestartPolicy(), ADMIN_SLOT, 0, 1, has_ready_worker=has_ready_worker) == [
        True,
        True,
        True,
    ]
    assert not RestartPolicy().exhausted


def test_delay_grows_with_each_failed_start(clock: FakeClock) -> None:
    policy = RestartPolicy()
    delays = [fail(policy, 0) for _ in range(20)]
    assert delays[:4] == [INITIAL_DELAY * factor for factor in (1, 2, 4, 8)]
    assert delays[-1] == MAX_DELAY
    assert delays == sorted(delays)
    assert fail(policy, 1) == INITIAL_DELAY


def test_start_is_allowed_after_the_delay(clock: FakeClock) -> None:
    policy = RestartPolicy()
    delay = fail(policy, 0)
    assert may_start(policy, 0) == [False]
    clock.now += delay - 0.01
    assert may_start(policy, 0) == [False]
    clock.now += 0.02
    assert may_start(policy, 0) == [True]


def test_delays_have_jitter(jitter: FakeJitter) -> None:
    jitter.factor = 1.1
    assert fail(RestartPolicy(), 0) == INITIAL_DELAY * 1.1
    assert jitter.ranges == {(0.8, 1.2)}


def test_failed_start_delays_all_workers_while_none_is_ready(
    clock: FakeClock,
) -> None:
    policy = RestartPolicy()
    delay = fail(policy, 0)
    assert may_start(policy, ADMIN_SLOT, 0, 1, has_ready_worker=False) == [True, False, False]
    assert may_start(policy, ADMIN_SLOT, 0, 1, has_ready_worker=True) == [True, False, True]
    clock.now += delay + 0.01
    assert may_start(policy, ADMIN_SLOT, 0, 1, has_ready_worker=False) == [True, True, True]


def test_failed_start_of_the_admin_process_delays_no_worker(clock: FakeClock) -> None:
    policy = RestartPolicy()
    for _ in range(MAX_ATTEMPTS):
        fail(policy, ADMIN_SLOT)
    assert may_start(policy, ADMIN_SLOT, 0, 1, has_ready_worker=False) == [False, True, True]
    assert not policy.exhausted


@pytest.mark.parametrize("slots", [[0] * MAX_ATTEMPTS, [*range(MAX_ATTEMPTS)]])
def test_attempts_are_exhausted_after_a_number_of_failures(
    clock: FakeClock, slots: list[int]
) -> None:
    policy = RestartPolicy()
    for slot in slots[1:]:
        fail(policy, slot)
    assert not policy.exhausted
    fail(policy, slots[0])
    assert policy.exhausted


def test_successful_start_of_a_worker_resets_attempts_and_its_own_delay(clock: FakeClock) -> None:
    policy = RestartPolicy()
    for _ in range(MAX_ATTEMPTS):
        fail(policy, 0)
    policy.succeeded(ADMIN_SLOT)
    assert policy.exhausted
    policy.succeeded(1)
    assert not policy.exhausted
    assert may_start(policy, 0, 1, has_ready_worker=False) == [False, True]
    assert fail(policy, 0) == MAX_DELAY
    policy.succeeded(0)
    assert fail(policy, 0) == INITIAL_DELAY


def test_failures_beside_a_ready_worker_use_up_no_attempt(clock: FakeClock) -> None:
    policy = RestartPolicy()
    for _ in range(2 * MAX_ATTEMPTS):
        policy.failed(1, has_ready_worker=True)
    # Then there is none, whether it has crashed or was asked to exit.
    for _ in range(MAX_ATTEMPTS):
        assert not policy.exhausted
        assert may_start(policy, 0, has_ready_worker=False) == [True]
        fail(policy, 0)
        clock.now += MAX_DELAY
    assert policy.exhausted


def test_reset_delays_allows_every_start(clock: FakeClock) -> None:
    policy = RestartPolicy()
    fail(policy, 0)
    policy.reset_delays()
    assert may_start(policy, 0, 1, has_ready_worker=False) == [True, True]
    assert may_start(policy, 0, 1, has_ready_worker=True) == [True, True]


def test_crashed_worker_may_be_replaced_immediately(clock: FakeClock) -> None:
    policy = RestartPolicy()
    crash(policy, CRASH_LOOP_COUNT)
    assert may_start(policy, 0) == [True]
    assert not policy.exhausted


def test_crash_delays_no_other_worker(clock: FakeClock) -> None:
    policy = RestartPolicy()
    policy.failed(1, has_ready_worker=True)
    crash(policy, 1)
    assert may_start(policy, 0, 1, has_ready_worker=False) == [True, False]


def test_delay_grows_in_a_crash_loop(clock: FakeClock) -> None:
    policy = RestartPolicy()
    crash(policy, CRASH_LOOP_COUNT + 1)
    assert may_start(policy, 0, 1) == [False, True]
    clock.now += INITIAL_DELAY
    assert may_start(policy, 0) == [True]
    crash(policy, 1)
    clock.now += 2 * INITIAL_DELAY - 0.01
    assert may_start(policy, 0) == [False]
    clock.now += 0.02
    assert may_start(policy, 0) == [True]


def test_delay_of_a_crash_loop_is_limited(clock: FakeClock) -> None:
    policy = RestartPolicy()
    crash(policy, 5000)
    clock.now += MAX_DELAY - 0.01
    assert may_start(policy, 0) == [False]
    clock.now += 0.02
    assert may_start(policy, 0) == [True]


def test_longer_uptime_ends_a_crash_loop(clock: FakeClock) -> None:
    policy = RestartPolicy()
    crash(policy, CRASH_LOOP_COUNT)
    crash(policy, 1, uptime=CRASH_LOOP_UPTIME)
    crash(policy, CRASH_LOOP_COUNT, uptime=CRASH_LOOP_UPTIME - 0.1)
    assert may_start(policy, 0) == [True]
    crash(policy, 1)
    assert may_start(policy, 0) == [False]


def test_crashes_are_counted_for_each_slot(clock: FakeClock) -> None:
    policy = RestartPolicy()
    crash(policy, CRASH_LOOP_COUNT, slot=0)
    crash(policy, CRASH_LOOP_COUNT, slot=1)
    assert may_start(policy, 0, 1) == [True, True]
