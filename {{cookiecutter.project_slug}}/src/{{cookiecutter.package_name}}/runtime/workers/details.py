"""The details of a process, as bytes in shared memory."""

import dataclasses
import json
import time

from ..status import ProcessDetails, ResourceCheck


def encode(details: ProcessDetails, capacity: int) -> bytes:
    """Return details as bytes, `capacity` at most: checks that do not fit are left out.

    Those that fail come first.
    """
    text = _dump(details)
    checks = tuple(sorted(details.checks, key=lambda check: check.passing))
    while checks and len(text) > capacity:
        checks = checks[: len(checks) // 2]
        text = _dump(dataclasses.replace(details, checks=checks))
    return text


def decode(text: bytes) -> ProcessDetails:
    """Return details, with times until now. No text is no details."""
    if not text:
        return ProcessDetails()
    fields = json.loads(text)
    elapsed = time.monotonic() - fields.pop("written")
    checks = (_later(ResourceCheck(**check), elapsed) for check in fields.pop("checks"))
    return ProcessDetails(**fields, checks=tuple(checks))


def _dump(details: ProcessDetails) -> bytes:
    # All processes of a machine have the same monotonic clock.
    fields = dataclasses.asdict(details) | {"written": time.monotonic()}
    return json.dumps(fields).encode()


def _later(check: ResourceCheck, seconds: float) -> ResourceCheck:
    return dataclasses.replace(
        check,
        unchanged_for=check.unchanged_for + seconds,
        checked_ago=None if check.checked_ago is None else check.checked_ago + seconds,
    )
