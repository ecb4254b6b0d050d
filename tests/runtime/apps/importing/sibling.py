"""A module that other modules of the service import."""

raise AssertionError("imported, not read")
