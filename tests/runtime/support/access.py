"""The access lines in a log."""

from runtime.testing import Record


def access_lines(records: list[Record]) -> list[Record]:
    """Return the records of the access log."""
    return [record for record in records if record["logger"] == "access"]
