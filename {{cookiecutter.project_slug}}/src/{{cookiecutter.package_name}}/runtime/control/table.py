"""The status of a service as a table for a person."""

from collections.abc import Callable, Mapping
from typing import Any

from ..readable import format_age, format_size

Status = Mapping[str, Any]

UNKNOWN = "-"
SEPARATOR = "  "
OPERATIONS = {
    "reload": "reloading",
    "renewal": "renewing a worker",
    "resize": "changing the number of workers",
}
"""What is going on, by the name of the operation."""


def format_status(status: Status) -> str:
    """Return the state of the service, and a line for each worker."""
    workers = status["workers"]
    has_one_code = status["version"] is not None and status["revision"] is not None
    state = "ready" if status["ready"] else f"not ready: {', '.join(status['reasons'])}"
    columns = dict(COLUMNS)
    if not has_one_code:
        columns["version"] = lambda worker: _code(worker["details"])
    if any(_failing(worker) != UNKNOWN for worker in workers):
        columns["failing"] = _failing
    rows = [list(columns)]
    rows += [[str(cell(worker)) for cell in columns.values()] for worker in workers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        SEPARATOR.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    name = f"{status['name']} {_code(status)}" if has_one_code else status["name"]
    title = f"{name}, pid {status['pid']}, up {format_age(status['age'])}: {state}"
    if status["operation"]:
        title += f", {OPERATIONS[status['operation']]} ({status['progress']})"
    return "\n".join([title, "", *lines])


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal might obey, such as ``\\x1b``."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def _code(values: Status) -> str:
    revision = f" ({values['revision']})" if values["revision"] else ""
    return f"{values['version']}{revision}" if values["version"] else UNKNOWN


def _failing(worker: Status) -> str:
    """Return the resources whose checks fail."""
    checks = worker["details"]["checks"]
    return ", ".join(check["resource"] for check in checks if not check["passing"]) or UNKNOWN


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
