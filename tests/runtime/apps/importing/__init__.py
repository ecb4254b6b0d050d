"""A service that is only read: a test looks at what its modules import from elsewhere."""

raise AssertionError("imported, not read")
