"""Stand-ins for parts of a service."""

from runtime import ServiceInfo
from runtime.monitor.statistics import RequestStatistics
from runtime.status import ResourceStatus, WorkerStatus

ORDERS = ServiceInfo("orders", "1.0")


class FakeStatus:
    """The status of a service, as a test sets it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.workers: list[WorkerStatus] = []
        self.resources: list[ResourceStatus] = []
        self.counted = RequestStatistics()

    def not_ready_reasons(self) -> list[str]:
        return self.reasons

    def worker_statuses(self) -> list[WorkerStatus]:
        return self.workers

    def resource_statuses(self) -> list[ResourceStatus]:
        return self.resources

    def statistics(self) -> list[int]:
        return list(self.counted.cells)
