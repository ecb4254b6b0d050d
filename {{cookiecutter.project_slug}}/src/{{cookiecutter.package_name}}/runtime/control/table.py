"""The status of a service as a table for a person."""

from collections.abc import Callable, Mapping
from typing import Any

from ..readable import format_age, format_size

Status = Mapping[str, Any]

UNKNOWN = "-"
SEPARATOR = "  "


def format_status(status: Status) -> str:
    """Return the state of the service, and a line for each worker."""
    workers = status["workers"]
    codes = {_code(worker) for worker in workers} - {UNKNOWN}
    code = codes.pop() if len(codes) == 1 else status["version"]
    state = "ready" if status["ready"] else f"not ready: {', '.join(status['reasons'])}"
    columns = COLUMNS | ({"version": _code} if codes else {})
    rows = [list(columns)]
    rows += [[str(cell(worker)) for cell in columns.values()] for worker in workers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        SEPARATOR.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    title = f"{status['name']} {code}, pid {status['pid']}, up {format_age(status['age'])}: {state}"
    return "\n".join([title, "", *lines])


def _code(worker: Status) -> str:
    details = worker["details"]
    return " ".join(filter(None, (details["version"], details["revision"]))) or UNKNOWN


def _if_running(cell: Callable[[Status], object]) -> Callable[[Status], object]:
    return lambda worker: cell(worker) if worker["pid"] else UNKNOWN


COLUMNS: dict[str, Callable[[Status], object]] = {
    "worker": lambda worker: worker["worker"],
    "pid": _if_running(lambda worker: worker["pid"]),
    "state": lambda worker: worker["state"],
    "age": _if_running(lambda worker: format_age(worker["age"])),
    "requests": _if_running(lambda worker: worker["requests"]),
    "in flight": _if_running(lambda worker: worker["requests_in_flight"]),
    "lag": _if_running(lambda worker: f"{worker['event_loop_lag'] * 1000:.0f} ms"),
    "memory": lambda worker: format_size(worker["memory"]) if worker["memory"] else UNKNOWN,
    "restarts": lambda worker: worker["restarts"],
}
