"""Whether the resources of a service work, from the checks of all its workers."""

from collections.abc import Sequence

from ..readable import format_age
from ..status import ResourceCheck, ResourceStatus

WorkerChecks = Sequence[tuple[int, Sequence[ResourceCheck]]]
"""The checks of each process that responds, with the number of its worker."""


def resource_statuses(workers: WorkerChecks) -> list[ResourceStatus]:
    """Return the status of each resource."""
    found: dict[str, list[tuple[int, ResourceCheck]]] = {}
    for worker, checks in workers:
        for check in checks:
            found.setdefault(check.resource, []).append((worker, check))
    return [_resource_status(resource, checks) for resource, checks in found.items()]


def resource_reasons(workers: WorkerChecks) -> list[str]:
    """Return why the service is not ready: in no worker do all resources work."""
    if any(all(check.passing for check in checks) for _, checks in workers):
        return []
    numbers = {worker for worker, _ in workers}
    failing = [status for status in resource_statuses(workers) if status.failing_workers]
    return [_reason(status, numbers) for status in failing]


def _resource_status(resource: str, checks: Sequence[tuple[int, ResourceCheck]]) -> ResourceStatus:
    failing = [(worker, check) for worker, check in checks if not check.passing]
    worst = max((check for _, check in failing or checks), key=_gravity)
    return ResourceStatus(
        resource,
        failing_workers=sorted({worker for worker, _ in failing}),
        error=worst.error,
        failing_for=round(worst.unchanged_for, 1) if failing else 0.0,
        checked_ago=None if worst.checked_ago is None else round(worst.checked_ago, 1),
    )


def _gravity(check: ResourceCheck) -> tuple[bool, float]:
    """Order checks: known before unknown results, then by how long it fails, or how old it is."""
    seconds = check.checked_ago if check.passing else check.unchanged_for
    return check.checked_ago is not None, seconds or 0.0


def _reason(status: ResourceStatus, workers: set[int]) -> str:
    if status.checked_ago is None:
        return f"resource {status.resource} is not checked yet"
    failing = ", ".join(map(str, status.failing_workers))
    where = "" if workers == {*status.failing_workers} else f" in worker {failing}"
    times = f"for {format_age(status.failing_for)}, checked {status.checked_ago:.1f} s ago"
    return f"resource {status.resource} fails{where}: {status.error} ({times})"
