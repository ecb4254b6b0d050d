"""What the checks of all workers say about the resources of a service."""

import pytest
from runtime.process.readiness import WorkerChecks, resource_reasons, resource_statuses
from runtime.status import ResourceCheck, ResourceStatus

PASSING = ResourceCheck("orders", True, unchanged_for=600.04, checked_ago=1.26)
FAILING = ResourceCheck("orders", False, "OSError: gone", unchanged_for=12.34, checked_ago=0.82)
FAILING_LONGER = ResourceCheck("orders", False, "OSError: away", 99.0, checked_ago=3.0)
UNKNOWN = ResourceCheck("orders", False, unchanged_for=0.1)
CACHE_FAILING = ResourceCheck("cache", False, "TimeoutError", unchanged_for=5.0, checked_ago=1.0)
CACHE_PASSING = ResourceCheck("cache", True, unchanged_for=5.0, checked_ago=1.0)


def test_resource_that_passes_everywhere() -> None:
    older = ResourceCheck("orders", True, unchanged_for=1.0, checked_ago=4.0)
    [status] = resource_statuses([(0, [PASSING]), (1, [older])])
    assert status == ResourceStatus("orders", [], "", 0.0, 4.0)


def test_worker_in_which_a_resource_has_failed_longest_says_why() -> None:
    checks = [(0, [FAILING]), (1, [PASSING]), (2, [FAILING_LONGER]), (3, [UNKNOWN])]
    [status] = resource_statuses(checks)
    assert status == ResourceStatus("orders", [0, 2, 3], "OSError: away", 99.0, 3.0)


def test_each_resource_has_a_status() -> None:
    statuses = resource_statuses([(0, [FAILING, CACHE_PASSING]), (1, [PASSING, CACHE_FAILING])])
    assert [(status.resource, status.failing_workers) for status in statuses] == [
        ("orders", [0]),
        ("cache", [1]),
    ]


TIMES = "(for 12 s, checked 0.8 s ago)"


@pytest.mark.parametrize(
    ("workers", "reasons"),
    [
        ([], []),
        ([(0, [])], []),
        ([(0, [PASSING, CACHE_PASSING])], []),
        ([(0, [FAILING]), (1, [PASSING])], []),
        ([(0, [UNKNOWN]), (0, [PASSING])], []),  # a reload: both processes are worker 0
        ([(0, [UNKNOWN])], ["resource orders is not checked yet"]),
        ([(0, [FAILING]), (1, [UNKNOWN])], [f"resource orders fails: OSError: gone {TIMES}"]),
        (
            [(0, [FAILING, CACHE_PASSING]), (2, [PASSING, CACHE_FAILING])],
            [
                f"resource orders fails in worker 0: OSError: gone {TIMES}",
                "resource cache fails in worker 2: TimeoutError (for 5 s, checked 1.0 s ago)",
            ],
        ),
    ],
)
def test_reasons_if_no_worker_has_all_resources(workers: WorkerChecks, reasons: list[str]) -> None:
    assert resource_reasons(workers) == reasons
